//! Wills: published by the same way as any message when a connection ends without DISCONNECT. That of a session that is
//! kept lies with the session, and any pod publishes it when it is due.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::MqttEndpoint;
use super::codec::{Properties, Property, Will};
use super::headers::{self, Said};
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal, SenderHeaders};
use crate::ledger::{Account, Ending, Entry};
use crate::store::{MessageId, Outcome};

/// The form of [`StoredWill::to_bytes`]. A pod of another version leaves what it cannot read to one that can.
const FORM: u8 = 1;

/// A Will, kept until the connection ends or longer.
#[derive(Debug)]
pub(super) struct StoredWill {
    /// Under which it is published, by whomever and however often.
    pub(super) id: Box<str>,
    pub(super) topic: Box<str>,
    payload: Box<[u8]>,
    /// As they came, without their length.
    properties: Box<[u8]>,
    retain: bool,
    qos: u8,
}

/// Whose Will it is.
#[derive(Clone, Debug)]
pub(super) struct Testator {
    pub(super) client_id: Box<str>,
    /// Its IP address.
    pub(super) source: Box<str>,
}

impl StoredWill {
    pub(super) fn new(will: &Will<'_>) -> Self {
        Self {
            id: MessageId::generate().to_string().into(),
            topic: will.topic.into(),
            payload: will.payload.into(),
            properties: will.properties.bytes().into(),
            retain: will.retain,
            qos: will.qos,
        }
    }

    /// Will Delay Interval (MQTT 5 §3.1.3.2.2).
    pub(super) fn delay(&self) -> Duration {
        let seconds = Properties::kept(&self.properties).iter().find_map(|property| match property {
            Property::WillDelayInterval(seconds) => Some(seconds),
            _ => None,
        });
        Duration::from_secs(seconds.unwrap_or(0).into())
    }

    /// With all that is needed to publish it elsewhere; [`read`](Self::read) reads it.
    pub(super) fn to_bytes(&self, endpoint: &str, testator: &Testator) -> Box<[u8]> {
        let parts: [&[u8]; 6] = [
            endpoint.as_bytes(),
            testator.client_id.as_bytes(),
            testator.source.as_bytes(),
            self.topic.as_bytes(),
            &self.properties,
            &self.payload,
        ];
        let length = parts.iter().map(|part| 4 + part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(2 + length);
        bytes.extend([FORM, u8::from(self.retain) << 2 | self.qos]);
        for part in parts {
            bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(part);
        }
        bytes.into()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote: the name of the endpoint, the Will, and whose it is.
    pub(super) fn read<'b>(id: &str, bytes: &'b [u8]) -> Option<(&'b str, Self, Testator)> {
        let (&[FORM, flags], mut rest) = bytes.split_first_chunk::<2>()? else { return None };
        let mut next = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (part, after) = after.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
            rest = after;
            Some(part)
        };
        let text = |part: Option<&'b [u8]>| std::str::from_utf8(part?).ok();
        let endpoint = text(next())?;
        let testator = Testator { client_id: text(next())?.into(), source: text(next())?.into() };
        let will = Self {
            id: id.into(),
            topic: text(next())?.into(),
            properties: next()?.into(),
            payload: next()?.into(),
            retain: flags & 4 != 0,
            qos: flags & 3,
        };
        Some((endpoint, will, testator))
    }

    /// Publishes the Will and books how it ended. There is nobody to answer: what Kafka does not take is given up, and
    /// counted. True if it is persisted, or refused for good.
    pub(super) async fn publish(
        &self,
        endpoint: &Arc<MqttEndpoint>,
        account: &Account,
        testator: &Testator,
    ) -> bool {
        let intake = &endpoint.intake;
        let (key, lane) = intake.open_lane(account);
        let mut entry = Entry::default();
        entry.receive();
        let properties = Properties::kept(&self.properties);
        let said = Said::of(properties);
        let arrival = Arrival {
            address: &self.topic,
            subject: &self.topic,
            payload: &self.payload,
            id: said.id.or(Some(&self.id)),
            number: None,
            sender: Sender { client_id: &testator.client_id, source: &testator.source, identity: None },
            arrived: Instant::now(),
            // Asked at CONNECT.
            allowed: true,
            tag: 0,
            ticket: 0,
            dead_letter: true,
        };
        // Its life begins with its publication (MQTT 5 §3.1.3.2.4).
        let headers =
            |headers: &mut SenderHeaders<'_>| headers::write(self.retain, properties, said.expiry, headers);
        let given_up = if self.qos == 0 { Ending::Dropped } else { Ending::Abandoned };
        let mut ending = given_up;
        match intake.admit(key, &lane, &arrival, headers) {
            Ok(()) => {
                entry.occupy();
                account.book(&mut entry);
                let reported = std::future::poll_fn(|context| lane.poll_front(context));
                let _ = tokio::time::timeout(endpoint.ack_timeout, reported).await;
                lane.drain(|slot, outcome| {
                    ending = match outcome {
                        Outcome::Persisted(_) if slot.back.dead_letter => Ending::DeadLettered,
                        Outcome::Persisted(_) => Ending::Acknowledged,
                        Outcome::Transient(_) => given_up,
                        Outcome::Refused => Ending::Refused,
                    };
                    ControlFlow::Continue(())
                });
                entry.leave(1);
            }
            Err(Refusal::Transient(cause)) => {
                tracing::debug!(reason = %cause, "a Will could not be published");
            }
            Err(_) => ending = Ending::Refused,
        }
        entry.end(ending, 1);
        intake.store().lanes().close(key, &lane);
        account.book(&mut entry);
        ending != given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_will_is_read_as_it_was_written() {
        let will = StoredWill {
            id: "id".into(),
            topic: "a/b".into(),
            payload: Box::from(*b"\x00gone"),
            properties: Box::from(*b"\x18\x00\x00\x00\x05"),
            retain: true,
            qos: 2,
        };
        let testator = Testator { client_id: "c".into(), source: "::1".into() };
        let bytes = will.to_bytes("mqtt", &testator);
        let (endpoint, read, whose) = StoredWill::read("id", &bytes).unwrap();
        assert_eq!((endpoint, &*whose.client_id, &*whose.source), ("mqtt", "c", "::1"));
        assert_eq!((&*read.topic, &*read.payload, read.retain, read.qos), ("a/b", &b"\x00gone"[..], true, 2));
        assert_eq!(read.delay(), Duration::from_secs(5));
        assert_eq!(read.to_bytes("mqtt", &testator), bytes);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes: Vec<u8>) {
            let _ = StoredWill::read("id", &bytes);
        }
    }
}

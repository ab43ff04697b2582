//! A PUBLISH on its way to intake, and what is answered if it does not get there.

use std::time::Instant;

use super::client::Client;
use super::codec::{Publish, Reason, Version};
use super::end::End;
use super::headers::{self, Said};
use super::inbound::Flow;
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal, SenderHeaders};
use crate::ledger::Ending;
use crate::store::kafka::Return;
use crate::store::{MessageId, Outcome, TransientCause};

impl Client {
    /// Takes a PUBLISH that came at `came`, or leaves it where it is until there is room.
    pub(super) fn publish(
        &mut self,
        publish: &Publish<'_>,
        came: Instant,
        now: Instant,
    ) -> Result<Flow, End> {
        let Self { endpoint, source, key, lane, entry, session, identity, kept, unacknowledged, .. } = self;
        let Some(session) = session else {
            return Err(End::silent("PUBLISH before CONNECT"));
        };
        if publish.qos > endpoint.config.maximum_qos {
            return Err(End::told(Reason::QosNotSupported, "PUBLISH at a QoS that is not served"));
        }
        let receive_maximum = usize::from(endpoint.config.receive_maximum);
        let (slots, bytes) = lane.load();
        if publish.qos > 0 && session.version == Version::V5 {
            if *unacknowledged >= receive_maximum {
                let what = "more PUBLISH packets in flight than Receive Maximum";
                return Err(End::told(Reason::ReceiveMaximumExceeded, what));
            }
        } else if slots >= receive_maximum {
            return Ok(Flow::Full);
        }
        if bytes >= endpoint.limits.max_in_flight_bytes_per_connection {
            return Ok(Flow::Full);
        }
        let said = Said::of(publish.properties);
        let version = session.version;
        let (topic, client_id) =
            session.topic(publish.topic, said.alias, |bytes| Self::keep_more(kept, bytes))?;
        let arrival = Arrival {
            address: topic,
            subject: topic,
            payload: publish.payload,
            id: said.id,
            sender: Sender { client_id, source, identity: identity.as_deref() },
            arrived: now,
            tag: publish.packet_id.map_or(0, std::num::NonZero::get),
            dead_letter: true,
        };
        let waited = now.saturating_duration_since(came);
        let (outcome, reason) = match said.unfit(publish.payload, waited) {
            Some(reason) => (Outcome::Refused, reason),
            None => {
                let left = said.left(waited);
                let headers = |headers: &mut SenderHeaders<'_>| {
                    headers::write(publish.retain, publish.properties, left, headers);
                };
                match endpoint.intake.admit(*key, lane, &arrival, headers) {
                    Ok(()) => {
                        entry.receive();
                        entry.occupy();
                        *unacknowledged += usize::from(arrival.tag != 0);
                        return Ok(Flow::Taken);
                    }
                    Err(Refusal::Transient(TransientCause::BudgetExhausted)) => return Ok(Flow::Full),
                    Err(refusal) => verdict(&refusal),
                }
            }
        };
        entry.receive();
        if arrival.tag == 0 {
            entry.end(Ending::Dropped, 1);
            return Ok(Flow::Taken);
        }
        entry.occupy();
        *unacknowledged += 1;
        // A refused message gets its turn among the answers.
        let id = MessageId::Sender(Box::default());
        let (tag, arrived) = (arrival.tag, arrival.arrived);
        lane.decide(Return { id, tag, refusal: reason as u8, dead_letter: false, arrived }, outcome);
        // What ends the connection also ends the reading: nothing behind it may be taken.
        let ends = matches!(outcome, Outcome::Transient(_)) || version == Version::V3;
        Ok(if ends { Flow::Stop } else { Flow::Taken })
    }
}

/// What a refusal means for the sender, by the table of the contract.
fn verdict(refusal: &Refusal) -> (Outcome, Reason) {
    match refusal {
        Refusal::Transient(cause) => (Outcome::Transient(*cause), Reason::ServerBusy),
        Refusal::NotAllowed => (Outcome::Refused, Reason::NotAuthorized),
        Refusal::NoRoute | Refusal::UncleanCapture => (Outcome::Refused, Reason::TopicNameInvalid),
        Refusal::Schema(_) => (Outcome::Refused, Reason::PayloadFormatInvalid),
        Refusal::TooLarge { .. } => (Outcome::Refused, Reason::ImplementationSpecific),
    }
}

//! Wills: published by the same way as any message when a connection ends without DISCONNECT.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::MqttEndpoint;
use super::codec::{Properties, Will};
use super::headers::{self, Said};
use crate::auth::Identity;
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal, SenderHeaders};
use crate::ledger::{Account, Ending, Entry};
use crate::store::Outcome;

/// A Will, kept until the connection ends.
#[derive(Debug)]
pub(super) struct StoredWill {
    topic: String,
    payload: Vec<u8>,
    /// As they came, without their length.
    properties: Box<[u8]>,
    retain: bool,
    qos: u8,
}

impl StoredWill {
    pub(super) fn new(will: &Will<'_>) -> Self {
        Self {
            topic: will.topic.to_owned(),
            payload: will.payload.to_vec(),
            properties: will.properties.bytes().into(),
            retain: will.retain,
            qos: will.qos,
        }
    }

    /// Where it is sent.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Publishes the Will and books how it ended. There is nobody to answer: what Kafka does not take is given up, and
    /// counted.
    pub(super) async fn publish(
        self: Box<Self>,
        endpoint: Arc<MqttEndpoint>,
        account: Account,
        client_id: Box<str>,
        source: String,
        identity: Option<Arc<Identity>>,
    ) {
        let intake = &endpoint.intake;
        let (key, lane) = intake.open_lane(&account);
        let mut entry = Entry::default();
        entry.receive();
        let properties = Properties::kept(&self.properties);
        let said = Said::of(properties);
        let arrival = Arrival {
            address: &self.topic,
            subject: &self.topic,
            payload: &self.payload,
            id: said.id,
            sender: Sender { client_id: &client_id, source: &source, identity: identity.as_deref() },
            arrived: Instant::now(),
            tag: 0,
            dead_letter: true,
        };
        // Its life begins with its publication (MQTT 5 §3.1.3.2.4).
        let headers =
            |headers: &mut SenderHeaders<'_>| headers::write(self.retain, properties, said.expiry, headers);
        let given_up = if self.qos == 0 { Ending::Dropped } else { Ending::Abandoned };
        match intake.admit(key, &lane, &arrival, headers) {
            Ok(()) => {
                entry.occupy();
                account.book(&mut entry);
                let reported = std::future::poll_fn(|context| lane.poll_front(context));
                let _ = tokio::time::timeout(endpoint.ack_timeout, reported).await;
                let mut ending = given_up;
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
                entry.end(ending, 1);
            }
            Err(Refusal::Transient(cause)) => {
                tracing::debug!(reason = %cause, "a Will could not be published");
                entry.end(given_up, 1);
            }
            Err(_) => entry.end(Ending::Refused, 1),
        }
        intake.store().lanes().close(key, &lane);
        account.book(&mut entry);
    }
}

//! Wills: published by the same way as any message when a connection ends without DISCONNECT.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::MqttEndpoint;
use super::codec::{Property, Will};
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal, SenderHeaders};
use crate::ledger::{Account, Ending, Entry};
use crate::store::Outcome;

/// A Will, kept until the connection ends.
#[derive(Debug)]
pub(super) struct StoredWill {
    topic: String,
    payload: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    content_type: Option<String>,
    qos: u8,
}

impl StoredWill {
    pub(super) fn new(will: &Will<'_>) -> Self {
        let mut headers = Vec::new();
        let mut content_type = None;
        if will.retain {
            headers.push(("mqtt-retain".to_owned(), b"1".to_vec()));
        }
        for property in will.properties.iter() {
            match property {
                Property::User(name, value) => headers.push((name.to_owned(), value.as_bytes().to_vec())),
                Property::ContentType(value) => content_type = Some(value.to_owned()),
                _ => {}
            }
        }
        Self {
            topic: will.topic.to_owned(),
            payload: will.payload.to_vec(),
            headers,
            content_type,
            qos: will.qos,
        }
    }

    /// Publishes the Will and books how it ended. There is nobody to answer: what Kafka does not take is given up, and
    /// counted.
    pub(super) async fn publish(
        self: Box<Self>,
        endpoint: Arc<MqttEndpoint>,
        account: Account,
        client_id: Box<str>,
        source: String,
    ) {
        let intake = &endpoint.intake;
        let (key, lane) = intake.open_lane(&account);
        let mut entry = Entry::default();
        entry.receive();
        let arrival = Arrival {
            address: &self.topic,
            subject: &self.topic,
            payload: &self.payload,
            id: None,
            sender: Sender { client_id: &client_id, source: &source },
            arrived: Instant::now(),
            tag: 0,
            dead_letter: true,
        };
        let headers = |headers: &mut SenderHeaders<'_>| {
            self.headers.iter().for_each(|(name, value)| headers.add(name, value));
            self.content_type.iter().for_each(|value| headers.content_type(value.as_bytes()));
        };
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

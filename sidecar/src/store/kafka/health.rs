//! How Kafka has been doing: what readiness, logs and metrics say of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode;

use super::classify::{cause_of, is_aftermath, is_out_of_turn};
use crate::store::TransientCause;

/// Kafka's health as this pod sees it.
#[derive(Debug)]
pub struct Health {
    bootstrap: String,
    /// Kafka and all topics were seen once since the start. Never cleared.
    seen: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    /// Whether there is one, without the lock.
    troubled: AtomicBool,
    failures: AtomicU64,
}

#[derive(Clone, Debug)]
struct Trouble {
    cause: TransientCause,
    message: String,
    over: Over,
}

/// What shows that a trouble is over.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Over {
    /// The brokers answer, or a message is persisted.
    Reached,
    /// A message is persisted: in this topic, if one is named.
    Persisted(Option<String>),
}

impl Health {
    pub(super) fn new(bootstrap_servers: &[String]) -> Self {
        Self {
            bootstrap: bootstrap_servers.join(","),
            seen: AtomicBool::new(false),
            trouble: Mutex::default(),
            troubled: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether Kafka and all topics were seen once since the start.
    #[must_use]
    pub fn was_seen(&self) -> bool {
        self.seen.load(Ordering::Acquire)
    }

    /// What is wrong now, if something is known to be: a sentence with what, where and what to do.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().as_ref().map(|trouble| trouble.message.clone())
    }

    /// Delivery reports with an error since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn seen(&self) {
        self.seen.store(true, Ordering::Release);
    }

    /// A message was persisted in this topic.
    pub(super) fn persisted(&self, topic: &str) {
        if self.troubled.load(Ordering::Relaxed) {
            self.recover(|over| match over {
                Over::Reached | Over::Persisted(None) => true,
                Over::Persisted(Some(troubled)) => troubled == topic,
            });
        }
    }

    /// The brokers answered a question: they can be reached, whatever else is wrong.
    pub(super) fn reached(&self) {
        self.recover(|over| *over == Over::Reached);
    }

    /// The brokers did not answer a question.
    pub(super) fn not_reached(&self, error: RDKafkaErrorCode) {
        self.note(cause_of(error), Over::Reached, || error.to_string());
    }

    fn recover(&self, is_over: impl Fn(&Over) -> bool) {
        let mut trouble = self.trouble.lock();
        if trouble.as_ref().is_some_and(|trouble| is_over(&trouble.over)) {
            *trouble = None;
            self.troubled.store(false, Ordering::Relaxed);
            drop(trouble);
            tracing::info!(brokers = self.bootstrap, "Kafka is well again");
        }
    }

    /// `messages` could not be made durable.
    pub(super) fn failed(&self, error: RDKafkaErrorCode, topic: Option<&str>, messages: usize) {
        self.failures.fetch_add(messages as u64, Ordering::Relaxed);
        if !is_aftermath(error) {
            let place = topic.map_or_else(|| self.bootstrap.clone(), |topic| format!("topic {topic}"));
            self.note(cause_of(error), Over::Persisted(topic.map(str::to_owned)), || {
                format!("{place}: {error}")
            });
        }
    }

    /// A record without a key was to go into a compacted topic.
    pub(super) fn needs_key(&self, topic: &str) {
        self.note(TransientCause::TopicNotReady, Over::Persisted(Some(topic.to_owned())), || {
            format!("topic {topic} is compacted and takes no record without a key: give its route a key")
        });
    }

    /// The producer failed for good; `again`: and none has stored anything since the last did.
    pub(super) fn failed_for_good(&self, error: RDKafkaErrorCode, reason: &str, again: bool) {
        if again {
            tracing::debug!(%error, reason, "the next Kafka producer failed for good as well");
        } else {
            tracing::error!(%error, reason, "the Kafka producer failed for good; waiting for its reports to replace it");
        }
        if !is_aftermath(error) {
            self.note(cause_of(error), Over::Persisted(None), || reason.to_owned());
        }
    }

    /// The client says that something is wrong.
    pub(super) fn client_error(&self, error: RDKafkaErrorCode, message: &str) {
        if !is_aftermath(error) && !is_out_of_turn(message) {
            self.note(cause_of(error), Over::Reached, || message.to_owned());
        }
    }

    /// Says a trouble once, until another takes its place or it is over.
    fn note(&self, cause: TransientCause, over: Over, what: impl FnOnce() -> String) {
        let mut trouble = self.trouble.lock();
        if let Some(known) = trouble.as_mut() {
            if known.cause == cause {
                // That the brokers answer does not show that they also store.
                if known.over == Over::Reached {
                    known.over = over;
                }
                return;
            }
            // What is more to the point stays: a refused login also looks like brokers that cannot be reached.
            if known.cause == TransientCause::KafkaUnauthorized {
                return;
            }
        }
        let advice = match cause {
            TransientCause::KafkaUnauthorized => {
                "check spec.kafka.authentication, the password's Secret and the ACLs"
            }
            TransientCause::KafkaUnreachable => {
                "check spec.kafka.bootstrapServers and that the brokers run; senders get transient answers until then"
            }
            TransientCause::NotEnoughReplicas => "bring the missing brokers back",
            TransientCause::TopicNotReady => "check that the topic exists and is as spec.topics declares",
            _ => "senders get transient answers until it is over",
        };
        let message = format!("Kafka at {}: {}: {advice}", self.bootstrap, what());
        tracing::warn!(reason = %cause, "{message}");
        *trouble = Some(Trouble { cause, message, over });
        self.troubled.store(true, Ordering::Relaxed);
    }
}

/// librdkafka's own log lines: of interest when something is looked into; what matters is said by [`Health`].
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // Said by `Health::failed_for_good`.
        RDKafkaLogLevel::Emerg if facility == "FATAL" => {
            tracing::debug!(target: "librdkafka", facility, "{message}")
        }
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_out_of_turn_is_no_trouble_and_a_refused_one_is() {
        let health = Health::new(&["broker:9092".to_owned()]);
        let said = |why: &str| format!("SASL OAUTHBEARER mechanism handshake failed: Broker: {why}");
        health
            .client_error(RDKafkaErrorCode::Authentication, &said("Request not valid in current SASL state"));
        assert_eq!(health.trouble(), None);
        health.client_error(RDKafkaErrorCode::Authentication, &said("SASL Authentication failed"));
        assert!(health.trouble().is_some_and(|trouble| trouble.contains("check spec.kafka.authentication")));
    }
}

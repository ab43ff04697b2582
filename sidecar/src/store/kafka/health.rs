//! How Kafka has been doing: what readiness, logs and metrics say of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode;

use super::classify::cause_of;
use crate::store::TransientCause;

/// Kafka's health as this pod sees it.
#[derive(Debug)]
pub struct Health {
    bootstrap: String,
    /// Kafka and all topics were seen once since the start. Never cleared.
    seen: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    failures: AtomicU64,
}

#[derive(Clone, Debug)]
struct Trouble {
    cause: TransientCause,
    message: String,
}

impl Health {
    pub(super) fn new(bootstrap_servers: &[String]) -> Self {
        Self {
            bootstrap: bootstrap_servers.join(","),
            seen: AtomicBool::new(false),
            trouble: Mutex::default(),
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

    /// A message was persisted: all is well.
    pub(super) fn persisted(&self) {
        self.recover(|_| true);
    }

    /// The brokers answered a question: they can be reached, whatever else is wrong.
    pub(super) fn reached(&self) {
        self.recover(|cause| {
            matches!(cause, TransientCause::KafkaUnreachable | TransientCause::KafkaUnauthorized)
        });
    }

    fn recover(&self, solved: impl Fn(TransientCause) -> bool) {
        let mut trouble = self.trouble.lock();
        if trouble.as_ref().is_some_and(|trouble| solved(trouble.cause)) {
            *trouble = None;
            drop(trouble);
            tracing::info!(brokers = self.bootstrap, "Kafka is well again");
        }
    }

    pub(super) fn failed(&self, error: RDKafkaErrorCode, topic: Option<&str>) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let place = topic.map_or_else(|| self.bootstrap.clone(), |topic| format!("topic {topic}"));
        self.note(cause_of(error), || format!("{place}: {error}"));
    }

    pub(super) fn client_error(&self, error: RDKafkaErrorCode, message: &str) {
        self.note(cause_of(error), || message.to_owned());
    }

    /// Says a trouble once, until another takes its place or it is over.
    fn note(&self, cause: TransientCause, what: impl FnOnce() -> String) {
        let mut trouble = self.trouble.lock();
        // What is more to the point stays: a refused login also looks like brokers that cannot be reached.
        let stays = trouble.as_ref().is_some_and(|known| {
            known.cause == cause || (known.cause == TransientCause::KafkaUnauthorized && cause != known.cause)
        });
        if stays {
            return;
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
        *trouble = Some(Trouble { cause, message });
    }
}

/// librdkafka's own log lines: of interest when something is looked into; what matters is said by [`Health`].
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

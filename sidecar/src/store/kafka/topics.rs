//! What we know of each topic, and whether a message may go there.
//!
//! An acknowledgement promises what the pipeline declares of its topic. So a topic that is missing, or is less than
//! declared, takes no messages; and one whose id, partitions, replication factor or min.insync.replicas changed takes
//! none until a second look finds the same.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use penstock_crds::edge::TopicConfig;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::native::{ConfigDescription, TopicDescription};
use crate::store::TransientCause;

/// `max.message.bytes` of a topic whose configuration we may not read: Kafka's own default.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// A topic of the pipeline.
#[derive(Debug)]
pub struct Topic {
    declared: TopicConfig,
    /// The name in Kafka. It lives as long as the process, so that a receipt can carry it at no cost.
    name: &'static str,
    open: AtomicBool,
    max_message_bytes: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    facts: Option<Facts>,
    obstacle: Obstacle,
}

/// Why a topic takes no messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For the sender.
    pub cause: TransientCause,
    /// For the operator of the pipeline: what is wrong, and what to do.
    pub message: String,
}

/// What the brokers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    id: Option<String>,
    partitions: i32,
    replication_factor: i32,
    min_in_sync_replicas: Option<i32>,
    max_message_bytes: Option<usize>,
}

impl Topic {
    /// A topic of which nothing is known yet.
    #[must_use]
    pub fn new(declared: TopicConfig) -> Self {
        let obstacle = Obstacle {
            cause: TransientCause::KafkaUnreachable,
            message: format!("topic {} has not been seen yet", declared.topic_name),
        };
        Self {
            name: String::leak(declared.topic_name.clone()),
            declared,
            open: AtomicBool::new(false),
            max_message_bytes: AtomicUsize::new(DEFAULT_MAX_MESSAGE_BYTES),
            known: Mutex::new(Known { facts: None, obstacle }),
        }
    }

    /// The name in Kafka.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name by which routes refer to it.
    #[must_use]
    pub fn declared_name(&self) -> &str {
        &self.declared.name
    }

    pub(super) fn c_name(&self) -> Option<CString> {
        CString::new(self.name).ok()
    }

    /// Whether messages may go there, else why not.
    pub fn admit(&self) -> Result<(), TransientCause> {
        if self.open.load(Ordering::Acquire) { Ok(()) } else { Err(self.known.lock().obstacle.cause) }
    }

    /// What keeps messages away, if something does.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        let known = self.known.lock();
        (!self.open.load(Ordering::Acquire)).then(|| known.obstacle.clone())
    }

    /// The largest record batch that the topic takes, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes.load(Ordering::Relaxed)
    }

    /// Takes in what the brokers say. Returns a sentence when that is news.
    pub(super) fn observe(
        &self,
        description: &TopicDescription,
        config: Option<&ConfigDescription>,
    ) -> Option<String> {
        if let Some(error) = description.error {
            return self.shut(self.obstacle_of(error));
        }
        if description.may_write == Some(false) {
            return self.shut(self.obstacle_of(Code::TopicAuthorizationFailed));
        }
        let facts = Facts::new(description, config);
        let mut known = self.known.lock();
        let before = known.facts.replace(facts.clone());
        drop(known);
        self.max_message_bytes
            .store(facts.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES), Ordering::Relaxed);
        if let Err(message) = facts.fulfil(&self.declared) {
            return self.shut(Obstacle { cause: TransientCause::TopicNotReady, message });
        }
        if before.is_some_and(|before| !before.is_same_topic(&facts)) {
            return self.shut(Obstacle {
                cause: TransientCause::TopicNotReady,
                message: format!("topic {} has changed and is being checked again", self.name),
            });
        }
        let news = !self.open.swap(true, Ordering::AcqRel);
        news.then(|| format!("topic {} takes messages: {}", self.name, facts.describe()))
    }

    /// Takes in that the brokers could not be asked: before the first answer that is why nothing goes there.
    pub(super) fn unreachable(&self, error: Code) {
        let mut known = self.known.lock();
        if known.facts.is_none() {
            known.obstacle = self.obstacle_of(error);
        }
    }

    fn shut(&self, obstacle: Obstacle) -> Option<String> {
        let mut known = self.known.lock();
        let news = self.open.swap(false, Ordering::AcqRel) || known.obstacle != obstacle;
        let message = obstacle.message.clone();
        known.obstacle = obstacle;
        news.then_some(message)
    }

    fn obstacle_of(&self, error: Code) -> Obstacle {
        let name = self.name;
        let (cause, message) = match super::classify::cause_of(error) {
            TransientCause::TopicNotReady => (
                TransientCause::TopicNotReady,
                format!("topic {name} does not exist: create it, or let the operator manage it"),
            ),
            TransientCause::KafkaUnauthorized => (
                TransientCause::KafkaUnauthorized,
                format!(
                    "Kafka refuses access to topic {name} ({error}): check spec.kafka.authentication and the ACLs \
                     (Describe and Write on the topic)"
                ),
            ),
            cause => (cause, format!("topic {name} cannot be looked up: {error}")),
        };
        Obstacle { cause, message }
    }
}

impl Facts {
    fn new(description: &TopicDescription, config: Option<&ConfigDescription>) -> Self {
        let entry = |name: &str| {
            let entries = config?.entries.as_ref().ok()?;
            entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        Self {
            id: description.id.clone(),
            partitions: description.partitions,
            replication_factor: description.replication_factor,
            min_in_sync_replicas: entry("min.insync.replicas").and_then(|value| value.parse().ok()),
            max_message_bytes: entry("max.message.bytes").and_then(|value| value.parse().ok()),
        }
    }

    /// Whether both are the same topic with the same promise. A configuration that could not be read is no change.
    fn is_same_topic(&self, other: &Self) -> bool {
        self.id == other.id
            && self.partitions == other.partitions
            && self.replication_factor == other.replication_factor
            && (self.min_in_sync_replicas == other.min_in_sync_replicas
                || self.min_in_sync_replicas.is_none()
                || other.min_in_sync_replicas.is_none())
    }

    fn fulfil(&self, declared: &TopicConfig) -> Result<(), String> {
        let checks = [
            ("partitions", Some(self.partitions), declared.partitions),
            ("replication factor", Some(self.replication_factor), declared.replication_factor),
            ("min.insync.replicas", self.min_in_sync_replicas, declared.min_in_sync_replicas),
        ];
        for (what, actual, wanted) in checks {
            if let (Some(actual), Some(wanted)) = (actual, wanted)
                && actual < wanted
            {
                return Err(format!(
                    "topic {} has {what} {actual}, the pipeline declares {wanted}: change the topic, or the \
                     declaration in spec.topics",
                    declared.topic_name
                ));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let min_isr = self.min_in_sync_replicas.map_or("not readable".to_owned(), |value| value.to_string());
        format!(
            "{} partitions, replication factor {}, min.insync.replicas {min_isr}",
            self.partitions, self.replication_factor
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic::new(TopicConfig {
            name: "t".into(),
            topic_name: "t".into(),
            partitions: Some(2),
            replication_factor: Some(3),
            min_in_sync_replicas: Some(2),
        })
    }

    fn seen(id: &str, partitions: i32, replication_factor: i32) -> TopicDescription {
        TopicDescription {
            name: "t".into(),
            error: None,
            id: Some(id.into()),
            partitions,
            replication_factor,
            may_write: None,
        }
    }

    fn min_isr(value: &str) -> ConfigDescription {
        ConfigDescription {
            name: "t".into(),
            entries: Ok(vec![("min.insync.replicas".into(), value.into())]),
        }
    }

    #[test]
    fn a_topic_opens_when_it_is_as_declared() {
        let topic = topic();
        assert_eq!(topic.admit(), Err(TransientCause::KafkaUnreachable));
        topic.observe(&seen("a", 2, 3), Some(&min_isr("2")));
        assert_eq!(topic.admit(), Ok(()));
    }

    #[test]
    fn a_topic_that_is_less_than_declared_stays_shut() {
        for (description, config) in [(seen("a", 1, 3), "2"), (seen("a", 2, 1), "2"), (seen("a", 2, 3), "1")]
        {
            let topic = topic();
            let news = topic.observe(&description, Some(&min_isr(config))).unwrap();
            assert!(news.contains("the pipeline declares"), "{news}");
            assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady));
        }
    }

    #[test]
    fn a_recreated_topic_is_looked_at_twice() {
        let topic = topic();
        topic.observe(&seen("a", 2, 3), None);
        topic.observe(&seen("b", 2, 3), None);
        assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady));
        topic.observe(&seen("b", 2, 3), None);
        assert_eq!(topic.admit(), Ok(()));
    }

    #[test]
    fn a_deleted_topic_shuts_and_an_unreachable_broker_does_not() {
        let topic = topic();
        topic.observe(&seen("a", 2, 3), None);
        topic.unreachable(Code::OperationTimedOut);
        assert_eq!(topic.admit(), Ok(()));
        let gone = TopicDescription { error: Some(Code::UnknownTopicOrPartition), ..seen("a", 0, 0) };
        assert!(topic.observe(&gone, None).unwrap().contains("does not exist"));
        assert_eq!(topic.observe(&gone, None), None, "said once");
        assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady));
    }
}

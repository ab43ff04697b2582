//! What we know of each topic, and whether a message may go there.
//!
//! An acknowledgement promises what the pipeline declares of its topic. So a topic that is missing, or is less than
//! declared, takes no messages; and one whose id, partitions, replication factor or min.insync.replicas changed takes
//! none until a second look finds the same. What is reported as stored there meanwhile counts as unknown: it may have
//! gone into another topic of that name.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use penstock_crds::edge::TopicConfig;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::admin::{ConfigDescription, TopicDescription};
use crate::store::TransientCause;

/// `max.message.bytes` of a topic whose configuration we may not read: Kafka's own default.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// How long a topic takes nothing after a broker refused a batch; doubled each time, up to sixty-four times.
const SUSPENSION: Duration = Duration::from_secs(1);

/// A topic of the pipeline.
#[derive(Debug)]
pub struct Topic {
    declared: TopicConfig,
    /// The name in Kafka. It lives as long as the process, so that a receipt can carry it at no cost.
    name: &'static str,
    /// It is as declared, and not suspended: messages may go there.
    open: AtomicBool,
    /// It is as declared, by the last look.
    checked: AtomicBool,
    max_message_bytes: AtomicUsize,
    /// Compacted topics take no record without a key.
    needs_key: AtomicBool,
    /// Suspensions since the last message was persisted.
    suspensions: AtomicU32,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    facts: Option<Facts>,
    obstacle: Obstacle,
    suspended_until: Option<Instant>,
    /// What was asked before this says nothing of the topic that is there now.
    doubted: Option<Instant>,
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
    compacted: Option<bool>,
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
            checked: AtomicBool::new(false),
            needs_key: AtomicBool::new(false),
            suspensions: AtomicU32::new(0),
            max_message_bytes: AtomicUsize::new(DEFAULT_MAX_MESSAGE_BYTES),
            known: Mutex::new(Known { facts: None, obstacle, suspended_until: None, doubted: None }),
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

    /// What Kafka knows it by (KIP-516); nothing before it was seen, and of brokers that do not tell.
    pub(super) fn id(&self) -> Option<String> {
        self.known.lock().facts.as_ref()?.id.clone()
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

    /// Whether the topic refuses records without a key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.needs_key.load(Ordering::Relaxed)
    }

    /// Whether what is stored there now is stored in the topic that was looked at.
    pub(super) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Acquire)
    }

    /// Takes in what the brokers said when they were asked. Returns a sentence when that is news.
    pub(super) fn observe(
        &self,
        asked: Instant,
        description: &TopicDescription,
        config: Option<&ConfigDescription>,
    ) -> Option<String> {
        let mut known = self.known.lock();
        if known.doubted.is_some_and(|doubted| doubted >= asked) {
            return None;
        }
        match description.error {
            // An election: no reason to doubt what the topic is.
            Some(error) if super::classify::cause_of(error) == TransientCause::KafkaUnreachable => {
                if known.facts.is_none() {
                    known.obstacle = self.obstacle_of(error);
                }
                return None;
            }
            Some(error) => return self.shut(&mut known, self.obstacle_of(error)),
            None if description.may_write == Some(false) => {
                return self.shut(&mut known, self.obstacle_of(Code::TopicAuthorizationFailed));
            }
            None => {}
        }
        let facts = Facts::new(description, config).or_as_known(known.facts.as_ref());
        let before = known.facts.replace(facts.clone());
        let limit = facts.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
        self.max_message_bytes.store(limit, Ordering::Relaxed);
        self.needs_key.store(facts.compacted == Some(true), Ordering::Relaxed);
        if let Err(message) = facts.fulfil(&self.declared) {
            return self.shut(&mut known, Obstacle { cause: TransientCause::TopicNotReady, message });
        }
        if before.is_some_and(|before| !before.is_same_topic(&facts)) {
            let message = format!("topic {} has changed and is being checked again", self.name);
            return self.shut(&mut known, Obstacle { cause: TransientCause::TopicNotReady, message });
        }
        self.checked.store(true, Ordering::Release);
        if known.suspended_until.is_some_and(|until| until > Instant::now()) {
            return None;
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

    /// Takes in that something was stored before what is there already: it is no longer the topic that was looked at.
    pub(super) fn doubt(&self) -> Option<String> {
        let mut known = self.known.lock();
        known.doubted = Some(Instant::now());
        let message = format!(
            "topic {} was made anew or has lost records (offsets went back) and is being checked again",
            self.name
        );
        self.shut(&mut known, Obstacle { cause: TransientCause::TopicNotReady, message })
    }

    /// Takes in that a broker refused a batch for a reason that would hold for the next one too. Each such verdict
    /// costs the producer, so the topic takes nothing for a while.
    pub(super) fn suspend(&self, error: Code) -> Option<String> {
        let mut known = self.known.lock();
        let now = Instant::now();
        if known.suspended_until.is_some_and(|until| until > now) {
            return None;
        }
        let times = self.suspensions.fetch_add(1, Ordering::Relaxed);
        let pause = SUSPENSION * (1 << times.min(6));
        known.suspended_until = Some(now + pause);
        self.open.store(false, Ordering::Release);
        known.obstacle = self.obstacle_of(error);
        Some(format!("{}; nothing is sent there for {} s", known.obstacle.message, pause.as_secs()))
    }

    /// Takes in that a message was persisted.
    pub(super) fn persisted(&self) {
        if self.suspensions.load(Ordering::Relaxed) != 0 && self.open.load(Ordering::Acquire) {
            self.suspensions.store(0, Ordering::Relaxed);
        }
    }

    fn shut(&self, known: &mut Known, obstacle: Obstacle) -> Option<String> {
        self.checked.store(false, Ordering::Release);
        let news = self.open.swap(false, Ordering::AcqRel) || known.obstacle != obstacle;
        let message = obstacle.message.clone();
        known.obstacle = obstacle;
        news.then_some(message)
    }

    fn obstacle_of(&self, error: Code) -> Obstacle {
        let name = self.name;
        let (cause, message) = match super::classify::cause_of(error) {
            cause if error == Code::MessageSizeTooLarge => (
                cause,
                format!(
                    "topic {name} takes smaller batches than it tells: let the user of spec.kafka.authentication \
                     read its max.message.bytes (DescribeConfigs on the topic)"
                ),
            ),
            cause if error == Code::InvalidTimestamp => (
                cause,
                format!(
                    "topic {name} refuses the time of arrival: compare this machine's clock with the brokers'"
                ),
            ),
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
            TransientCause::BrokerError => {
                (TransientCause::BrokerError, format!("topic {name}: the broker answers with {error}"))
            }
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
            compacted: entry("cleanup.policy").map(|value| value.contains("compact")),
        }
    }

    /// These facts; what the brokers did not tell this time is as they told it before.
    fn or_as_known(mut self, known: Option<&Self>) -> Self {
        if let Some(known) = known {
            self.id = self.id.or_else(|| known.id.clone());
            self.min_in_sync_replicas = self.min_in_sync_replicas.or(known.min_in_sync_replicas);
            self.max_message_bytes = self.max_message_bytes.or(known.max_message_bytes);
            self.compacted = self.compacted.or(known.compacted);
        }
        self
    }

    /// Whether both are the same topic with the same promise. To learn what was not known is no change.
    fn is_same_topic(&self, later: &Self) -> bool {
        let same_or_learnt = |before: &Option<i32>, after| before.is_none() || *before == after;
        (self.id.is_none() || self.id == later.id)
            && self.partitions == later.partitions
            && self.replication_factor == later.replication_factor
            && same_or_learnt(&self.min_in_sync_replicas, later.min_in_sync_replicas)
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
mod tests;

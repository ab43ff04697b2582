//! Making messages durable. Only a store can make a [`Receipt`], and a positive answer needs one in hand.

pub mod kafka;
pub mod lane;
pub mod record;

pub use lane::{Lane, LaneKey, Lanes};
pub use record::{HeaderList, Headers, MessageId, Record};

/// The place where a message was stored. Nothing outside this module and its children can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    topic: &'static str,
    partition: i32,
    offset: Option<i64>,
    timestamp_millis: i64,
}

impl Receipt {
    /// One that a test needs.
    #[cfg(test)]
    pub(crate) fn for_test(
        topic: &'static str,
        partition: i32,
        offset: Option<i64>,
        timestamp_millis: i64,
    ) -> Self {
        Self { topic, partition, offset, timestamp_millis }
    }

    /// The topic's name in Kafka.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset; absent when Kafka does not tell it (a batch acknowledged as a duplicate sequence).
    #[must_use]
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// The record's timestamp in Unix milliseconds: its arrival, or the time of its appending where the topic says so
    /// (`message.timestamp.type`).
    #[must_use]
    pub fn timestamp_millis(&self) -> i64 {
        self.timestamp_millis
    }
}

/// What became of a message that was given to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Persisted(Receipt),
    /// Not durable as far as anybody knows; the sender should send it again.
    Transient(TransientCause),
    /// Refused by the store for what it is; sending it again would not help.
    Refused,
}

/// Why a message could not be made durable now. The text of each is a metric label and part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TransientCause {
    /// The brokers cannot be reached.
    #[error("kafka_unreachable")]
    KafkaUnreachable,
    /// The brokers refuse our credentials or rights.
    #[error("kafka_unauthorized")]
    KafkaUnauthorized,
    /// The topic is missing, changed, or contradicts what the pipeline declares.
    #[error("topic_not_ready")]
    TopicNotReady,
    /// Too few replicas are in sync.
    #[error("not_enough_replicas")]
    NotEnoughReplicas,
    /// The producer's queue is full.
    #[error("queue_full")]
    QueueFull,
    /// The pod, endpoint or connection holds as much as it may.
    #[error("budget_exhausted")]
    BudgetExhausted,
    /// No report within the ack timeout.
    #[error("ack_timeout")]
    AckTimeout,
    /// The producer failed for good and is being replaced.
    #[error("producer_replaced")]
    ProducerReplaced,
    /// The pod is ending.
    #[error("draining")]
    Draining,
    /// Any other error of a broker.
    #[error("broker_error")]
    BrokerError,
}

impl TransientCause {
    /// One sentence for the sender.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::KafkaUnreachable => "Kafka cannot be reached",
            Self::KafkaUnauthorized => "Kafka refuses the pipeline's credentials or rights",
            Self::TopicNotReady => "the topic is missing or is not as the pipeline declares it",
            Self::NotEnoughReplicas => "too few replicas are in sync",
            Self::QueueFull => "the producer's queue is full",
            Self::BudgetExhausted => "the endpoint holds as many messages as it may",
            Self::AckTimeout => "Kafka did not confirm the message in time; it may still be stored",
            Self::ProducerReplaced => "the connection to Kafka is being made anew",
            Self::Draining => "this instance is shutting down",
            Self::BrokerError => "the broker answered with an error",
        }
    }
}

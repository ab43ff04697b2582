//! Changes of topics. Pure.

use std::collections::BTreeMap;

use super::error::KafkaError;

/// A change of one topic. None takes anything away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create it.
    Create {
        /// Name in Kafka.
        topic: String,
        /// Absent: as the brokers choose.
        partitions: Option<i32>,
        /// Absent: as the brokers choose.
        replication_factor: Option<i32>,
        /// Settings, `min.insync.replicas` among them.
        configs: BTreeMap<String, String>,
    },
    /// Raise its number of partitions.
    Grow {
        /// Name in Kafka.
        topic: String,
        /// To so many.
        partitions: i32,
    },
    /// Set these settings and leave the others.
    Configure {
        /// Name in Kafka.
        topic: String,
        /// The settings that differ.
        configs: BTreeMap<String, String>,
    },
}

/// Steps that failed, by the topic's name in Kafka.
pub type Failures = BTreeMap<String, KafkaError>;

//! What the brokers have.

use std::collections::BTreeMap;

use super::error::KafkaError;

/// The settings in effect, by name; or why they may not be read.
pub type Configs = Result<BTreeMap<String, String>, KafkaError>;

/// One look at a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The cluster's id: the same through whichever address it is reached.
    pub cluster_id: String,
    /// Every topic that was asked for, by its name in Kafka.
    pub topics: BTreeMap<String, SeenTopic>,
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenTopic {
    /// It is not there.
    Absent,
    /// It is there.
    Present(TopicFacts),
    /// Whether it is there may not be known.
    Hidden(KafkaError),
}

/// A topic as the brokers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its id, if the brokers have ids (KIP-516).
    pub id: Option<String>,
    /// Number of partitions.
    pub partitions: i32,
    /// The smallest number of replicas of a partition.
    pub replication_factor: i32,
    /// Its settings in effect, wherever they were set.
    pub configs: Configs,
}

impl TopicFacts {
    /// A setting in effect, if it can be read.
    #[must_use]
    pub fn config(&self, name: &str) -> Option<&str> {
        self.configs.as_ref().ok()?.get(name).map(String::as_str)
    }

    /// `min.insync.replicas` in effect, if it can be read.
    #[must_use]
    pub fn min_in_sync_replicas(&self) -> Option<i32> {
        self.config(MIN_IN_SYNC_REPLICAS)?.parse().ok()
    }
}

/// The setting that has a field of its own in a pipeline.
pub(super) const MIN_IN_SYNC_REPLICAS: &str = "min.insync.replicas";

/// Whether two spellings of a setting mean the same: brokers answer with their own (`TRUE` as `true`, `a, b` as `a,b`).
pub(super) fn same_value(one: &str, other: &str) -> bool {
    let parts = |value: &str| -> Vec<String> {
        value.split(',').map(|part| part.trim().to_ascii_lowercase()).collect()
    };
    let equal = |one: &str, other: &str| {
        one == other
            || matches!((one.parse::<i64>(), other.parse::<i64>()), (Ok(one), Ok(other)) if one == other)
            || matches!((one.parse::<f64>(), other.parse::<f64>()), (Ok(one), Ok(other)) if one == other)
    };
    let (one, other) = (parts(one), parts(other));
    one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| equal(one, other))
}

#[cfg(test)]
mod tests {
    use super::same_value;

    #[test]
    fn the_same_setting_in_another_spelling_is_no_drift() {
        for (one, other) in [
            ("604800000", "604800000"),
            ("0604800000", "604800000"),
            ("TRUE", "true"),
            (" delete", "delete"),
            ("compact, delete", "compact,delete"),
            ("0.50", "0.5"),
            ("", ""),
        ] {
            assert!(same_value(one, other), "{one} {other}");
        }
        for (one, other) in [("1", "2"), ("delete", "compact"), ("compact,delete", "compact"), ("", "0")] {
            assert!(!same_value(one, other), "{one} {other}");
        }
    }
}

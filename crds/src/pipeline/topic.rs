//! `spec.topics[]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, LABEL, TOPIC_NAME};
use super::rules;

/// A topic, and what is expected of it. A declared number that the brokers contradict stops acknowledgements into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::topic()))]
pub struct TopicSpec {
    /// The name by which routes refer to it.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The name in Kafka. Default: as name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = TOPIC_NAME))]
    pub topic_name: Option<String>,
    /// Number of partitions. Default: whatever the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,
    /// Number of brokers that keep a copy. Default: whatever the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub replication_factor: Option<i32>,
    /// How many in-sync copies a message needs before it counts as persisted (min.insync.replicas).
    /// Default: whatever the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub min_in_sync_replicas: Option<i32>,
    /// Further settings of the topic, by their Kafka names. Default: the brokers' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::map::<64, 1_024>)]
    pub config: Option<BTreeMap<String, String>>,
    /// Who creates and changes the topic: the operator (Managed), the operator only if it is missing
    /// (CreateIfMissing), or somebody else (External). Default: Managed if partitions are given, else External.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<Management>,
    /// What happens when partitions is raised. More partitions give existing keys other partitions, so their order is
    /// not kept across the change. Default: Refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_growth: Option<PartitionGrowth>,
    /// What becomes of a managed topic when the pipeline is deleted. Default: Retain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

impl TopicSpec {
    /// The name in Kafka.
    #[must_use]
    pub fn kafka_name(&self) -> &str {
        self.topic_name.as_deref().unwrap_or(&self.name)
    }

    /// Who creates and changes it.
    #[must_use]
    pub fn management(&self) -> Management {
        let default = if self.partitions.is_some() { Management::Managed } else { Management::External };
        self.management.unwrap_or(default)
    }
}

/// Who owns a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum Management {
    /// The operator creates it and keeps it as declared.
    Managed,
    /// The operator creates it and never changes it.
    CreateIfMissing,
    /// Somebody else.
    External,
}

/// What happens when `partitions` is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum PartitionGrowth {
    /// The change is reported and not made.
    Refuse,
    /// Partitions are added.
    Allow,
}

/// What becomes of a topic when its pipeline is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum DeletionPolicy {
    /// It stays, with its records.
    Retain,
    /// It is deleted, with its records.
    Delete,
}

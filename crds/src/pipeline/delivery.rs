//! `spec.delivery`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, LABEL};
use super::rules;

/// What an acknowledgement means, and what becomes of messages that cannot be stored where they belong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::delivery()))]
pub struct Delivery {
    /// The least that endpoints give whose protocol has no quality of service of its own. Default: AtLeastOnce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// The stores that must have confirmed a message before its sender is answered. Kafka is always one.
    /// Default: Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), transform = bounds::set)]
    pub ack_after: Option<Vec<Store>>,
    /// After how long without a confirmation a sender is told to try again. The message may still be stored later.
    /// Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub ack_timeout_seconds: Option<i32>,
    /// Where messages go that match no route or no schema, before their sender is answered.
    /// Default: such messages are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// Whether the pipeline is Ready only while the condition Durable is True. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_durable: Option<bool>,
}

/// A quality of service, by what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum Qos {
    /// MQTT's QoS 0.
    AtMostOnce,
    /// MQTT's QoS 1.
    AtLeastOnce,
    /// MQTT's QoS 2.
    ExactlyOnce,
}

/// A store that can confirm a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum Store {
    /// All in-sync replicas of the topic.
    Kafka,
    /// The object store.
    Archive,
}

/// Where messages go that cannot be stored where they belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Name of an element of topics. Records carry the reason, the origin and the original headers.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub topic: String,
}

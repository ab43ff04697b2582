//! `status`: what the operator has seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::bounds;

/// What the operator has seen, at which generation. No counters: those are metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestPipelineStatus {
    /// The generation that the operator has acted upon; -1 before the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is true of the pipeline. Ready: the current generation is served. Reconciling and Stalled: on the way to
    /// it, or stuck; absent when neither. TopicsReady, EdgeAvailable, DataPathVerified, AutoscalingActive: parts of
    /// it. Durable: the brokers' real configuration makes an acknowledgement survive the loss of a broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 16), transform = keyed_by_type)]
    pub conditions: Option<Vec<Condition>>,
    /// Where senders reach the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 16), transform = bounds::keyed_by_name)]
    pub endpoints: Option<Vec<EndpointStatus>>,
    /// The endpoints in short, 'mqtt:1883,rest:8080', for lists: a printer column shows one value only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint_summary: Option<String>,
    /// The topics as the brokers have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 64), transform = bounds::keyed_by_name)]
    pub topics: Option<Vec<TopicStatus>>,
    /// Edge pods that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Edge pods that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ready_replicas: Option<i32>,
    /// Label selector of the edge pods, for autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub selector: Option<String>,
    /// Hash of the configuration that the edge pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_hash: Option<String>,
}

fn keyed_by_type(schema: &mut Schema) {
    bounds::foreign_conditions(schema);
    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
}

/// Where senders reach an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Name of the endpoint.
    #[schemars(length(max = 15))]
    pub name: String,
    /// What it speaks: mqtt, http, udp or coap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub protocol: Option<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
}

/// A topic as the brokers have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Name in the pipeline.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Name in Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 249))]
    pub topic_name: Option<String>,
    /// Whether it is the pipeline's own: the operator creates it, has created it, or has taken it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<bool>,
    /// Kafka's own id of it, which changes when it is deleted and made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub topic_id: Option<String>,
    /// Number of partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub partitions: Option<i32>,
    /// Number of brokers that keep a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replication_factor: Option<i32>,
    /// min.insync.replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_in_sync_replicas: Option<i32>,
    /// Whether it is as declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TopicState>,
    /// Why it is in this state, one CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
}

/// Whether a topic is as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum TopicState {
    /// It is.
    Ready,
    /// It is being made or changed.
    Pending,
    /// It cannot be brought to what is declared.
    Failed,
}

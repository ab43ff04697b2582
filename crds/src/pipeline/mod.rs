//! The `IngestPipeline` resource: `spec` and `status` as types. Doc comments of fields are what `kubectl explain` shows.
//!
//! Defaults are filled in by [`crate::resolve`], never by the schema, so that a new version can change them without
//! splitting old objects from new ones; an explicit `null` means the same as an absent field.

#![expect(clippy::duplicated_attributes, reason = "printer columns have the same attributes each")]

mod adapter;
mod authentication;
pub mod bounds;
mod delivery;
mod endpoint;
mod kafka;
mod references;
mod resources;
mod route;
pub mod rules;
mod scaling;
mod sessions;
mod status;
mod topic;
mod workload;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use adapter::{
    Adapter, EmptyDir, EnvSource, EnvValue, EnvVariable, ExecProbe, HttpProbe, KeySelector, Probe,
    ProbeAction, PullPolicy, TcpProbe,
};
pub use authentication::{
    AuthenticationMethod, Basic, ClientCertificate, EndpointAuthentication, Jwks, Jwt, Token,
};
pub use delivery::{DeadLetter, Delivery, Qos, Store};
pub use endpoint::{
    Coap, Datagrams, EndpointSpec, EndpointTls, Exposure, ExposureType, Http, Limits, Mqtt, Protocol,
    ProxyProtocol, TrafficPolicy, UdpAcknowledgement, WebSocket,
};
pub use kafka::{Kafka, OauthClient, Producer, SaslAuthentication, SaslCredentials, Tls};
pub use references::{
    CaSecret, JwksConfigMap, JwksSecret, NameReference, PasswordSecret, SchemaConfigMap, TokensSecret,
    UsersSecret,
};
pub use resources::{Quantity, Resources};
pub use route::{EventTime, JsonSchemaSource, RouteSpec, SourceSpec, TargetSpec, Validation};
pub use scaling::{Autoscaling, AutoscalingProvider, Metric, MetricType, NetworkPolicy, NetworkPolicyMode};
pub use sessions::{Memory, Redis, RedisCluster, RedisSentinel, RedisServers, RedisTls, Sessions};
pub use status::{EndpointStatus, IngestPipelineStatus, TopicState, TopicStatus};
pub use topic::{DeletionPolicy, Management, PartitionGrowth, TopicSpec};
pub use workload::{Drain, Edge};

/// A data ingestion pipeline: endpoints that take messages in, routes that give each one a topic and a key, and Kafka,
/// which has persisted a message before its sender is answered.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "penstock.dev",
    version = "v1alpha1",
    kind = "IngestPipeline",
    plural = "ingestpipelines",
    shortname = "ipl",
    namespaced,
    status = "IngestPipelineStatus",
    derive = "PartialEq",
    doc = "A data ingestion pipeline: endpoints that take messages in, routes that give each one a topic and a key, \
           and Kafka, which has persisted a message before its sender is answered.",
    scale(
        spec_replicas_path = ".spec.edge.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the current generation is served."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not."
    ),
    printcolumn(
        name = "Endpoints",
        type_ = "string",
        json_path = ".status.endpointSummary",
        description = "Names and ports of the endpoints."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Edge pods that are ready."
    ),
    printcolumn(
        name = "Durable",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Durable\")].status",
        priority = 1,
        description = "Whether the brokers' configuration makes an acknowledgement mean durable."
    ),
    printcolumn(
        name = "Paused",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ReconciliationPaused\")].status",
        priority = 1,
        description = "Whether the annotation penstock.dev/pause-reconciliation holds the operator off."
    ),
    printcolumn(
        name = "Config hash",
        type_ = "string",
        json_path = ".status.configHash",
        priority = 1,
        description = "Hash of the configuration that the edge pods run."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::spec()))]
pub struct IngestPipelineSpec {
    /// The Kafka cluster that keeps the messages.
    pub kafka: Kafka,
    /// The topics that routes and the dead letter refer to by name.
    #[schemars(length(min = 1, max = 64), transform = bounds::keyed_by_name)]
    pub topics: Vec<TopicSpec>,
    /// What senders connect to.
    #[schemars(length(min = 1, max = 16), transform = bounds::keyed_by_name)]
    pub endpoints: Vec<EndpointSpec>,
    /// Which messages go to which topic, under which key. Of several routes that match a message, the most specific
    /// one takes it, level by level: literal, capture, '+', '#'; two equally specific ones are refused.
    #[schemars(length(min = 1, max = 64), transform = bounds::keyed_by_name)]
    pub routes: Vec<RouteSpec>,
    /// What an acknowledgement means, and what becomes of messages that cannot be stored where they belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Where MQTT sessions that outlive a connection are kept. Default: in the memory of the pod, as with memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// The pods that serve the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    /// Scales the edge pods by their load; not together with edge.replicas. Default: no autoscaling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Who may reach the edge pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// How many configurations of the past are kept. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub revision_history_limit: Option<i32>,
}

//! [`EdgeConfig`]: what a sidecar reads. Every default is filled in and every reference is a file below one folder,
//! so that the sidecar needs to know nothing of Kubernetes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of [`EdgeConfig`] that this build writes. A sidecar refuses a version that it does not know.
pub const EDGE_CONFIG_VERSION: u32 = 1;

/// Name of the admin port in the pods.
pub const ADMIN_PORT_NAME: &str = "penstock-admin";

/// Seconds that a sidecar takes at most for reports that nobody waits for any more, at the end of its drain.
pub const FLUSH_SECONDS: u32 = 2;

/// Seconds beyond all that is planned, before a pod is killed.
const GRACE_MARGIN_SECONDS: u32 = 5;

/// A pipeline with all defaults and references resolved: the one file that configures a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeConfig {
    /// Format version, [`EDGE_CONFIG_VERSION`].
    pub version: u32,
    /// Which pipeline this is.
    pub pipeline: PipelineName,
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// Every topic that a route or the dead letter names.
    pub topics: Vec<TopicConfig>,
    /// The endpoints to serve.
    pub endpoints: Vec<EndpointConfig>,
    /// Where messages go.
    pub routes: Vec<RouteConfig>,
    /// What acknowledging means.
    pub delivery: DeliveryConfig,
    /// How the pod ends.
    pub drain: DrainConfig,
    /// Bytes that all endpoints together may hold, per pod.
    pub max_in_flight_bytes: u64,
    /// The port of probes, metrics and ledger.
    pub admin_port: u16,
}

/// Namespace and name of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name of the `IngestPipeline`.
    pub name: String,
}

/// A file below the sidecar's references folder (`--references`), `secrets/NAME/KEY` or `configmaps/NAME/KEY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReferencePath(pub String);

/// Connection to the Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers; absent means plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<KafkaAuthentication>,
    /// `linger.ms` of the producer.
    pub linger_milliseconds: u32,
    /// `compression.type` of the producer.
    pub compression: Compression,
}

/// TLS to the brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// PEM bundle that signs the brokers' certificates; absent means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ReferencePath>,
}

/// SASL credentials; the password is a file, never a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaAuthentication {
    /// SASL mechanism.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// File that holds the password.
    pub password: ReferencePath,
}

/// SASL mechanisms by their registered names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 7677 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Producer compression codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// Google's Snappy.
    Snappy,
    /// LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// A topic and what the pipeline declares of it; a declared fact that the brokers contradict stops acknowledgements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicConfig {
    /// The name by which routes refer to it.
    pub name: String,
    /// The name in Kafka.
    pub topic_name: String,
    /// Declared number of partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Declared replication factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Declared `min.insync.replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_sync_replicas: Option<i32>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointConfig {
    /// Its name, also a metric label.
    pub name: String,
    /// TCP port.
    pub port: u16,
    /// Listen on loopback only (`exposure: {type: Pod}`).
    pub loopback: bool,
    /// What it speaks.
    pub protocol: ProtocolConfig,
    /// What it may hold.
    pub limits: LimitsConfig,
}

/// The protocol of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ProtocolConfig {
    /// MQTT 3.1.1 and 5.
    Mqtt(MqttConfig),
    /// HTTP/1.1 and h2c.
    Http(HttpConfig),
}

/// MQTT endpoint settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MqttConfig {
    /// Highest QoS that is served, 0 or 1 in this version.
    pub maximum_qos: u8,
    /// Receive Maximum (MQTT 5 §3.2.2.3.3); for 3.1.1 the number in flight at which reading stops.
    pub receive_maximum: u16,
}

/// HTTP endpoint settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpConfig {
    /// Path below which routes are served, always with a leading and without a trailing `/` (`/` alone is empty).
    pub base_path: String,
}

/// Bounds of an endpoint; bytes and counts per pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections at once.
    pub max_connections: u32,
    /// Largest message: MQTT Maximum Packet Size, HTTP body.
    pub max_message_bytes: u32,
    /// Bytes held by the endpoint.
    pub max_in_flight_bytes: u64,
    /// Messages held by the endpoint.
    pub max_in_flight_messages: u32,
    /// Bytes held by one connection.
    pub max_in_flight_bytes_per_connection: u64,
}

/// A route: which messages, into which topic, under which key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name, also a metric label.
    pub name: String,
    /// Where messages come from, at least one.
    pub from: Vec<SourceConfig>,
    /// [`TopicConfig::name`] of the target.
    pub topic: String,
    /// Key template, see [`crate::pattern::KeyTemplate`]; absent means no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// RFC 6901 pointer to the event time in a JSON payload: RFC 3339 text, or a number of Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time_pointer: Option<String>,
    /// JSON Schema that payloads must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<ReferencePath>,
}

/// One source of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceConfig {
    /// [`EndpointConfig::name`].
    pub endpoint: String,
    /// MQTT topic filter or HTTP path template (below the endpoint's base path), see [`crate::pattern::Pattern`].
    pub pattern: String,
}

/// What acknowledging means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryConfig {
    /// After how many seconds without a report a message is answered as transient.
    pub ack_timeout_seconds: u32,
    /// [`TopicConfig::name`] of the dead-letter topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
}

/// How the pod ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainConfig {
    /// Seconds of accepting new connections while not ready.
    pub accept_seconds: u32,
    /// Seconds over which clients are told to leave.
    pub client_seconds: u32,
    /// Seconds that containers beside the sidecar may take to end. Endpoints on loopback serve them until then.
    /// Absent: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_stop_seconds: Option<u32>,
}

impl EdgeConfig {
    /// Every file that the configuration refers to.
    pub fn references(&self) -> impl Iterator<Item = &ReferencePath> {
        let ca = self.kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let password = self.kafka.authentication.as_ref().map(|authentication| &authentication.password);
        ca.into_iter()
            .chain(password)
            .chain(self.routes.iter().filter_map(|route| route.json_schema.as_ref()))
    }

    /// Seconds that a pod needs to end in order: the `terminationGracePeriodSeconds`.
    #[must_use]
    pub fn grace_seconds(&self) -> u32 {
        let leaving = self.drain.client_seconds.max(self.drain.adapter_stop_seconds.unwrap_or(0));
        self.drain.accept_seconds
            + leaving
            + self.delivery.ack_timeout_seconds
            + FLUSH_SECONDS
            + GRACE_MARGIN_SECONDS
    }
}

//! [`EdgeConfig`]: what a sidecar reads. Every default is filled in and every reference is a file below one folder,
//! so that the sidecar needs to know nothing of Kubernetes.

mod authentication;
mod endpoint;
mod kafka;
mod reference_path;
mod sessions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::authentication::{
    AuthenticationConfig, AuthenticationMethodConfig, CertificateField, JwtAlgorithm, JwtConfig,
};
pub use self::endpoint::{
    ClientAuth, EndpointConfig, HttpConfig, LimitsConfig, MqttConfig, ProtocolConfig, ProxyProtocolConfig,
    TOPIC_ALIAS_MAXIMUM, TlsConfig, TlsVersion, WILL_GRACE_SECONDS,
};
pub use self::kafka::{
    Compression, KafkaAuthentication, KafkaCertificate, KafkaConfig, KafkaTls, SaslMechanism, TokenEndpoint,
    TopicConfig,
};
pub use self::reference_path::ReferencePath;
pub use self::sessions::{RedisConfig, RedisServersConfig, RedisTlsConfig, RedisUser, SessionsConfig};

/// The version of [`EdgeConfig`] that this build writes. A sidecar refuses a version that it does not know.
pub const EDGE_CONFIG_VERSION: u32 = 1;

/// The port of probes, metrics and ledger (that of Prometheus exporters of `OpenTelemetry`). No endpoint may have it.
pub const ADMIN_PORT: u16 = 9_464;
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
    /// Where sessions are kept; absent means in the memory of the pod.
    #[serde(default, skip_serializing_if = "SessionsConfig::is_memory")]
    pub sessions: SessionsConfig,
    /// How the pod ends.
    pub drain: DrainConfig,
    /// Bytes that all endpoints together may hold, per pod.
    pub max_in_flight_bytes: u64,
    /// The port of probes, metrics and ledger.
    pub admin_port: u16,
}

impl EdgeConfig {
    /// Every file that the configuration refers to.
    pub fn references(&self) -> impl Iterator<Item = &ReferencePath> {
        let ca = self.kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let sasl = self.kafka.authentication.iter().flat_map(KafkaAuthentication::references);
        let sessions = match &self.sessions {
            SessionsConfig::Redis(redis) => Some(redis),
            SessionsConfig::Memory => None,
        };
        let shown = self.kafka.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        ca.into_iter()
            .chain(sasl)
            .chain(shown.into_iter().flat_map(|certificate| [&certificate.chain, &certificate.key]))
            .chain(sessions.into_iter().flat_map(|redis| redis.references().map(|(_, path)| path)))
            .chain(
                self.endpoints
                    .iter()
                    .filter_map(|endpoint| endpoint.tls.as_ref())
                    .flat_map(TlsConfig::references),
            )
            .chain(self.routes.iter().filter_map(|route| route.json_schema.as_ref()))
            .chain(self.endpoints.iter().filter_map(EndpointConfig::credentials))
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

/// Namespace and name of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name of the `IngestPipeline`.
    pub name: String,
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
    /// What captures must be, by their names, see [`crate::identity::IdentityTemplate`]; all must hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: BTreeMap<String, String>,
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

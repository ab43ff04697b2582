//! [`EdgeConfig`]: what a sidecar reads. Every default is filled in and every reference is a file below one folder,
//! so that the sidecar needs to know nothing of Kubernetes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// PEM chain that is shown to the brokers, and its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<KafkaCertificate>,
}

/// What is shown to the brokers in mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaCertificate {
    /// PEM chain.
    pub chain: ReferencePath,
    /// PEM private key.
    pub key: ReferencePath,
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
    /// TLS to senders; absent means plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// PROXY protocol; absent means that no header is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocolConfig>,
    /// Who may send; absent means whoever reaches the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<AuthenticationConfig>,
}

/// TLS to senders. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM chain, the endpoint's own certificate first.
    pub certificate: ReferencePath,
    /// PEM private key.
    pub key: ReferencePath,
    /// Whether senders show a certificate.
    pub client_auth: ClientAuth,
    /// PEM bundle that signs the certificates of senders; present unless they are not asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<ReferencePath>,
    /// Lowest version that is spoken.
    pub minimum_version: TlsVersion,
}

impl TlsConfig {
    /// Its files.
    pub fn references(&self) -> impl Iterator<Item = &ReferencePath> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }
}

/// PROXY protocol of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyProtocolConfig {
    /// Ranges of addresses (CIDR) that must send a header; others must not.
    pub trusted_sources: Vec<String>,
}

/// Whether senders show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum ClientAuth {
    /// They are not asked for one.
    None,
    /// They may; one that is not signed by the CA, or has expired, is refused.
    Optional,
    /// They must.
    Required,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Who may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfig {
    /// How a sender proves who it is.
    pub method: AuthenticationMethodConfig,
    /// Which MQTT client identifiers a sender may use, see [`crate::identity::ClientIdPattern`]; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// How a sender proves who it is. Files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AuthenticationMethodConfig {
    /// File of users and the hashes of their passwords.
    Basic(ReferencePath),
    /// File of identities and the hashes of their tokens.
    Token(ReferencePath),
    /// JSON Web Tokens.
    Jwt(JwtConfig),
    /// The field of the sender's certificate that names it.
    ClientCertificate(CertificateField),
}

/// Which JSON Web Tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtConfig {
    /// File with the issuer's keys (RFC 7517).
    pub jwks: ReferencePath,
    /// Accepted signature algorithms.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The `aud` that is asked for.
    pub audience: String,
    /// The `iss` that is asked for.
    pub issuer: String,
    /// Allowed difference of clocks.
    pub leeway_seconds: u32,
    /// The claim that names the sender.
    pub identity_claim: String,
}

/// Signature algorithms of JSON Web Tokens (RFC 7518, RFC 8037), those with a public key only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// The field of a certificate that names its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum CertificateField {
    /// CN of the subject.
    CommonName,
    /// The subject alternative name of type DNS.
    DnsName,
    /// The subject alternative name of type URI, such as a SPIFFE ID.
    Uri,
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
    /// Highest QoS that is served.
    pub maximum_qos: u8,
    /// Receive Maximum (MQTT 5 §3.2.2.3.3); for 3.1.1 the number in flight at which reading stops.
    pub receive_maximum: u16,
    /// Topic Alias Maximum (MQTT 5 §3.2.2.3.8).
    #[serde(default = "topic_alias_maximum", skip_serializing_if = "is_topic_alias_maximum")]
    pub topic_alias_maximum: u16,
    /// Seconds for which the session of a client that is away is kept at most; 0 keeps none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub session_expiry_seconds: u32,
    /// Seconds that a Will waits at least once the pod of its client has gone.
    #[serde(default = "will_grace", skip_serializing_if = "is_will_grace")]
    pub will_grace_seconds: u32,
    /// Path of MQTT over WebSocket; absent means MQTT over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_socket_path: Option<String>,
}

/// [`MqttConfig::topic_alias_maximum`] of a pipeline that says nothing of it.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 32;

fn topic_alias_maximum() -> u16 {
    TOPIC_ALIAS_MAXIMUM
}

fn is_topic_alias_maximum(aliases: &u16) -> bool {
    *aliases == TOPIC_ALIAS_MAXIMUM
}

/// [`MqttConfig::will_grace_seconds`] of a pipeline that says nothing of it.
pub const WILL_GRACE_SECONDS: u32 = 30;

fn will_grace() -> u32 {
    WILL_GRACE_SECONDS
}

fn is_will_grace(seconds: &u32) -> bool {
    *seconds == WILL_GRACE_SECONDS
}

fn is_zero(number: &u32) -> bool {
    *number == 0
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
    /// Connections accepted in a second; absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections_per_second: Option<u32>,
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

/// Where sessions are kept that outlive a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SessionsConfig {
    /// In the memory of the pod.
    #[default]
    Memory,
    /// In Redis.
    Redis(RedisConfig),
}

impl SessionsConfig {
    /// Whether they end with the pod.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }
}

/// Connection to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// How the server that takes writes is found.
    pub servers: RedisServersConfig,
    /// Who we are there.
    #[serde(default)]
    pub user: RedisUser,
    /// TLS to servers and Sentinels; absent means plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTlsConfig>,
}

/// How the Redis server that takes writes is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RedisServersConfig {
    /// It has one address.
    Standalone {
        /// `host:port`.
        address: String,
        /// Number of the database.
        database: u16,
    },
    /// Sentinels tell.
    Sentinel {
        /// `host:port` of Sentinels, at least one.
        addresses: Vec<String>,
        /// The name by which they know the primary.
        primary_name: String,
        /// Who we are to Sentinels.
        #[serde(default)]
        user: RedisUser,
    },
    /// The cluster tells.
    Cluster {
        /// `host:port` of servers to begin with, at least one.
        addresses: Vec<String>,
    },
}

/// An ACL user; the password is a file, never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisUser {
    /// Its name; absent means the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// File that holds the password; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<ReferencePath>,
}

/// TLS to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisTlsConfig {
    /// PEM bundle that signs the servers' certificates; absent means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ReferencePath>,
}

impl RedisConfig {
    /// Every file that it refers to, with the field that names it.
    pub fn references(&self) -> impl Iterator<Item = (&'static str, &ReferencePath)> {
        let sentinels = match &self.servers {
            RedisServersConfig::Sentinel { user, .. } => user.password.as_ref(),
            _ => None,
        };
        let ca = self.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        [
            ("spec.sessions.redis.passwordSecret", self.user.password.as_ref()),
            ("spec.sessions.redis.sentinel.passwordSecret", sentinels),
            ("spec.sessions.redis.tls.ca", ca),
        ]
        .into_iter()
        .filter_map(|(field, path)| Some((field, path?)))
    }
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

impl EndpointConfig {
    /// The file with what senders prove themselves by, if there is one. It is read again when it changes.
    #[must_use]
    pub fn credentials(&self) -> Option<&ReferencePath> {
        match &self.authentication.as_ref()?.method {
            AuthenticationMethodConfig::Basic(file) | AuthenticationMethodConfig::Token(file) => Some(file),
            AuthenticationMethodConfig::Jwt(jwt) => Some(&jwt.jwks),
            AuthenticationMethodConfig::ClientCertificate(_) => None,
        }
    }
}

impl EdgeConfig {
    /// Every file that the configuration refers to.
    pub fn references(&self) -> impl Iterator<Item = &ReferencePath> {
        let ca = self.kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let password = self.kafka.authentication.as_ref().map(|authentication| &authentication.password);
        let sessions = match &self.sessions {
            SessionsConfig::Redis(redis) => Some(redis),
            SessionsConfig::Memory => None,
        };
        let shown = self.kafka.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        ca.into_iter()
            .chain(password)
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

//! Endpoints in the [`super::EdgeConfig`]: where a sidecar listens, what it speaks there, and what it may hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authentication::{AuthenticationConfig, AuthenticationMethodConfig};
use super::reference_path::ReferencePath;

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
    /// Longest Keep Alive in seconds; absent means that each client's own holds (MQTT 5 §3.2.2.3.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_keep_alive_seconds: Option<u16>,
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

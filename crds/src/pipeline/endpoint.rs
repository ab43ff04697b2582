//! `spec.endpoints[]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authentication::EndpointAuthentication;
use super::bounds::{self, CIDR, PORT_NAME};
use super::delivery::Qos;
use super::references::{CaSecret, NameReference};
use super::rules;
use crate::edge::{ClientAuth, TlsVersion};

/// What senders connect to: a port and exactly one of mqtt, http, udp and coap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSpec {
    /// Name of the endpoint, by which routes refer to it; also the name of the port in the Service.
    #[schemars(length(min = 1, max = 15), regex(pattern = PORT_NAME))]
    pub name: String,
    /// Port on which the pods listen. Unprivileged, as pods run without the right to open others.
    #[schemars(range(min = 1_024, max = 65_535))]
    pub port: i32,
    /// What it speaks.
    #[serde(flatten)]
    pub protocol: Protocol,
    /// TLS to senders. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EndpointTls>,
    /// The client's address from a load balancer in front: PROXY protocol, version 2. Default: none is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Who may send. Default: whoever reaches the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<EndpointAuthentication>,
    /// What the endpoint may hold, in each pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How senders reach the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
}

/// What an endpoint speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// MQTT 3.1.1 and 5 over TCP.
    Mqtt(Mqtt),
    /// HTTP/1.1 and HTTP/2; POST and PUT take one message a request.
    Http(Http),
    /// One message a datagram.
    Udp(Datagrams),
    /// CoAP (RFC 7252) over UDP.
    Coap(Coap),
}

impl Protocol {
    /// The member of the union that is set.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mqtt(_) => "mqtt",
            Self::Http(_) => "http",
            Self::Udp(_) => "udp",
            Self::Coap(_) => "coap",
        }
    }
}

/// MQTT 3.1.1 and 5 over TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mqtt {
    /// Highest quality of service that senders may use. Default: the highest that is served, in this version
    /// ExactlyOnce.
    #[serde(rename = "maximumQoS", skip_serializing_if = "Option::is_none")]
    pub maximum_qos: Option<Qos>,
    /// How many messages a client may have unacknowledged (Receive Maximum of MQTT 5). A client of 3.1.1 is not read
    /// from while it has that many. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub receive_maximum: Option<i32>,
    /// How many topic aliases a client of MQTT 5 may use in a connection (Topic Alias Maximum); 0 forbids them, which
    /// helps clients that repeat a message with the alias of an earlier connection. Default: 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 256))]
    pub topic_alias_maximum: Option<i32>,
    /// Longest Keep Alive that a client may have. A client of MQTT 5 that asks for a longer one, or for none, is told
    /// this one instead (Server Keep Alive); one of 3.1.1 cannot be told and is refused. Default: none, each client's own
    /// holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub maximum_keep_alive_seconds: Option<i32>,
    /// Longest time for which the session of a client that is away is kept; 0 keeps none. Where it is kept, sessions
    /// says. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub session_expiry_seconds: Option<i32>,
    /// How long a Will waits for its client to come back after the pod that served it has gone, by a drain or by its
    /// death, before it is published; never less than the client's own Will Delay Interval. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub will_grace_seconds: Option<i32>,
    /// MQTT over WebSocket, and not over TCP: browsers and networks that let only HTTP pass. Use a second endpoint for
    /// TCP. Default: MQTT over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_socket: Option<WebSocket>,
}

/// MQTT over WebSocket (MQTT 5 §6), subprotocol `mqtt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebSocket {
    /// Path of the upgrade request. Default: /mqtt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = WEB_SOCKET_PATH))]
    pub path: Option<String>,
}

/// HTTP/1.1 and HTTP/2 without TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Path below which the paths of routes lie. Default: /.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^/[^?#\\s]*$"))]
    pub base_path: Option<String>,
}

/// One message a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Datagrams {
    /// Whether a datagram is answered when its message is persisted. Default: None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<UdpAcknowledgement>,
}

/// Whether datagrams are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum UdpAcknowledgement {
    /// Never: senders cannot know what arrived.
    None,
    /// With a datagram that names the message, once it is persisted.
    AfterPersist,
}

/// CoAP over UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coap {}

/// A path without query and fragment.
const WEB_SOCKET_PATH: &str = r"^/[-._~!$&'()*+,;=:@%/a-zA-Z0-9]*$";

/// TLS to senders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::endpoint_tls()))]
pub struct EndpointTls {
    /// The Secret of type kubernetes.io/tls with the certificate (tls.crt) and its key (tls.key), as cert-manager writes
    /// it. A renewed one is taken over within seconds of its arrival in the pods; no connection ends for it.
    pub certificate_secret: NameReference,
    /// Whether senders show a certificate. Default: None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// The certificates that sign those of senders, in PEM. Connections of senders whose certificate none of them signs
    /// any more end within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_secret: Option<CaSecret>,
    /// Lowest version of TLS that is spoken. Default: Tls12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_version: Option<TlsVersion>,
}

/// PROXY protocol, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Addresses of the load balancers, as ranges. A connection from there must begin with a header and is closed if it
    /// does not; one from elsewhere is taken as it is, and a header from there is refused as what it is not.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 64), regex(pattern = CIDR)), transform = bounds::set)]
    pub trusted_sources: Vec<String>,
}

/// What an endpoint may hold, in each pod. Every buffered byte is taken from these budgets before it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::limits()))]
pub struct Limits {
    /// Connections at once. Default: 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// Connections accepted in a second; as many again may come at once. Beyond that MQTT 5 is told 0x9F, HTTP 503 with
    /// Retry-After, others are closed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_connections_per_second: Option<i32>,
    /// Largest message in bytes: Maximum Packet Size of MQTT, body of HTTP. Default: 262144 (256 KiB).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 268_435_455))]
    pub max_message_bytes: Option<i64>,
    /// Bytes held at once by all connections of the endpoint. Default: 67108864 (64 MiB), or
    /// maxInFlightBytesPerConnection if that is more, but not more than edge.maxInFlightBytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_384, max = 1_099_511_627_776_i64))]
    pub max_in_flight_bytes: Option<i64>,
    /// Messages held at once by all connections of the endpoint. Default: 100000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_in_flight_messages: Option<i32>,
    /// Bytes held at once by one connection. Default: 1048576 (1 MiB), or twice maxMessageBytes if that is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_384, max = 1_099_511_627_776_i64))]
    pub max_in_flight_bytes_per_connection: Option<i64>,
}

/// How senders reach an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::exposure()))]
pub struct Exposure {
    /// Type of the Service, or Pod for no Service at all: then the endpoint listens on loopback, for adapters.
    /// Default: ClusterIP.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ExposureType>,
    /// Annotations of the Service. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::map::<32, 4_096>)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Whether traffic from outside may take a second hop to reach a pod (Cluster), which hides the sender's address.
    /// Only with NodePort and LoadBalancer. Default: Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
}

/// How senders reach an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum ExposureType {
    /// From inside the cluster.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// On a port of every node.
    NodePort,
    /// Through a load balancer of the cloud.
    LoadBalancer,
    /// From inside the pod only.
    Pod,
}

/// The `externalTrafficPolicy` of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum TrafficPolicy {
    /// Any pod; the sender's address is hidden.
    Cluster,
    /// Pods of the node that traffic arrives at.
    Local,
}

//! `spec.endpoints[]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, CaSecret, NameReference, PORT_NAME, UsersSecret};
use super::delivery::Qos;
use super::rules;

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
    /// AtLeastOnce.
    #[serde(rename = "maximumQoS", skip_serializing_if = "Option::is_none")]
    pub maximum_qos: Option<Qos>,
    /// How many messages a client may have unacknowledged (Receive Maximum of MQTT 5). A client of 3.1.1 is not read
    /// from while it has that many. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub receive_maximum: Option<i32>,
    /// Longest time for which the session of a client that is away is kept; 0 keeps none. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub session_expiry_seconds: Option<i32>,
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

/// TLS to senders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::endpoint_tls()))]
pub struct EndpointTls {
    /// The Secret of type kubernetes.io/tls with the certificate and its key; a renewed one is taken over at once.
    pub certificate_secret: NameReference,
    /// Whether senders show a certificate. Default: None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
    /// The certificates that sign those of senders, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_secret: Option<CaSecret>,
}

/// Whether senders show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum ClientCertificates {
    /// They are not asked for one.
    None,
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// Who may send: exactly one way to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndpointAuthentication {
    /// User names and passwords.
    Basic(Basic),
}

/// User names and passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// The Secret that lists users with the hashes of their passwords.
    pub users_secret: UsersSecret,
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

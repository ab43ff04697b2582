//! `spec.routes[]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, JSON_POINTER, LABEL, PORT_NAME};
use super::references::SchemaConfigMap;

/// Which messages go to which topic, under which key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// Name of the route.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// Where messages come from.
    #[schemars(length(min = 1, max = 16), transform = bounds::atomic)]
    pub from: Vec<SourceSpec>,
    /// Where they go.
    pub to: TargetSpec,
    /// Key of the records: text with captures in braces, such as '{project}/{device}'. Every source must bind each of
    /// them; {source}, the sender's IP address, is always bound, and {clientId} by MQTT. Messages of one key keep
    /// their order. Default: no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub key: Option<String>,
    /// Who may send by this route: for each capture named here, the text that it must be, of {identity}, the name that
    /// the sender proved, of {claims.NAME}, a claim of its JWT, and of other text: 'project: "{claims.project}"'. A
    /// claim that is a list stands for any of its elements. All must hold; what is not allowed is refused and never
    /// dead-lettered. Every source must bind the captures (by MQTT also clientId), and every endpoint must have
    /// authentication. Default: whoever the endpoint lets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::map::<16, 512>)]
    pub allow: Option<BTreeMap<String, String>>,
    /// Where in a payload the time of the event is. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
    /// What payloads must look like; others go to the dead letter or are refused. Default: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// A source of a route: an endpoint and which of its messages. MQTT needs topicFilter, HTTP and CoAP need path, UDP
/// takes neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// Name of the endpoint.
    #[schemars(length(min = 1, max = 15), regex(pattern = PORT_NAME))]
    pub endpoint: String,
    /// MQTT topic filter, in which a level may be a capture: 'v1/{project}/+/#'.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub topic_filter: Option<String>,
    /// Path below the endpoint's basePath, in which a segment may be a capture: '/v1/{project}/{device}'.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    /// Name of an element of topics.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub topic: String,
}

/// Where in a payload the time of the event is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTime {
    /// JSON pointer (RFC 6901) to RFC 3339 text or to a number of Unix milliseconds. A payload without it is stored
    /// without an event time.
    #[schemars(length(min = 0, max = 512), regex(pattern = JSON_POINTER))]
    pub json_pointer: String,
}

/// What payloads must look like. Payloads are read, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// A JSON Schema that payloads must match.
    pub json_schema: JsonSchemaSource,
}

/// Where a JSON Schema is kept: exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JsonSchemaSource {
    /// A ConfigMap in the namespace of the pipeline.
    ConfigMap(SchemaConfigMap),
}

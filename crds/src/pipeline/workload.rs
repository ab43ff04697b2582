//! `spec.edge`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::bounds::{self, DATA_KEY, ENV_NAME, IMAGE, LABEL, NameReference, OBJECT_NAME, QUANTITY};
use super::rules;

/// The pods that serve the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Number of pods; not together with autoscaling. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub replicas: Option<i32>,
    /// Image of the sidecar. Default: that of the operator's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE))]
    pub image: Option<String>,
    /// CPU and memory of the sidecar. Default: none requested, none limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How a pod ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Bytes that all endpoints together may hold, in each pod. Default: 268435456 (256 MiB).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_384, max = 1_099_511_627_776_i64))]
    pub max_in_flight_bytes: Option<i64>,
    /// Your own containers in the pod, beside the sidecar: a protocol gateway, a poller, an agent. They reach the
    /// endpoints on localhost; the sidecar listens before they start and until they have ended. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 8), transform = bounds::keyed_by_name)]
    pub adapters: Option<Vec<Adapter>>,
    /// Secrets with credentials for pulling images. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 16), transform = bounds::keyed_by_name)]
    pub image_pull_secrets: Option<Vec<NameReference>>,
    /// Further labels of the pods. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::map::<32, 63>)]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// Further annotations of the pods. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::map::<32, 4_096>)]
    pub pod_annotations: Option<BTreeMap<String, String>>,
    /// Labels that a node must have to run the pods. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::map::<32, 63>)]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that the pods tolerate. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 32), transform = bounds::foreign, transform = bounds::atomic)]
    pub tolerations: Option<Vec<Toleration>>,
    /// Where the pods prefer to run. Default: apart from each other, on different nodes where possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounds::foreign)]
    pub affinity: Option<Affinity>,
    /// PriorityClass of the pods. Default: that of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub priority_class_name: Option<String>,
    /// ServiceAccount of the pods. Default: one without rights, made by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub service_account_name: Option<String>,
}

/// How a pod ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long new connections are still accepted after the pod has said that it is not ready, so that load
    /// balancers can take note. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub accept_seconds: Option<i32>,
    /// Over how long clients are told to leave, so that they do not all come back at once. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3_600))]
    pub client_seconds: Option<i32>,
}

/// CPU and memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for it, by resource: cpu, memory, ephemeral-storage. Default: as limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// What it may use at most, by resource. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// A Kubernetes quantity: `500m`, `1.5`, `512Mi`, or a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity: text or an integer")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "pattern": QUANTITY,
            "maxLength": 32,
        })
    }
}

/// A container of your own in the edge pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::adapter()))]
pub struct Adapter {
    /// Name of the container.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// Its image.
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE))]
    pub image: String,
    /// What it runs. Default: the entry point of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 32), inner(length(max = 4_096)), transform = bounds::atomic)]
    pub command: Option<Vec<String>>,
    /// Arguments. Default: those of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 64), inner(length(max = 4_096)), transform = bounds::atomic)]
    pub args: Option<Vec<String>>,
    /// Environment variables. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 64), transform = bounds::keyed_by_name)]
    pub env: Option<Vec<EnvVariable>>,
    /// CPU and memory. Default: none requested, none limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// An environment variable, with exactly one of value and valueFrom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVariable {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = ENV_NAME))]
    pub name: String,
    /// Its value.
    #[serde(flatten)]
    pub value: EnvValue,
}

/// Value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// As it is.
    Value(#[schemars(length(max = 4_096))] String),
    /// From elsewhere.
    ValueFrom(EnvSource),
}

/// Where the value of an environment variable comes from: exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EnvSource {
    /// A key of a Secret in the namespace of the pipeline.
    SecretKeyRef(KeySelector),
    /// A key of a ConfigMap in the namespace of the pipeline.
    ConfigMapKeyRef(KeySelector),
}

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySelector {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Its key.
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

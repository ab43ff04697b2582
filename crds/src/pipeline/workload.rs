//! `spec.edge`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
use super::bounds::{self, IMAGE, OBJECT_NAME};
use super::references::NameReference;
use super::resources::Resources;

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

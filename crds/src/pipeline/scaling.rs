//! `spec.autoscaling` and `spec.networkPolicy`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, CIDR};
use super::rules;

/// Scales the edge pods by their load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::autoscaling()))]
pub struct Autoscaling {
    /// Fewest pods; never 0, as there would be nobody to send to. Default: 2, or maxReplicas if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_replicas: Option<i32>,
    /// Most pods.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_replicas: i32,
    /// What decides. Default: HorizontalPodAutoscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<AutoscalingProvider>,
    /// What is measured; the measure that asks for most pods wins. Default: Cpu at 70 percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), transform = bounds::atomic)]
    pub metrics: Option<Vec<Metric>>,
}

/// What decides on the number of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum AutoscalingProvider {
    /// Kubernetes' own autoscaler; needs the metrics server.
    HorizontalPodAutoscaler,
}

/// A measure of load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// What is measured.
    #[serde(rename = "type")]
    pub type_: MetricType,
    /// At which percentage of what a pod may use more pods are added.
    #[schemars(range(min = 1, max = 100))]
    pub target_percent: i32,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum MetricType {
    /// CPU time of the sidecar, against its request.
    Cpu,
}

/// Who may reach the edge pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::network_policy()))]
pub struct NetworkPolicy {
    /// Whether the operator writes a NetworkPolicy that opens the ports of endpoints and nothing else.
    /// Default: Managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkPolicyMode>,
    /// The address ranges from which endpoints may be reached, in CIDR notation. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 0, max = 64),
        inner(length(min = 4, max = 49), regex(pattern = CIDR)),
        transform = bounds::set
    )]
    pub allowed_sources: Option<Vec<String>>,
}

/// Who writes the NetworkPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum NetworkPolicyMode {
    /// The operator.
    Managed,
    /// Nobody, or somebody else.
    Disabled,
}

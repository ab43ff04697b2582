//! `spec.edge.adapters[]`: containers of the user's own in the edge pod.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, DATA_KEY, ENV_NAME, IMAGE, LABEL, MOUNT_PATH, OBJECT_NAME};
use super::resources::{Quantity, Resources};
use super::rules;

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
    /// When the image is pulled. Default: Always if its tag is latest or missing, else IfNotPresent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// The user that it runs as, never root. Default: 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// Folders that begin empty and end with the pod; adapters that name the same one share it. Its root file system
    /// is read-only beside them. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 0, max = 16), transform = bounds::keyed_by_name)]
    pub empty_dirs: Option<Vec<EmptyDir>>,
    /// Holds the other two probes back until it succeeds. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Restarts the container when it fails. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Takes the pod out of its Services while it fails. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// How long it may take to end after SIGTERM. The sidecar serves it until then. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3_600))]
    pub stop_seconds: Option<i32>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = bounds::described_by_field)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

/// A folder that begins empty and ends with the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// Name of the folder.
    #[schemars(length(min = 1, max = 48), regex(pattern = LABEL))]
    pub name: String,
    /// Where the container sees it.
    #[schemars(length(min = 2, max = 1_024), regex(pattern = MOUNT_PATH))]
    pub mount_path: String,
    /// What it may hold at most. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// A probe of a container: exactly one of httpGet, tcpSocket and exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// What is done.
    #[serde(flatten)]
    pub action: ProbeAction,
    /// Pause before the first time. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3_600))]
    pub initial_delay_seconds: Option<i32>,
    /// Pause between two times. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub period_seconds: Option<i32>,
    /// How long an answer may take. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_seconds: Option<i32>,
    /// How many failures in a row count. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub failure_threshold: Option<i32>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProbeAction {
    /// Expects an answer of 200 to 399.
    HttpGet(HttpProbe),
    /// Expects that a connection is accepted.
    TcpSocket(TcpProbe),
    /// Expects that a command in the container ends with 0.
    Exec(ExecProbe),
}

/// A GET request to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Its path. Default: /.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_024))]
    pub path: Option<String>,
    /// Its port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

/// A connection to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// Its port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

/// A command in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecProbe {
    /// Program and arguments.
    #[schemars(length(min = 1, max = 32), inner(length(max = 4_096)), transform = bounds::atomic)]
    pub command: Vec<String>,
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

//! Names that are for ever: labels, annotations, field managers, and what children are called.
//! `docs/how-a-reconcile-runs.md` tells them to users.

use sha2::{Digest, Sha256};

/// Field manager of everything but status.
pub const FIELD_MANAGER: &str = "penstock-operator";
/// Field manager of status.
pub const STATUS_FIELD_MANAGER: &str = "penstock-operator-status";
/// The label that names the pipeline of a child, and the only one that pods are selected by.
pub const PIPELINE_LABEL: &str = "penstock.dev/pipeline";
/// On a child: hash of what was last written, so that an unchanged one is not written again.
pub const PLAN_ANNOTATION: &str = "penstock.dev/plan-hash";
/// On Deployment and pods: hash of the configuration that they run.
pub const CONFIG_ANNOTATION: &str = "penstock.dev/config-hash";
/// On pods: hash of the uids and resourceVersions of what they read at their start only.
pub const REFERENCES_ANNOTATION: &str = "penstock.dev/references-hash";
/// On the Deployment: generation and references that it was written for, by which an operator tells its own upgrade from
/// a change of the pipeline.
pub const CAUSE_ANNOTATION: &str = "penstock.dev/cause";
/// On a pipeline: `true` holds the operator off.
pub const PAUSE_ANNOTATION: &str = "penstock.dev/pause-reconciliation";
/// On a pipeline: `true` lets it take over topics that are there already.
pub const ADOPT_ANNOTATION: &str = "penstock.dev/adopt";

/// Name of the sidecar's container.
pub const CONTAINER: &str = "penstock";
/// Key of the configuration in its ConfigMap.
pub const CONFIG_KEY: &str = "edge.json";

/// Longest name of a Service: an RFC 1035 label.
const SERVICE_NAME: usize = 63;

/// The first `digits` hexadecimal digits of the SHA-256 of `bytes`.
#[must_use]
pub fn hash(bytes: &[u8], digits: usize) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(digits).collect()
}

/// Deployment, PodDisruptionBudget, NetworkPolicy and HorizontalPodAutoscaler are named as the pipeline.
#[must_use]
pub fn deployment(pipeline: &str) -> String {
    pipeline.to_owned()
}

/// The ServiceAccount that the operator makes.
#[must_use]
pub fn service_account(pipeline: &str) -> String {
    format!("{pipeline}-edge")
}

/// The ConfigMap with the configuration of hash `config_hash`.
#[must_use]
pub fn config_map(pipeline: &str, config_hash: &str) -> String {
    format!("{pipeline}-edge-{config_hash}")
}

/// The Service of an endpoint: `PIPELINE-ENDPOINT`. Where that is no name of a Service (too long, a dot, a digit in
/// front), it is brought into shape and ends in a hash, so that no two meet.
#[must_use]
pub fn service(pipeline: &str, endpoint: &str) -> String {
    let plain = format!("{pipeline}-{endpoint}");
    let label = plain.starts_with(|c: char| c.is_ascii_lowercase()) && !plain.contains('.');
    if label && plain.len() <= SERVICE_NAME {
        return plain;
    }
    let suffix = format!("-{}", hash(plain.as_bytes(), 8));
    let shaped = plain.replace('.', "-");
    let shaped = if shaped.starts_with(|c: char| c.is_ascii_digit()) { format!("p{shaped}") } else { shaped };
    let kept: String = shaped.chars().take(SERVICE_NAME - suffix.len()).collect();
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn services_have_plain_names_where_kubernetes_allows() {
        assert_eq!(service("telemetry", "mqtt"), "telemetry-mqtt");
        for (pipeline, endpoint) in
            [("a.b", "mqtt"), ("9lives", "mqtt"), (&*"x".repeat(52), "fifteen-letters")]
        {
            let name = service(pipeline, endpoint);
            assert!(
                name.len() <= 63 && !name.contains('.') && name.starts_with(|c: char| c.is_ascii_lowercase())
            );
        }
        assert_ne!(service("a.b", "mqtt"), service("a-b", "mqtt"));
    }
}

//! The Deployment.

use serde_json::json;

use super::pod::Pods;
use super::{Child, ChildKind, scaling};
use crate::names::{CAUSE_ANNOTATION, CONFIG_ANNOTATION, deployment as deployment_name};

/// The default of `spec.revisionHistoryLimit`.
pub(crate) const REVISIONS: i32 = 3;
/// Beyond the time that a pod must have been ready, how long a rollout may make no progress before it counts as stuck.
const PROGRESS_SECONDS: u32 = 300;

/// Rolls one pod at a time, a new one first, and waits after each as long as load balancers take to notice: clients hold
/// their connections for long, and all of them come to the others.
pub(super) fn deployment(pods: &Pods<'_>) -> Child {
    let owner = pods.owner;
    let spec = &owner.pipeline.spec;
    let settle = pods.edge.drain.accept_seconds;
    let mut body = json!({
        "selector": {"matchLabels": owner.selector()},
        "revisionHistoryLimit": spec.revision_history_limit.unwrap_or(REVISIONS),
        "minReadySeconds": settle,
        "progressDeadlineSeconds": settle + PROGRESS_SECONDS,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": pods.template(),
    });
    if let Some(replicas) = scaling::named(owner) {
        body["replicas"] = json!(replicas);
    }
    let generation = owner.pipeline.metadata.generation.unwrap_or(0);
    let annotations = json!({
        CONFIG_ANNOTATION: pods.config_hash,
        CAUSE_ANNOTATION: format!("{generation}/{}", pods.references_hash),
    });
    let name = deployment_name(&owner.name);
    let mut child =
        owner.child(ChildKind::Deployment, name, json!({"annotations": annotations, "spec": body}));
    child.replicas_at_creation = Some(scaling::at_creation(owner));
    child
}

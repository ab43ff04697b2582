//! How far the pods are: `EdgeAvailable`, from the Deployment. Pure.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::core::DynamicObject;
use penstock_crds::pipeline::IngestPipelineSpec;

use crate::finding::Finding;
use crate::plan::scaling::{REPLICAS, fewest};
use crate::reason::Reason;

/// What a Deployment says.
#[derive(Clone, Debug)]
pub struct Rollout(Deployment);

impl Rollout {
    /// Reads a Deployment; none where it cannot be read.
    #[must_use]
    pub fn read(object: &DynamicObject) -> Option<Self> {
        serde_json::to_value(object).ok().and_then(|json| serde_json::from_value(json).ok()).map(Self)
    }

    fn count(&self, of: impl Fn(&DeploymentStatus) -> Option<i32>) -> i32 {
        self.0.status.as_ref().and_then(of).unwrap_or(0)
    }

    /// Pods, and ready pods.
    #[must_use]
    pub fn replicas(&self) -> (i32, i32) {
        (self.count(|status| status.replicas), self.count(|status| status.ready_replicas))
    }

    /// How many pods are asked for, by whoever decides on it.
    fn wanted(&self) -> i32 {
        self.0.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    /// Whether the Deployment's controller has seen its current generation, and no pod of an earlier one is left.
    #[must_use]
    pub fn is_of_one_generation(&self) -> bool {
        let observed = self.0.status.as_ref().and_then(|status| status.observed_generation);
        observed.is_some_and(|observed| Some(observed) >= self.0.metadata.generation)
            && self.count(|status| status.updated_replicas) >= self.count(|status| status.replicas)
    }

    /// Whether the rollout of the current generation is over.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_of_one_generation() && self.count(|status| status.available_replicas) >= self.wanted()
    }

    /// What its controller says of a condition of this status.
    fn says(&self, kind: &str, status: &str) -> Option<(&str, &str)> {
        let conditions = self.0.status.as_ref()?.conditions.as_ref()?;
        let found =
            conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)?;
        Some((found.reason.as_deref().unwrap_or_default(), found.message.as_deref().unwrap_or_default()))
    }

    /// Whether enough pods of the current generation are available. A step of an autoscaler asks for more pods than
    /// there have to be, so it changes nothing.
    #[must_use]
    pub fn edge_available(&self, spec: &IngestPipelineSpec) -> Finding {
        let named = spec.edge.as_ref().and_then(|edge| edge.replicas);
        let floor = spec.autoscaling.as_ref().map_or(REPLICAS, fewest);
        let needed = named.unwrap_or_else(|| floor.min(self.wanted()));
        let available = self.count(|status| status.available_replicas);
        if self.is_of_one_generation() && available >= needed {
            return Finding::holds(
                Reason::Available,
                "enough pods of the current configuration are available",
            );
        }
        if let Some((reason, message)) = self.says("ReplicaFailure", "True") {
            let message = format!("pods cannot be made ({reason}): {message}");
            return Finding::fails(Reason::RolloutStuck, message);
        }
        if let Some((reason, message)) = self.says("Progressing", "False") {
            let message = format!(
                "pods do not become available ({reason}): {message}; see kubectl describe pods -l penstock.dev/pipeline={}",
                self.0.metadata.name.as_deref().unwrap_or_default(),
            );
            return Finding::fails(Reason::RolloutStuck, message);
        }
        // No numbers: each step would be a write, and `replicas` and `readyReplicas` have them at the end.
        Finding::fails(Reason::RollingOut, "pods of the current configuration are not all available yet")
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use penstock_crds::manifest;
    use penstock_crds::pipeline::IngestPipelineSpec;
    use serde_json::{Value, json};

    use super::Rollout;
    use crate::reason::Reason;

    fn spec(edge: &str) -> IngestPipelineSpec {
        let text = include_str!("../../docs/examples/quickstart.yaml");
        manifest::read(&format!("{text}\n{edge}")).unwrap().spec
    }

    fn found(replicas: i32, status: Value, edge: &str) -> (bool, Reason) {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "p", "generation": 4},
            "spec": {"replicas": replicas, "selector": {}, "template": {}}, "status": status,
        }))
        .unwrap();
        let finding = Rollout::read(&object).unwrap().edge_available(&spec(edge));
        (finding.is_true(), finding.reason)
    }

    #[test]
    fn a_rollout_is_over_when_enough_pods_are_available_and_no_old_one_is_left() {
        let status = |observed: i32, all: i32, updated: i32, available: i32| json!({"observedGeneration": observed, "replicas": all, "updatedReplicas": updated, "availableReplicas": available});
        let edge = "  edge: {replicas: 2}";
        assert_eq!(found(2, status(4, 2, 2, 2), edge), (true, Reason::Available));
        assert_eq!(found(2, status(3, 2, 2, 2), edge), (false, Reason::RollingOut), "not seen yet");
        assert_eq!(found(2, status(4, 3, 2, 3), edge), (false, Reason::RollingOut), "an old pod is left");
        assert_eq!(found(2, status(4, 2, 2, 1), edge), (false, Reason::RollingOut));
        assert_eq!(found(2, json!({}), edge), (false, Reason::RollingOut));
        assert_eq!(
            found(0, json!({"observedGeneration": 4}), "  edge: {replicas: 0}"),
            (true, Reason::Available)
        );
    }

    #[test]
    fn a_step_of_an_autoscaler_leaves_it_available() {
        let edge =
            "  edge: {resources: {requests: {cpu: 1}}}\n  autoscaling: {minReplicas: 2, maxReplicas: 9}";
        let status =
            json!({"observedGeneration": 4, "replicas": 5, "updatedReplicas": 5, "availableReplicas": 2});
        assert_eq!(found(5, status, edge), (true, Reason::Available));
    }

    #[test]
    fn a_rollout_without_progress_is_stuck() {
        let status = json!({"observedGeneration": 4, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
        ]});
        assert_eq!(found(2, status, ""), (false, Reason::RolloutStuck));
    }
}

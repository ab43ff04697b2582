//! PodDisruptionBudget and HorizontalPodAutoscaler: how many pods there are.

use penstock_crds::pipeline::Autoscaling;
use serde_json::{Value, json};

use super::{Child, ChildKind, Owner};
use crate::names::{CONTAINER, deployment};

/// The default of `spec.edge.replicas`.
pub(crate) const REPLICAS: i32 = 2;
/// The default of `metrics[].targetPercent`.
const TARGET_PERCENT: i32 = 70;

/// One pod at a time, and a pod that is not ready anyway may always go: it must not block the drain of a node.
pub(super) fn disruption_budget(owner: &Owner<'_>) -> Child {
    let spec = json!({
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": owner.selector()},
    });
    owner.child(ChildKind::PodDisruptionBudget, deployment(&owner.name), json!({"spec": spec}))
}

/// Scales by the CPU of the sidecar alone, whatever runs beside it. Pods leave slowly: each one that goes sends its
/// clients to the others.
pub(super) fn autoscaler(owner: &Owner<'_>) -> Option<Child> {
    let scaling = owner.pipeline.spec.autoscaling.as_ref()?;
    let targets = scaling.metrics.as_ref().map_or_else(
        || vec![TARGET_PERCENT],
        |metrics| metrics.iter().map(|metric| metric.target_percent).collect(),
    );
    let metrics: Vec<Value> = targets
        .into_iter()
        .map(|percent| {
            json!({"type": "ContainerResource", "containerResource": {
                "name": "cpu",
                "container": CONTAINER,
                "target": {"type": "Utilization", "averageUtilization": percent},
            }})
        })
        .collect();
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment(&owner.name)},
        "minReplicas": fewest(scaling),
        "maxReplicas": scaling.max_replicas,
        "metrics": metrics,
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [
                    {"type": "Percent", "value": 100, "periodSeconds": 15},
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                ],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            },
        },
    });
    Some(owner.child(ChildKind::HorizontalPodAutoscaler, deployment(&owner.name), json!({"spec": spec})))
}

/// The fewest pods of an autoscaled pipeline.
pub(crate) fn fewest(scaling: &Autoscaling) -> i32 {
    scaling.min_replicas.unwrap_or_else(|| REPLICAS.min(scaling.max_replicas))
}

/// How many replicas the spec names, if it does.
pub(super) fn named(owner: &Owner<'_>) -> Option<i32> {
    owner.pipeline.spec.edge.as_ref().and_then(|edge| edge.replicas)
}

/// How many replicas a new Deployment begins with.
pub(super) fn at_creation(owner: &Owner<'_>) -> i32 {
    named(owner).unwrap_or_else(|| owner.pipeline.spec.autoscaling.as_ref().map_or(REPLICAS, fewest))
}

//! An operator that is upgraded brings another sidecar to every pipeline. Only a few roll at once, so that clients are
//! not all sent to and fro together, and a version that does not come up stops at those few.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;

use crate::names::{CAUSE_ANNOTATION, CONTAINER, PLAN_ANNOTATION};
use crate::plan::Child;
use crate::rollout::Rollout;

/// How long a permit counts before the watch must have shown the rollout that it was given for.
const PERMIT: Duration = Duration::from_secs(15);

/// Who may roll.
#[derive(Debug)]
pub struct Upgrades {
    most: usize,
    permits: Mutex<HashMap<String, Instant>>,
}

impl Upgrades {
    /// At most so many at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, permits: Mutex::default() }
    }

    /// Whether writing `planned` over `live` would roll pods for the sake of the operator alone: neither the pipeline nor
    /// what it refers to has changed since `live` was written.
    #[must_use]
    pub fn is_upgrade(planned: &Child, live: &DynamicObject) -> bool {
        let planned = planned.body.pointer("/metadata/annotations");
        let same = |key| {
            planned.and_then(|all| all.get(key)).and_then(Value::as_str)
                == live.annotations().get(key).map(String::as_str)
        };
        same(CAUSE_ANNOTATION) && !same(PLAN_ANNOTATION)
    }

    /// Takes a permit for the pipeline `uid`, unless as many as may are rolling among `deployments`.
    pub fn take<'d>(
        &self,
        uid: &str,
        image: &str,
        deployments: impl Iterator<Item = &'d DynamicObject>,
    ) -> bool {
        let mut permits = self.permits.lock();
        permits.retain(|_, at| at.elapsed() < PERMIT);
        let mut rolling: Vec<_> = deployments
            .filter(|deployment| is_rolling(deployment, image))
            .filter_map(|deployment| deployment.owner_references().first().map(|owner| owner.uid.clone()))
            .chain(permits.keys().cloned())
            .filter(|other| other != uid)
            .collect();
        rolling.sort_unstable();
        rolling.dedup();
        let granted = rolling.len() < self.most;
        if granted {
            permits.insert(uid.to_owned(), Instant::now());
        }
        granted
    }
}

/// Whether the pods of an earlier version are on their way to this operator's image.
fn is_rolling(deployment: &DynamicObject, image: &str) -> bool {
    let template = deployment.data.pointer("/spec/template/spec");
    let containers =
        ["containers", "initContainers"].into_iter().filter_map(|list| template?.get(list)?.as_array());
    let ours = |container: &Value| {
        container.get("name").and_then(Value::as_str) == Some(CONTAINER)
            && container.get("image").and_then(Value::as_str) == Some(image)
    };
    containers.flatten().any(ours)
        && Rollout::read(deployment).is_some_and(|rollout| !rollout.is_of_one_generation())
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use serde_json::json;

    use super::Upgrades;

    fn deployment(uid: &str, image: &str, replicas: i32, updated: i32) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": uid, "generation": 2, "ownerReferences": [
                {"apiVersion": "v1", "kind": "P", "name": uid, "uid": uid, "controller": true}]},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "penstock", "image": image}]}}},
            "status": {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated},
        }))
        .unwrap()
    }

    #[test]
    fn no_more_roll_at_once_than_may() {
        let upgrades = Upgrades::new(2);
        let none: [DynamicObject; 0] = [];
        assert!(upgrades.take("a", "new", none.iter()));
        assert!(upgrades.take("a", "new", none.iter()), "the same one again");
        let seen = [deployment("a", "new", 3, 1), deployment("b", "new", 3, 2)];
        assert!(!upgrades.take("c", "new", seen.iter()));
        let done = [deployment("a", "new", 2, 2), deployment("b", "old", 3, 2)];
        assert!(upgrades.take("c", "new", done.iter()));
        assert!(!upgrades.take("d", "new", done.iter()), "the permits of a and c are still warm");
    }

    #[test]
    fn a_new_pipeline_that_does_not_come_up_holds_nobody_back() {
        let upgrades = Upgrades::new(1);
        assert!(upgrades.take("a", "new", [deployment("b", "new", 2, 2)].iter()));
    }
}

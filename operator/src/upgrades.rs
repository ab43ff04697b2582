//! An operator that is upgraded brings another sidecar to every pipeline. Only a few roll at once, so that clients are
//! not all sent to and fro together, and a version that does not come up stops at those few.

use std::collections::{HashMap, HashSet};
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

/// How long a refusal holds for everybody: a thousand pipelines that wait ask in turn, and each answer takes a look at them
/// all.
const REFUSAL: Duration = Duration::from_secs(1);

/// Who may roll.
#[derive(Debug)]
pub struct Upgrades {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when, by the uid of the pipeline.
    permits: HashMap<String, Instant>,
    /// When one was refused last.
    refused: Option<Instant>,
}

impl Upgrades {
    /// At most so many at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
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

    /// Takes a permit for the pipeline `uid`, unless as many as may are rolling among `deployments`. Of these no more are
    /// read than it takes to know.
    pub fn take(&self, uid: &str, image: &str, deployments: impl Iterator<Item = DynamicObject>) -> bool {
        let State { permits, refused } = &mut *self.state.lock();
        permits.retain(|_, at| at.elapsed() < PERMIT);
        if !permits.contains_key(uid) && refused.is_some_and(|at| at.elapsed() < REFUSAL) {
            return false;
        }
        let mut rolling: HashSet<_> = permits.keys().filter(|other| *other != uid).cloned().collect();
        let mut others = deployments
            .filter(|deployment| is_rolling(deployment, image))
            .filter_map(|deployment| deployment.owner_references().first().map(|owner| owner.uid.clone()))
            .filter(|other| other != uid);
        while rolling.len() < self.most
            && let Some(other) = others.next()
        {
            rolling.insert(other);
        }
        let granted = rolling.len() < self.most;
        if granted {
            permits.insert(uid.to_owned(), Instant::now());
        } else {
            *refused = Some(Instant::now());
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
    use std::cell::Cell;
    use std::iter::empty;

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
        assert!(upgrades.take("a", "new", empty()));
        assert!(upgrades.take("a", "new", empty()), "the same one again");
        let seen = [deployment("a", "new", 3, 1), deployment("b", "new", 3, 2)];
        assert!(!upgrades.take("c", "new", seen.into_iter()));

        let upgrades = Upgrades::new(2);
        let done = || [deployment("a", "new", 2, 2), deployment("b", "old", 3, 2)].into_iter();
        assert!(upgrades.take("a", "new", done()));
        assert!(upgrades.take("c", "new", done()));
        assert!(!upgrades.take("d", "new", done()), "the permits of a and c are still warm");
    }

    #[test]
    fn a_refusal_holds_for_a_moment_and_nobody_who_rolls_is_stopped_by_it() {
        let upgrades = Upgrades::new(1);
        let looked = Cell::new(0);
        let rolling = || [deployment("b", "new", 3, 2), deployment("c", "new", 3, 2)];
        let watched = || rolling().into_iter().inspect(|_| looked.set(looked.get() + 1));
        assert!(upgrades.take("a", "new", empty()));
        assert!(!upgrades.take("d", "new", watched()));
        assert_eq!(looked.get(), 0, "the permit of a is enough");
        assert!(!upgrades.take("e", "new", watched()));
        assert!(upgrades.take("a", "new", empty()));

        let upgrades = Upgrades::new(1);
        assert!(!upgrades.take("d", "new", watched()));
        assert_eq!(looked.get(), 1, "the first that rolls is enough");
        assert!(!upgrades.take("e", "new", empty()));
    }

    #[test]
    fn a_new_pipeline_that_does_not_come_up_holds_nobody_back() {
        let upgrades = Upgrades::new(1);
        assert!(upgrades.take("a", "new", [deployment("b", "new", 2, 2)].into_iter()));
    }
}

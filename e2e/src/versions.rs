//! Every version of pipelines and Deployments that a watch sees.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::config::Kubeconfig;
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kstatus::{Kstatus, evaluate};
use crate::until::SOON;
use crate::{ApiServer, deployments, runtime, until};

/// How long a version may stay without a successor before it counts as the last one.
const QUIET: Duration = Duration::from_millis(500);

/// A watch, from [`Versions::watch`] until it is dropped.
pub struct Versions {
    seen: Arc<Mutex<Vec<Value>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Versions {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Versions {
    /// Begins to watch everywhere. What is there already is the first version.
    #[track_caller]
    pub fn watch(api: &ApiServer) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = [("penstock.dev", "v1alpha1", "IngestPipeline"), ("apps", "v1", "Deployment")].map(
            |(group, version, kind)| {
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
                let kubeconfig = Kubeconfig::read_from(api.kubeconfig()).expect("a kubeconfig");
                runtime::spawn(follow(kubeconfig, resource, Arc::clone(&seen)))
            },
        );
        Self { seen, tasks: tasks.into() }
    }

    /// All versions of a kind, in the order of the server.
    fn of(&self, kind: &str) -> Vec<Value> {
        let mut all: Vec<_> =
            self.seen.lock().iter().filter(|object| object["kind"] == kind).cloned().collect();
        all.sort_by_key(version);
        all
    }

    /// All versions of a pipeline.
    pub fn of_pipeline(&self, name: &str) -> Vec<Value> {
        let mut all = self.of("IngestPipeline");
        all.retain(|object| object["metadata"]["name"] == name);
        all
    }

    /// Waits until the watch has shown what the server has now.
    #[track_caller]
    pub fn catch_up(&self, api: &ApiServer) {
        until("the watch has shown every version", SOON, || {
            let shown = |kind: &str| {
                let now = api.objects(kind);
                now.iter().all(|object| self.seen.lock().iter().any(|seen| version(seen) == version(object)))
            };
            (shown("ipl") && shown("deployment")).then_some(())
        });
        // Times of two watches differ a little.
        let mut last = (std::time::Instant::now(), 0);
        until("no version comes any more", SOON, || {
            let count = self.seen.lock().len();
            if count != last.1 {
                last = (std::time::Instant::now(), count);
            }
            (last.0.elapsed() > QUIET).then_some(())
        });
    }

    /// Whenever a pipeline has become Current, its Deployment was written for that very generation and configuration,
    /// and all its pods were of it and available.
    ///
    /// # Panics
    /// When one was not.
    #[track_caller]
    pub fn assert_no_false_current(&self) {
        let deployments = self.of("Deployment");
        let mut before: HashMap<String, (Kstatus, i64)> = HashMap::new();
        for pipeline in self.of("IngestPipeline") {
            let uid = &pipeline["metadata"]["uid"];
            let generation = pipeline["metadata"]["generation"].as_i64().unwrap_or(0);
            let now = (evaluate(&pipeline), generation);
            if before.insert(uid.to_string(), now) == Some(now) || now.0 != Kstatus::Current {
                continue;
            }
            let of_it = |object: &&Value| object["metadata"]["ownerReferences"][0]["uid"] == *uid;
            let then = deployments.iter().filter(of_it).rfind(|object| version(object) < version(&pipeline));
            let then = then.unwrap_or_else(|| panic!("Current without a Deployment: {pipeline:#}"));
            let (metadata, status) = (&then["metadata"], &then["status"]);
            assert_eq!(
                metadata["annotations"]["penstock.dev/config-hash"], pipeline["status"]["configHash"],
                "Current with another configuration: {pipeline:#}\n{then:#}"
            );
            let cause = metadata["annotations"]["penstock.dev/cause"].as_str().unwrap_or_default();
            assert!(
                cause.starts_with(&format!("{generation}/")),
                "Current with a Deployment for {cause}: {pipeline:#}"
            );
            assert_eq!(status["observedGeneration"], metadata["generation"], "Current too early: {then:#}");
            for count in ["replicas", "updatedReplicas", "availableReplicas"] {
                assert_eq!(status[count], then["spec"]["replicas"], "Current too early: {then:#}");
            }
        }
    }

    /// No version of a pipeline says that somebody has to act.
    ///
    /// # Panics
    /// When one does.
    #[track_caller]
    pub fn assert_never_failed(&self, name: &str) {
        for version in self.of_pipeline(name) {
            assert_ne!(evaluate(&version), Kstatus::Failed, "{version:#}");
        }
    }

    /// The time of a condition stays as long as its status does.
    ///
    /// # Panics
    /// When one did not.
    #[track_caller]
    pub fn assert_times_move_with_status_only(&self) {
        let mut known: HashMap<(Value, String), (Value, Value)> = HashMap::new();
        for pipeline in self.of("IngestPipeline") {
            let uid = &pipeline["metadata"]["uid"];
            let conditions = pipeline["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let has = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind);
            known.retain(|(of, kind), _| of != uid || has(kind));
            for condition in &conditions {
                let kind = condition["type"].as_str().unwrap_or_default().to_owned();
                let now = (condition["status"].clone(), condition["lastTransitionTime"].clone());
                if let Some((status, time)) = known.insert((uid.clone(), kind), now.clone()) {
                    assert!(
                        status != now.0 || time == now.1,
                        "a time moved without its status: {pipeline:#}"
                    );
                }
            }
        }
    }
}

/// Versions of one etcd grow over all kinds.
fn version(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    text.parse().unwrap_or(0)
}

async fn follow(kubeconfig: Kubeconfig, resource: ApiResource, seen: Arc<Mutex<Vec<Value>>>) {
    let client = deployments::connect(kubeconfig).await;
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let changes = watcher(api, watcher::Config::default()).default_backoff();
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        let (watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = (match change {
            Ok(event) => event,
            Err(_) => continue,
        }) else {
            continue;
        };
        let mut object = json!(object);
        // Objects of a list come without it.
        object["kind"] = json!(resource.kind);
        seen.lock().push(object);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::Versions;

    fn pipeline(version: u64, conditions: Value) -> Value {
        json!({
            "kind": "IngestPipeline",
            "metadata": {"name": "a", "uid": "u", "generation": 2, "resourceVersion": version.to_string()},
            "status": {"observedGeneration": 2, "configHash": "h", "conditions": conditions},
        })
    }

    fn deployment(version: u64, cause: &str, hash: &str, available: i32) -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {
                "name": "a", "generation": 1, "resourceVersion": version.to_string(),
                "annotations": {"penstock.dev/cause": cause, "penstock.dev/config-hash": hash},
                "ownerReferences": [{"uid": "u"}],
            },
            "spec": {"replicas": 2},
            "status": {
                "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available,
            },
        })
    }

    fn are_fine(seen: Vec<Value>) -> bool {
        let versions = Versions { seen: Arc::new(Mutex::new(seen)), tasks: Vec::new() };
        let check = || {
            versions.assert_no_false_current();
            versions.assert_never_failed("a");
            versions.assert_times_move_with_status_only();
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
    }

    #[test]
    fn what_is_told_too_early_is_found() {
        let ready = |time: &str| json!([{"type": "Ready", "status": "True", "lastTransitionTime": time}]);
        let stalled = json!([{"type": "Stalled", "status": "True", "lastTransitionTime": "1"}]);
        let good = deployment(4, "2/x", "h", 2);
        assert!(are_fine(vec![good.clone(), pipeline(5, ready("1")), pipeline(6, ready("1"))]));
        for bad in [
            vec![pipeline(3, ready("1")), good.clone()],
            vec![deployment(4, "1/x", "h", 2), pipeline(5, ready("1"))],
            vec![deployment(4, "2/x", "other", 2), pipeline(5, ready("1"))],
            vec![deployment(4, "2/x", "h", 1), pipeline(5, ready("1"))],
            vec![good.clone(), pipeline(5, ready("1")), pipeline(6, ready("2"))],
            vec![good.clone(), pipeline(5, stalled)],
        ] {
            assert!(!are_fine(bad.clone()), "{bad:#?}");
        }
    }
}

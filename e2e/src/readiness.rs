//! How many pipelines are Ready, by a watch: to list thousands again and again would cost more than what is measured.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::config::Kubeconfig;
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{ApiServer, deployments, runtime};

/// A watch, until it is dropped.
pub struct Readiness {
    /// Uids.
    ready: Arc<Mutex<HashSet<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Readiness {
    /// Begins to watch everywhere.
    #[track_caller]
    pub fn watch(api: &ApiServer) -> Self {
        let kubeconfig = Kubeconfig::read_from(api.kubeconfig()).expect("a kubeconfig");
        let ready = Arc::default();
        let task = runtime::spawn(follow(kubeconfig, Arc::clone(&ready)));
        Self { ready, task }
    }

    /// How many pipelines are Ready at their current generation.
    pub fn count(&self) -> usize {
        self.ready.lock().len()
    }
}

async fn follow(kubeconfig: Kubeconfig, ready: Arc<Mutex<HashSet<String>>>) {
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("penstock.dev", "v1alpha1", "IngestPipeline"));
    let api: Api<DynamicObject> = Api::all_with(deployments::connect(kubeconfig).await, &resource);
    let mut changes = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(watcher::Event::InitApply(pipeline) | watcher::Event::Apply(pipeline)) => {
                let uid = pipeline.uid().unwrap_or_default();
                let _ =
                    if is_ready(&pipeline) { ready.lock().insert(uid) } else { ready.lock().remove(&uid) };
            }
            Ok(watcher::Event::Delete(pipeline)) => {
                ready.lock().remove(&pipeline.uid().unwrap_or_default());
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => {}
        }
    }
}

fn is_ready(pipeline: &DynamicObject) -> bool {
    let status = &pipeline.data["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    status["observedGeneration"].as_i64() == pipeline.metadata.generation
        && conditions
            .into_iter()
            .any(|condition: &Value| condition["type"] == "Ready" && condition["status"] == "True")
}

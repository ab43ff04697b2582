//! Plays the Deployment controller, the scheduler and kubelet: every Deployment is at once what it asks for. For tests
//! of the operator that need no pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{ApiServer, runtime};

/// The player; it stops when this is dropped.
pub struct Deployments {
    ready: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Deployments {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Deployments {
    /// Begins to play, with all pods available.
    #[track_caller]
    pub fn play(api: &ApiServer) -> Self {
        let ready = Arc::new(AtomicBool::new(true));
        let kubeconfig = Kubeconfig::read_from(api.kubeconfig()).expect("a kubeconfig");
        let task = runtime::spawn(play(kubeconfig, Arc::clone(&ready)));
        Self { ready, task }
    }

    /// From now on, whether new pods become available.
    pub fn pods_become_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }
}

async fn play(kubeconfig: Kubeconfig, ready: Arc<AtomicBool>) {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration");
    let client: Client =
        penstock_operator::client::connect(config, &penstock_operator::telemetry::Telemetry::default())
            .expect("a client");
    let all: Api<Deployment> = Api::all(client.clone());
    let changes = watcher(all, watcher::Config::default()).default_backoff().applied_objects();
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        let Ok(deployment) = change else { continue };
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let is_ready = ready.load(Ordering::SeqCst);
        let available = if is_ready { wanted } else { 0 };
        let status = DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas: Some(wanted),
            updated_replicas: Some(wanted),
            ready_replicas: Some(available),
            available_replicas: Some(available),
            ..DeploymentStatus::default()
        };
        let before = deployment.status.clone().unwrap_or_default();
        let same = before.observed_generation == status.observed_generation
            && before.replicas.unwrap_or(0) == wanted
            && before.available_replicas.unwrap_or(0) == available;
        if same {
            continue;
        }
        let api: Api<Deployment> =
            Api::namespaced(client.clone(), &deployment.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"status": status}));
        // Gone meanwhile, or changed: the watch tells.
        let _ = api.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await;
    }
}

//! Plays the Deployment controller, the scheduler and kubelet: every Deployment is at once what it asks for, unless its
//! pods are held back. For tests of the operator that need no pods.

use std::collections::HashMap;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{ApiServer, runtime};

/// The player; it stops when this is dropped.
pub struct Deployments {
    how: watch::Sender<How>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
struct How {
    /// Whether pods become available.
    ready: bool,
    /// Whether pods of an earlier template go.
    old_pods_go: bool,
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
        let (how, told) = watch::channel(How { ready: true, old_pods_go: true });
        let kubeconfig = Kubeconfig::read_from(api.kubeconfig()).expect("a kubeconfig");
        let task = runtime::spawn(play(kubeconfig, told));
        Self { how, task }
    }

    /// From now on, whether pods are available.
    pub fn pods_become_ready(&self, ready: bool) {
        self.how.send_modify(|how| how.ready = ready);
    }

    /// From now on, whether a rollout comes to its end: until then one pod of the earlier template is left.
    pub fn old_pods_go(&self, go: bool) {
        self.how.send_modify(|how| how.old_pods_go = go);
    }
}

/// A client of the API server, as its administrator.
pub(crate) async fn connect(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration");
    penstock_operator::client::connect(config, &penstock_operator::telemetry::Telemetry::default())
        .expect("a client")
}

async fn play(kubeconfig: Kubeconfig, mut told: watch::Receiver<How>) {
    let client = connect(kubeconfig).await;
    let all: Api<Deployment> = Api::all(client.clone());
    let changes = watcher(all.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let mut changes = std::pin::pin!(changes);
    // The template whose rollout has come to its end, by uid of the Deployment.
    let mut rolled = HashMap::new();
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(deployment)) => {
                    let how = *told.borrow();
                    step(&client, how, &mut rolled, &deployment).await;
                }
                Some(Err(_)) => {}
                None => return,
            },
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
                let how = *told.borrow_and_update();
                for deployment in all.list(&ListParams::default()).await.into_iter().flatten() {
                    step(&client, how, &mut rolled, &deployment).await;
                }
            }
        }
    }
}

async fn step(client: &Client, how: How, rolled: &mut HashMap<String, String>, deployment: &Deployment) {
    let spec = deployment.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let template = json!(spec.map(|spec| &spec.template)).to_string();
    let uid = deployment.uid().unwrap_or_default();
    let is_new = rolled.get(&uid).is_none_or(|before| *before == template);
    let old = i32::from(!is_new && !how.old_pods_go);
    if old == 0 {
        rolled.insert(uid, template);
    }
    let available = if how.ready { wanted } else { 0 };
    let status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(wanted + old),
        updated_replicas: Some(wanted),
        ready_replicas: Some(available),
        available_replicas: Some(available),
        ..DeploymentStatus::default()
    };
    let before = deployment.status.clone().unwrap_or_default();
    let same = before.observed_generation == status.observed_generation
        && before.replicas.unwrap_or(0) == wanted + old
        && before.updated_replicas.unwrap_or(0) == wanted
        && before.available_replicas.unwrap_or(0) == available;
    if same {
        return;
    }
    let api: Api<Deployment> = Api::namespaced(client.clone(), &deployment.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({"status": status}));
    // Gone meanwhile, or changed: the watch tells.
    let _ = api.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await;
}

//! The children of a pipeline, as the API server has them.

use serde_json::Value;

use crate::until::SOON;
use crate::{ApiServer, until};

const KINDS: [&str; 7] =
    ["configmap", "serviceaccount", "service", "networkpolicy", "pdb", "hpa", "deployment"];

impl ApiServer {
    /// The children of a pipeline in `iot`, with everything of the API server.
    #[track_caller]
    pub fn children(&self, pipeline: &str) -> Vec<Value> {
        KINDS
            .iter()
            .flat_map(|kind| self.objects(kind))
            .filter(|object| object["metadata"]["ownerReferences"][0]["name"] == pipeline)
            .collect()
    }

    /// What of the children is the operator's doing: without uids, versions, times, and configurations of the past.
    #[track_caller]
    pub fn essence(&self, pipeline: &str) -> Vec<Value> {
        let owner = self.object("ipl", pipeline).expect("a pipeline");
        let hash = owner["status"]["configHash"].as_str().expect("a hash in status").to_owned();
        let replicas_are_ours = owner["spec"]["edge"]["replicas"].is_i64();
        let mut all = self.children(pipeline);
        all.retain(|object| {
            object["kind"] != "ConfigMap"
                || object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(&hash))
        });
        for object in &mut all {
            bare(object);
            if object["kind"] == "Deployment" && !replicas_are_ours {
                object["spec"]["replicas"] = Value::Null;
            }
        }
        all.sort_by_key(|object| format!("{}/{}", object["kind"], object["metadata"]["name"]));
        all
    }

    /// Deletes a pipeline and plays the garbage collector.
    #[track_caller]
    pub fn delete_with_children(&self, pipeline: &str) {
        self.kubectl(&["delete", "ipl", pipeline, "-n", "iot"]).expect_ok();
        let (kinds, of_it) = (KINDS.join(","), format!("penstock.dev/pipeline={pipeline}"));
        self.kubectl(&["delete", &kinds, "-n", "iot", "-l", &of_it, "--wait=false"]).expect_ok();
        until("its children are gone", SOON, || self.children(pipeline).is_empty().then_some(()));
    }
}

/// Takes away what the API server adds and what counts the way.
fn bare(object: &mut Value) {
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        metadata.remove(field);
    }
    metadata["ownerReferences"][0]["uid"] = Value::Null;
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // They tell of the generation.
        annotations.remove("penstock.dev/cause");
        annotations.remove("penstock.dev/plan-hash");
    }
    object["status"] = Value::Null;
    let spec = &mut object["spec"];
    // The server's choice.
    for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
        spec.as_object_mut().map(|spec| spec.remove(field));
    }
    for port in spec.pointer_mut("/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        port.as_object_mut().map(|port| port.remove("nodePort"));
    }
}

//! Objects of the API server as they are now, read over a connection that stays: tests look many times a second, and a
//! kubectl for each look would be most of what they cost.

use http::{Request, StatusCode};
use kube::config::Kubeconfig;
use serde_json::Value;

use crate::deployments::connect;
use crate::{ApiServer, runtime};

/// Where the objects of a kind in `iot` are, by a name that kubectl knows, or by the kind.
#[track_caller]
fn collection(kind: &str) -> String {
    let (group, plural) = match &*kind.to_ascii_lowercase() {
        "ipl" | "ingestpipeline" => ("apis/penstock.dev/v1alpha1", "ingestpipelines"),
        "configmap" => ("api/v1", "configmaps"),
        "secret" => ("api/v1", "secrets"),
        "service" => ("api/v1", "services"),
        "serviceaccount" => ("api/v1", "serviceaccounts"),
        "deployment" => ("apis/apps/v1", "deployments"),
        "event" => ("apis/events.k8s.io/v1", "events"),
        "hpa" | "horizontalpodautoscaler" => ("apis/autoscaling/v2", "horizontalpodautoscalers"),
        "networkpolicy" => ("apis/networking.k8s.io/v1", "networkpolicies"),
        "pdb" | "poddisruptionbudget" => ("apis/policy/v1", "poddisruptionbudgets"),
        other => panic!("no path is known for {other}"),
    };
    format!("/{group}/namespaces/iot/{plural}")
}

impl ApiServer {
    /// An object as JSON, as kubectl shows it; nothing when it is not there.
    #[track_caller]
    pub fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let mut object = self.read(&format!("{}/{name}", collection(kind)))?;
        hide_managers(&mut object);
        Some(object)
    }

    /// All objects of a kind in `iot`, as kubectl shows them.
    #[track_caller]
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let mut list = self.read(&collection(kind)).unwrap_or_else(|| panic!("{kind} is not served"));
        // The items of a list do not say themselves what they are.
        let kind = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(Value::from);
        let (kind, version) = (kind.expect("a kind of list"), list["apiVersion"].take());
        let mut items: Vec<_> =
            list["items"].as_array_mut().expect("items").iter_mut().map(Value::take).collect();
        for item in &mut items {
            item["kind"] = kind.clone();
            item["apiVersion"] = version.clone();
            hide_managers(item);
        }
        items
    }

    /// What the API server answers; nothing for 404.
    #[track_caller]
    fn read(&self, path: &str) -> Option<Value> {
        let client = self.client.get_or_init(|| {
            runtime::wait(connect(Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig")))
        });
        let request = Request::get(path).body(Vec::new()).expect("a request");
        match runtime::wait(client.request(request)) {
            Ok(value) => Some(value),
            Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

/// Leaves away who manages which fields, as kubectl does.
fn hide_managers(object: &mut Value) {
    object["metadata"].as_object_mut().map(|metadata| metadata.remove("managedFields"));
}

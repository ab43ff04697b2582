//! What Kubernetes would refuse of the pods, told of the pipeline's own fields.

use std::collections::{BTreeMap, HashMap};

use crate::edge::ADMIN_PORT_NAME;
use crate::labels;
use crate::pipeline::{Edge, IngestPipelineSpec, Resources};
use crate::problem::{Problem, below, element};

/// The prefix of labels and annotations that are ours.
const OURS: &str = "penstock.dev/";
/// Labels that the operator sets on pods.
const SET_BY_OPERATOR: &str = "app.kubernetes.io/";

pub(super) fn check(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        if endpoint.name == ADMIN_PORT_NAME {
            problems.push(Problem::new(
                below(&element("spec.endpoints", index), "name"),
                format!("{ADMIN_PORT_NAME} is the name of the sidecar's own port"),
                "choose another name",
            ));
        }
    }
    let none = Edge::default();
    let edge = spec.edge.as_ref().unwrap_or(&none);
    all_of("spec.edge.podLabels", edge.pod_labels.as_ref(), true, problems);
    all_of("spec.edge.nodeSelector", edge.node_selector.as_ref(), false, problems);
    for key in edge.pod_annotations.iter().flat_map(BTreeMap::keys) {
        key_of("spec.edge.podAnnotations", key, &[OURS], problems);
    }
    resources("spec.edge.resources", edge.resources.as_ref(), problems);
    if spec.autoscaling.is_some() && !requests_cpu(edge.resources.as_ref()) {
        problems.push(Problem::new(
            "spec.edge.resources.requests.cpu",
            "autoscaling measures CPU against what the sidecar requests, and it requests none",
            "set it, for instance to 500m",
        ));
    }
    for (index, adapter) in edge.adapters.iter().flatten().enumerate() {
        let path = element("spec.edge.adapters", index);
        resources(&below(&path, "resources"), adapter.resources.as_ref(), problems);
        let mut seen = HashMap::new();
        for (index, folder) in adapter.empty_dirs.iter().flatten().enumerate() {
            if let Some(first) = seen.insert(&folder.mount_path, &folder.name) {
                problems.push(Problem::new(
                    below(&element(&below(&path, "emptyDirs"), index), "mountPath"),
                    format!("{first} and {} are mounted at the same place", folder.name),
                    "give each its own mountPath",
                ));
            }
        }
    }
}

/// Whether CPU is requested, by itself or as much as its limit.
fn requests_cpu(resources: Option<&Resources>) -> bool {
    let has = |list: &Option<BTreeMap<_, _>>| list.as_ref().is_some_and(|list| list.contains_key("cpu"));
    resources.is_some_and(|resources| has(&resources.requests) || has(&resources.limits))
}

fn resources(path: &str, resources: Option<&Resources>, problems: &mut Vec<Problem>) {
    let Some(resources) = resources else { return };
    for (kind, list) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, quantity) in list.iter().flatten() {
            let path = below(&below(path, kind), name);
            if quantity.nanos().is_none_or(|nanos| nanos < 0) {
                problems.push(Problem::new(
                    path,
                    format!("'{}' is not an amount", quantity.0),
                    "use 500m, 2 or 512Mi",
                ));
            } else if kind == "requests"
                && let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get(name))
                && quantity.nanos() > limit.nanos()
            {
                problems.push(Problem::new(
                    path,
                    format!("{} are requested, and {} is the limit", quantity.0, limit.0),
                    "lower it, or raise the limit",
                ));
            }
        }
    }
}

fn all_of(
    path: &str,
    labels: Option<&BTreeMap<String, String>>,
    of_our_pods: bool,
    problems: &mut Vec<Problem>,
) {
    let reserved: &[&str] = if of_our_pods { &[OURS, SET_BY_OPERATOR] } else { &[] };
    for (key, value) in labels.into_iter().flatten() {
        key_of(path, key, reserved, problems);
        problems.extend(labels::wrong_value(&format!("{path}['{key}']"), value));
    }
}

fn key_of(path: &str, key: &str, reserved: &[&str], problems: &mut Vec<Problem>) {
    if let Some(wrong) = labels::wrong_key(path, key) {
        problems.push(wrong);
    } else if reserved.iter().any(|ours| key.starts_with(ours)) {
        problems.push(Problem::new(
            path.to_owned(),
            format!("'{key}' is set by the operator"),
            "choose another prefix",
        ));
    }
}

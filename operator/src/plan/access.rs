//! Services and NetworkPolicy: who reaches the pods.

use penstock_crds::edge::{EdgeConfig, EndpointConfig};
use penstock_crds::pipeline::{ExposureType, NetworkPolicyMode, TrafficPolicy};
use serde_json::{Value, json};

use super::{Child, ChildKind, Owner};
use crate::names::{deployment, service};

/// One for each endpoint that is not for the pod alone.
pub(super) fn services(owner: &Owner<'_>, edge: &EdgeConfig) -> Vec<Child> {
    edge.endpoints.iter().filter(|endpoint| !endpoint.loopback).map(|endpoint| of(owner, endpoint)).collect()
}

fn of(owner: &Owner<'_>, endpoint: &EndpointConfig) -> Child {
    let declared = owner.pipeline.spec.endpoints.iter().find(|declared| declared.name == endpoint.name);
    let exposure = declared.and_then(|declared| declared.exposure.clone()).unwrap_or_default();
    let kind = match exposure.type_ {
        None | Some(ExposureType::ClusterIp | ExposureType::Pod) => "ClusterIP",
        Some(ExposureType::NodePort) => "NodePort",
        Some(ExposureType::LoadBalancer) => "LoadBalancer",
    };
    let mut spec = json!({
        "type": kind,
        "selector": owner.selector(),
        "ports": [{
            "name": endpoint.name,
            "port": endpoint.port,
            "protocol": "TCP",
            // By name: while a rollout changes the number, each pod is reached on its own.
            "targetPort": endpoint.name,
        }],
    });
    if kind != "ClusterIP" {
        spec["externalTrafficPolicy"] = match exposure.external_traffic_policy {
            None | Some(TrafficPolicy::Cluster) => json!("Cluster"),
            Some(TrafficPolicy::Local) => json!("Local"),
        };
    }
    let name = service(&owner.name, &endpoint.name);
    let annotations = exposure.annotations.unwrap_or_default();
    owner.child(ChildKind::Service, name, json!({"annotations": annotations, "spec": spec}))
}

/// Opens the ports of endpoints to the allowed sources, and the admin port, which only reads, to whoever probes it.
pub(super) fn network_policy(owner: &Owner<'_>, edge: &EdgeConfig) -> Option<Child> {
    let policy = owner.pipeline.spec.network_policy.clone().unwrap_or_default();
    if policy.mode == Some(NetworkPolicyMode::Disabled) {
        return None;
    }
    let port = |number: u16| json!({"protocol": "TCP", "port": number});
    let ports: Vec<_> = edge
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.loopback)
        .map(|endpoint| port(endpoint.port))
        .collect();
    let mut ingress = Vec::new();
    if !ports.is_empty() {
        let sources: Vec<Value> =
            policy.allowed_sources.iter().flatten().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
        // An empty `from` means everywhere, as a missing one does; only the latter is stored as it was sent.
        ingress.push(if sources.is_empty() {
            json!({"ports": ports})
        } else {
            json!({"ports": ports, "from": sources})
        });
    }
    ingress.push(json!({"ports": [port(edge.admin_port)]}));
    let spec = json!({
        "podSelector": {"matchLabels": owner.selector()},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    });
    Some(owner.child(ChildKind::NetworkPolicy, deployment(&owner.name), json!({"spec": spec})))
}

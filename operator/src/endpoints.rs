//! Where senders reach the endpoints, for status. Pure.

use kube::core::DynamicObject;
use penstock_crds::edge::EdgeConfig;
use penstock_crds::pipeline::{EndpointSpec, EndpointStatus, ExposureType, IngestPipelineSpec, Protocol};
use serde_json::Value;

use crate::finding::Finding;
use crate::names::service;
use crate::reason::Reason;

/// The endpoints with their addresses; `live` finds the Service of a name, for the address of a load balancer.
#[must_use]
pub fn endpoints(
    spec: &IngestPipelineSpec,
    namespace: &str,
    pipeline: &str,
    live: impl Fn(&str) -> Option<DynamicObject>,
) -> Vec<EndpointStatus> {
    let of = |endpoint: &EndpointSpec| {
        let exposure = endpoint.exposure.as_ref().and_then(|exposure| exposure.type_);
        let service = service(pipeline, &endpoint.name);
        let host = match exposure {
            Some(ExposureType::Pod) => "localhost".to_owned(),
            Some(ExposureType::LoadBalancer) => live(&service)
                .and_then(|service| balancer(&service))
                .unwrap_or_else(|| format!("{service}.{namespace}.svc")),
            None | Some(ExposureType::ClusterIp | ExposureType::NodePort) => {
                format!("{service}.{namespace}.svc")
            }
        };
        EndpointStatus {
            name: endpoint.name.clone(),
            protocol: Some(endpoint.protocol.name().to_owned()),
            url: Some(format!("{}://{host}:{}{}", endpoint.protocol.name(), endpoint.port, path(endpoint))),
        }
    };
    spec.endpoints.iter().map(of).collect()
}

/// Whether every endpoint that is reached from outside its pod asks senders who they are.
#[must_use]
pub fn senders_authenticated(edge: &EdgeConfig) -> Finding {
    let open =
        edge.endpoints.iter().filter(|endpoint| !endpoint.loopback && endpoint.authentication.is_none());
    let names: Vec<_> = open.map(|endpoint| endpoint.name.as_str()).collect();
    if names.is_empty() {
        let message = "every endpoint that is reached from outside its pod asks senders who they are";
        return Finding::holds(Reason::AllAuthenticate, message);
    }
    Finding::fails(
        Reason::OpenEndpoint,
        format!(
            "open to whoever reaches the port: {}; give it authentication, or let only those reach it who may send",
            names.join(", ")
        ),
    )
}

/// `mqtt:1883,rest:8080`.
#[must_use]
pub fn summary(spec: &IngestPipelineSpec) -> String {
    let short = |endpoint: &EndpointSpec| format!("{}:{}", endpoint.name, endpoint.port);
    spec.endpoints.iter().map(short).collect::<Vec<_>>().join(",")
}

fn path(endpoint: &EndpointSpec) -> &str {
    match &endpoint.protocol {
        Protocol::Http(http) => http.base_path.as_deref().unwrap_or_default(),
        _ => "",
    }
}

fn balancer(service: &DynamicObject) -> Option<String> {
    let first = service.data.pointer("/status/loadBalancer/ingress/0")?;
    let text = |key| first.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let host = text("hostname").or_else(|| text("ip"))?;
    Some(if host.contains(':') { format!("[{host}]") } else { host.to_owned() })
}

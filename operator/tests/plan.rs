//! Plans of all good manifests: what every child must be, whatever the pipeline says.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use penstock_crds::edge::{EDGE_CONFIG_VERSION, EdgeConfig};
use penstock_crds::manifest;
use penstock_crds::pipeline::{IngestPipeline, Protocol, Qos};
use penstock_crds::resolve::resolve;
use penstock_operator::drift::drift;
use penstock_operator::plan::{Child, ChildKind, Defaults, Plan, Validated, plan};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn planned(pipeline: &IngestPipeline) -> Plan {
    planned_with(pipeline, "penstock-sidecar:1", BTreeMap::new())
}

fn planned_with(pipeline: &IngestPipeline, image: &str, versions: BTreeMap<String, String>) -> Plan {
    let edge = resolve(pipeline).unwrap_or_else(|problems| panic!("{problems:?}"));
    let validated = Validated { pipeline, edge, versions };
    plan(&validated, &Defaults { sidecar_image: image.to_owned() })
}

/// Every manifest of the corpus that resolves, and the examples.
fn corpus() -> Vec<(String, IngestPipeline)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["crds/tests/manifests/good", "docs/examples"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    let read = |path: &Path| manifest::read(&std::fs::read_to_string(path).unwrap()).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect()
}

fn quickstart(rest: &str) -> IngestPipeline {
    let text = include_str!("../../docs/examples/quickstart.yaml");
    manifest::read(&format!("{text}\n{rest}")).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The child as its own type, of which it has only fields that the type knows.
#[track_caller]
fn typed<T: DeserializeOwned + serde::Serialize>(child: &Child) -> T {
    let typed: T = serde_json::from_value(child.body.clone()).unwrap();
    let back = serde_json::to_value(&typed).unwrap();
    let lost = drift(&child.body, &back);
    assert!(lost.is_none(), "{} {}: {lost:?}", child.kind.in_roles(), child.name);
    typed
}

#[test]
fn every_child_is_an_object_of_its_type_with_known_fields_only() {
    let corpus = corpus();
    assert!(corpus.len() > 20);
    for (name, pipeline) in corpus {
        for child in planned(&pipeline).children.in_order() {
            println!("{name}: {} {}", child.kind.in_roles(), child.name);
            match child.kind {
                ChildKind::ConfigMap => drop(typed::<ConfigMap>(&child)),
                ChildKind::ServiceAccount => drop(typed::<ServiceAccount>(&child)),
                ChildKind::Service => drop(typed::<Service>(&child)),
                ChildKind::NetworkPolicy => drop(typed::<NetworkPolicy>(&child)),
                ChildKind::PodDisruptionBudget => drop(typed::<PodDisruptionBudget>(&child)),
                ChildKind::HorizontalPodAutoscaler => drop(typed::<HorizontalPodAutoscaler>(&child)),
                ChildKind::Deployment => drop(typed::<Deployment>(&child)),
            }
        }
    }
}

fn pod(plan: &Plan) -> PodSpec {
    typed::<Deployment>(&plan.children.deployment).spec.unwrap().template.spec.unwrap()
}

/// Pod Security Standards, "restricted", and what we ask beyond it.
#[test]
fn every_pod_is_restricted() {
    for (name, pipeline) in corpus() {
        let pod = pod(&planned(&pipeline));
        let security = pod.security_context.unwrap();
        assert_eq!(security.run_as_non_root, Some(true), "{name}");
        assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault", "{name}");
        assert_eq!(pod.automount_service_account_token, Some(false), "{name}");
        assert_eq!(pod.host_network.or(pod.host_pid).or(pod.host_ipc), None, "{name}");
        for volume in pod.volumes.iter().flatten() {
            let allowed =
                volume.config_map.is_some() || volume.secret.is_some() || volume.empty_dir.is_some();
            assert!(allowed, "{name}: volume {}", volume.name);
        }
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            let context = container.security_context.clone().unwrap();
            let what = format!("{name}: {}", container.name);
            assert_eq!(context.allow_privilege_escalation, Some(false), "{what}");
            assert_eq!(context.read_only_root_filesystem, Some(true), "{what}");
            assert_eq!(context.run_as_non_root, Some(true), "{what}");
            assert!(context.run_as_user.is_some_and(|user| user > 0), "{what}");
            assert_eq!(context.privileged, None, "{what}");
            assert_eq!(context.capabilities.unwrap().drop.unwrap(), ["ALL"], "{what}");
        }
    }
}

#[test]
fn secrets_are_mounted_into_the_sidecar_only_and_whole() {
    let mut seen = 0;
    for (name, pipeline) in corpus() {
        let pod = pod(&planned(&pipeline));
        let secrets: BTreeSet<_> =
            pod.volumes.iter().flatten().filter(|v| v.secret.is_some()).map(|v| &v.name).collect();
        seen += secrets.len();
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            for mount in container.volume_mounts.iter().flatten() {
                assert_eq!(mount.sub_path, None, "{name}: a file mounted by subPath is never renewed");
                let is_secret = secrets.contains(&mount.name);
                assert!(!is_secret || container.name == "penstock", "{name}: {}", container.name);
            }
        }
    }
    assert!(seen > 0, "no manifest of the corpus has a Secret");
}

#[test]
fn a_pod_has_time_to_end_in_order() {
    let with = |rest: &str| pod(&planned(&quickstart(rest))).termination_grace_period_seconds.unwrap();
    // accept 5 + clients 30 + ack timeout 10 + flush 2 + 5
    assert_eq!(with(""), 52);
    assert_eq!(
        with(
            "  edge: {drain: {acceptSeconds: 1, clientSeconds: 2}, adapters: [{name: a, image: a:1, stopSeconds: 60}]}"
        ),
        78
    );
}

#[test]
fn adapters_are_held_back_by_a_native_sidecar() {
    let pod = pod(&planned(&quickstart("  edge: {adapters: [{name: modbus, image: 'm:1'}]}")));
    let sidecar: &Container = &pod.init_containers.as_ref().unwrap()[0];
    assert_eq!((sidecar.name.as_str(), sidecar.restart_policy.as_deref()), ("penstock", Some("Always")));
    assert!(sidecar.startup_probe.is_some(), "its startup probe holds the adapters back");
    assert_eq!(pod.containers.iter().map(|container| &*container.name).collect::<Vec<_>>(), ["modbus"]);
}

/// Whether a policy lets `from` reach `port`, as Kubernetes evaluates it.
fn allows(policy: &NetworkPolicy, from: IpAddr, port: u16) -> bool {
    let spec = policy.spec.as_ref().unwrap();
    spec.ingress.iter().flatten().any(|rule| {
        let ports = rule.ports.as_ref();
        let port_fits = ports.is_none_or(|ports| {
            ports.iter().any(|open| {
                open.port == Some(IntOrString::Int(port.into())) && open.protocol.as_deref() == Some("TCP")
            })
        });
        let peer_fits = rule.from.as_ref().is_none_or(|peers| {
            peers.iter().any(|peer| peer.ip_block.as_ref().is_some_and(|block| within(from, &block.cidr)))
        });
        port_fits && peer_fits
    })
}

fn within(address: IpAddr, cidr: &str) -> bool {
    let (network, bits) = cidr.split_once('/').unwrap();
    let bits: u32 = bits.parse().unwrap();
    match (address, network.parse().unwrap()) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(address) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(address) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

#[test]
fn the_network_policy_opens_endpoints_to_allowed_sources_and_the_admin_port_to_all() {
    let policy = |rest: &str| {
        let plan = planned(&quickstart(rest));
        plan.children.network_policy.as_ref().map(typed::<NetworkPolicy>)
    };
    let near: IpAddr = "10.1.2.3".parse().unwrap();
    let six: IpAddr = "fd00::1".parse().unwrap();
    let far: IpAddr = "192.0.2.7".parse().unwrap();
    let open = policy("").unwrap();
    let bounded = policy("  networkPolicy: {allowedSources: ['10.0.0.0/8', 'fd00::/8']}").unwrap();
    let pod_only = policy("  networkPolicy: {mode: Managed}").unwrap();
    for (what, policy, from, port, wanted) in [
        ("an endpoint", &open, far, 1_883, true),
        ("an endpoint", &open, six, 8_080, true),
        ("the admin port", &open, far, 9_464, true),
        ("another port", &open, near, 22, false),
        ("an endpoint from an allowed source", &bounded, near, 1_883, true),
        ("an endpoint from an allowed source", &bounded, six, 8_080, true),
        ("an endpoint from another source", &bounded, far, 1_883, false),
        ("the admin port", &bounded, far, 9_464, true),
        ("another port", &bounded, near, 9_465, false),
        ("an endpoint", &pod_only, far, 1_883, true),
    ] {
        assert_eq!(allows(policy, from, port), wanted, "{what}: {from} to {port}");
    }
    assert!(policy("  networkPolicy: {mode: Disabled}").is_none());
    let selector = open.spec.as_ref().unwrap().pod_selector.clone().unwrap().match_labels.unwrap();
    assert_eq!(selector, BTreeMap::from([("penstock.dev/pipeline".to_owned(), "quickstart".to_owned())]));
    assert_eq!(open.spec.unwrap().policy_types.unwrap(), ["Ingress"], "what pods reach is not ours to bound");
}

#[test]
fn a_change_of_a_secret_rolls_the_pods_and_another_image_does_not_change_the_configuration() {
    let pipeline = quickstart("");
    let template = |plan: &Plan| plan.children.deployment.body["spec"]["template"].clone();
    let one = planned(&pipeline);
    let rotated = planned_with(
        &pipeline,
        "penstock-sidecar:1",
        BTreeMap::from([("secrets/kafka".to_owned(), "uid/2".to_owned())]),
    );
    assert_ne!(template(&one), template(&rotated));
    assert_eq!(one.config_hash, rotated.config_hash);
    let upgraded = planned_with(&pipeline, "penstock-sidecar:2", BTreeMap::new());
    assert_eq!(one.config_hash, upgraded.config_hash);
    assert_ne!(template(&one), template(&upgraded));
    assert_eq!(one.children.config_map, upgraded.children.config_map);
}

/// The configuration of the quickstart as this version writes it. A sidecar of the next version must read it, and the
/// next operator must write the same bytes for the same pipeline, or every pod of the world rolls: a change of this file
/// is a new version of `EdgeConfig`, or a mistake.
#[test]
fn the_configuration_of_version_1_is_written_as_ever_and_still_read() {
    let kept = include_str!("edge-config-1.json").trim_end();
    let mut pipeline = quickstart("");
    // Version 0.1 served no more, and took that for its default.
    for endpoint in &mut pipeline.spec.endpoints {
        if let Protocol::Mqtt(mqtt) = &mut endpoint.protocol {
            mqtt.maximum_qos = Some(Qos::AtLeastOnce);
        }
    }
    let plan = planned(&pipeline);
    let written = plan.children.config_map.body["data"]["edge.json"].as_str().unwrap().to_owned();
    assert_eq!(written, kept);
    assert_eq!(plan.config_hash, "aa13e00590");
    let read: EdgeConfig = serde_json::from_str(kept).unwrap();
    assert_eq!(read.version, EDGE_CONFIG_VERSION);
}

#[test]
fn what_a_gitops_tool_tracks_by_is_not_copied() {
    let mut pipeline = quickstart("");
    let theirs = BTreeMap::from([("argocd.argoproj.io/instance".to_owned(), "app".to_owned())]);
    pipeline.metadata.labels = Some(theirs.clone());
    pipeline.metadata.annotations = Some(theirs);
    for child in planned(&pipeline).children.in_order() {
        assert!(!child.body.to_string().contains("argocd"), "{}", child.kind.in_roles());
    }
}

#[test]
fn replicas_are_planned_only_where_the_spec_names_them() {
    let replicas = |rest: &str| {
        let child = planned(&quickstart(rest)).children.deployment;
        (child.body.pointer("/spec/replicas").and_then(Value::as_i64), child.replicas_at_creation)
    };
    assert_eq!(replicas(""), (None, Some(2)));
    assert_eq!(replicas("  edge: {replicas: 0}"), (Some(0), Some(0)));
    let scaled = "  edge: {resources: {requests: {cpu: 1}}}\n  autoscaling: {minReplicas: 3, maxReplicas: 9}";
    assert_eq!(replicas(scaled), (None, Some(3)));
}

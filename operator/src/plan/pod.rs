//! The pods: the sidecar, and adapters beside it.

use std::collections::{BTreeMap, BTreeSet};

use penstock_crds::edge::{ADMIN_PORT_NAME, EdgeConfig};
use penstock_crds::pipeline::{
    Adapter, Edge, EnvSource, EnvValue, KeySelector, Probe, ProbeAction, PullPolicy, Resources,
};
use serde_json::{Map, Value, json};

use super::{Defaults, Owner};
use crate::names::{
    CONFIG_ANNOTATION, CONFIG_KEY, CONTAINER, REFERENCES_ANNOTATION, config_map, hash, service_account,
};

/// Whom the pods run as.
const USER: i64 = 65_532;
/// Where the configuration is mounted.
const CONFIG_FOLDER: &str = "/etc/penstock/config";
/// Where referenced Secrets and ConfigMaps are mounted.
const REFERENCES_FOLDER: &str = "/etc/penstock/references";
/// Where the sidecar has its control socket.
const RUN_FOLDER: &str = "/run/penstock";
/// How long a sidecar may take to bind its ports; each try is a second.
const STARTUP_TRIES: i32 = 60;
/// Readable by owner and group, and nobody else.
const SECRET_MODE: i32 = 0o440;
/// Readable.
const CONFIG_MODE: i32 = 0o444;

/// What the pods are made from.
pub(super) struct Pods<'a> {
    pub(super) owner: &'a Owner<'a>,
    pub(super) edge: &'a EdgeConfig,
    pub(super) defaults: &'a Defaults,
    pub(super) config_hash: &'a str,
    pub(super) references_hash: &'a str,
}

impl Pods<'_> {
    pub(super) fn template(&self) -> Value {
        let none = Edge::default();
        let declared = self.owner.pipeline.spec.edge.as_ref().unwrap_or(&none);
        let mut labels: BTreeMap<&str, String> = self.owner.labels();
        for (key, value) in declared.pod_labels.iter().flatten() {
            labels.entry(key).or_insert_with(|| value.clone());
        }
        let mut annotations = declared.pod_annotations.clone().unwrap_or_default();
        annotations.insert(CONFIG_ANNOTATION.to_owned(), self.config_hash.to_owned());
        annotations.insert(REFERENCES_ANNOTATION.to_owned(), self.references_hash.to_owned());
        let adapters = declared.adapters.as_deref().unwrap_or_default();
        let mut spec = json!({
            "serviceAccountName":
                declared.service_account_name.clone().unwrap_or_else(|| service_account(&self.owner.name)),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": self.edge.grace_seconds(),
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": self.spread(),
            "volumes": self.volumes(adapters),
        });
        if adapters.is_empty() {
            spec["containers"] = json!([self.sidecar(declared)]);
        } else {
            // A native sidecar (KEP-753): it listens before the others start, and ends after they have ended.
            let mut sidecar = self.sidecar(declared);
            sidecar["restartPolicy"] = json!("Always");
            spec["initContainers"] = json!([sidecar]);
            spec["containers"] = adapters.iter().map(adapter).collect();
        }
        let fields = Map::from_iter(
            [
                ("imagePullSecrets", json!(declared.image_pull_secrets)),
                ("nodeSelector", json!(declared.node_selector)),
                ("tolerations", json!(declared.tolerations)),
                ("affinity", json!(declared.affinity)),
                ("priorityClassName", json!(declared.priority_class_name)),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .filter(|(_, value)| !is_empty(value)),
        );
        if let Some(spec) = spec.as_object_mut() {
            spec.extend(fields);
        }
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
    }

    /// Apart from each other where that can be had.
    fn spread(&self) -> Value {
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            .iter()
            .map(|key| {
                json!({
                    "topologyKey": key,
                    "maxSkew": 1,
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": self.owner.selector()},
                })
            })
            .collect()
    }

    fn sidecar(&self, declared: &Edge) -> Value {
        let control = format!("{RUN_FOLDER}/control");
        let mut ports: Vec<Value> = self
            .edge
            .endpoints
            .iter()
            .filter(|endpoint| !endpoint.loopback)
            .map(|endpoint| json!({"name": endpoint.name, "containerPort": endpoint.port, "protocol": "TCP"}))
            .collect();
        ports
            .push(json!({"name": ADMIN_PORT_NAME, "containerPort": self.edge.admin_port, "protocol": "TCP"}));
        let mut mounts = vec![
            json!({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": true}),
            json!({"name": "run", "mountPath": RUN_FOLDER}),
        ];
        mounts.extend(self.references().keys().map(|object| {
            json!({
                "name": object.volume(),
                "mountPath": format!("{REFERENCES_FOLDER}/{}/{}", object.folder, object.name),
                "readOnly": true,
            })
        }));
        let probe = |path: &str, period: i32, failures: i32| {
            json!({
                "httpGet": {"path": path, "port": ADMIN_PORT_NAME, "scheme": "HTTP"},
                "periodSeconds": period,
                "timeoutSeconds": 5,
                "successThreshold": 1,
                "failureThreshold": failures,
            })
        };
        json!({
            "name": CONTAINER,
            "image": declared.image.as_ref().unwrap_or(&self.defaults.sidecar_image),
            "imagePullPolicy": "IfNotPresent",
            "args": [
                "run",
                "--config", format!("{CONFIG_FOLDER}/{CONFIG_KEY}"),
                "--references", REFERENCES_FOLDER,
                "--control", control,
            ],
            "ports": ports,
            "resources": resources(declared.resources.as_ref()),
            "securityContext": restricted(None),
            "volumeMounts": mounts,
            // Bound ports, and an answer: none of them looks at Kafka, whose absence no restart mends.
            "startupProbe": probe("/startupz", 1, STARTUP_TRIES),
            "livenessProbe": probe("/livez", 10, 3),
            "readinessProbe": probe("/readyz", 2, 2),
            "lifecycle": {"preStop": {"exec": {"command": ["/bin/penstock-sidecar", "drain", "--control", control]}}},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
        })
    }

    fn volumes(&self, adapters: &[Adapter]) -> Value {
        let mut volumes = vec![
            json!({"name": "config", "configMap": {
                "name": config_map(&self.owner.name, self.config_hash),
                "defaultMode": CONFIG_MODE,
            }}),
            json!({"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        ];
        for (object, keys) in self.references() {
            let items: Vec<_> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
            volumes.push(if object.folder == "secrets" {
                let secret = json!({"secretName": object.name, "defaultMode": SECRET_MODE, "items": items});
                json!({"name": object.volume(), "secret": secret})
            } else {
                let config = json!({"name": object.name, "defaultMode": CONFIG_MODE, "items": items});
                json!({"name": object.volume(), "configMap": config})
            });
        }
        let mut shared: BTreeMap<&str, Value> = BTreeMap::new();
        for folder in adapters.iter().flat_map(|adapter| adapter.empty_dirs.iter().flatten()) {
            let volume = match &folder.size_limit {
                Some(limit) => json!({"sizeLimit": limit}),
                None => json!({}),
            };
            shared.entry(&folder.name).or_insert(volume);
        }
        volumes.extend(
            shared
                .into_iter()
                .map(|(name, volume)| json!({"name": format!("adapter-{name}"), "emptyDir": volume})),
        );
        Value::Array(volumes)
    }

    /// The objects that the configuration has files of, each with its keys.
    fn references(&self) -> BTreeMap<Object<'_>, BTreeSet<&str>> {
        let mut objects: BTreeMap<Object<'_>, BTreeSet<&str>> = BTreeMap::new();
        for path in self.edge.references() {
            let mut parts = path.0.splitn(3, '/');
            if let (Some(folder), Some(name), Some(key)) = (parts.next(), parts.next(), parts.next()) {
                objects.entry(Object { folder, name }).or_default().insert(key);
            }
        }
        objects
    }
}

/// A Secret or ConfigMap that is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object<'a> {
    /// `secrets` or `configmaps`.
    folder: &'a str,
    name: &'a str,
}

impl Object<'_> {
    /// Names of volumes are short labels, names of objects are not.
    fn volume(&self) -> String {
        format!("{}-{}", self.folder, hash(self.name.as_bytes(), 8))
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What Pod Security "restricted" asks of a container, and a read-only root.
fn restricted(user: Option<i64>) -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": user.unwrap_or(USER),
        "capabilities": {"drop": ["ALL"]},
    })
}

fn resources(resources: Option<&Resources>) -> Value {
    let mut fields = Map::new();
    let Some(resources) = resources else { return Value::Object(fields) };
    // Where only a limit is given, Kubernetes requests as much, and stores it so.
    let mut requests = resources.requests.clone().unwrap_or_default();
    for (name, limit) in resources.limits.iter().flatten() {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    for (name, list) in [("requests", Some(requests)), ("limits", resources.limits.clone())] {
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            fields.insert(name.to_owned(), json!(list));
        }
    }
    Value::Object(fields)
}

fn adapter(adapter: &Adapter) -> Value {
    let mut container = json!({
        "name": adapter.name,
        "image": adapter.image,
        "imagePullPolicy": pull_policy(adapter),
        "resources": resources(adapter.resources.as_ref()),
        "securityContext": restricted(adapter.run_as_user),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let mounts: Vec<_> = adapter
        .empty_dirs
        .iter()
        .flatten()
        .map(|folder| json!({"name": format!("adapter-{}", folder.name), "mountPath": folder.mount_path}))
        .collect();
    let env: Vec<_> = adapter
        .env
        .iter()
        .flatten()
        .map(|variable| match &variable.value {
            EnvValue::Value(value) => json!({"name": variable.name, "value": value}),
            EnvValue::ValueFrom(EnvSource::SecretKeyRef(KeySelector { name, key })) => {
                json!({"name": variable.name, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}})
            }
            EnvValue::ValueFrom(EnvSource::ConfigMapKeyRef(KeySelector { name, key })) => {
                json!({"name": variable.name, "valueFrom": {"configMapKeyRef": {"name": name, "key": key}}})
            }
        })
        .collect();
    for (name, value) in [
        ("command", json!(adapter.command)),
        ("args", json!(adapter.args)),
        ("env", json!(env)),
        ("volumeMounts", json!(mounts)),
        ("startupProbe", adapter.startup_probe.as_ref().map(probe).unwrap_or_default()),
        ("livenessProbe", adapter.liveness_probe.as_ref().map(probe).unwrap_or_default()),
        ("readinessProbe", adapter.readiness_probe.as_ref().map(probe).unwrap_or_default()),
    ] {
        if !is_empty(&value) {
            container[name] = value;
        }
    }
    container
}

/// Kubernetes' own default, said in full.
fn pull_policy(adapter: &Adapter) -> &'static str {
    let last = adapter.image.rsplit('/').next().unwrap_or_default();
    let floats = !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    match adapter.image_pull_policy {
        Some(PullPolicy::Always) => "Always",
        Some(PullPolicy::IfNotPresent) => "IfNotPresent",
        Some(PullPolicy::Never) => "Never",
        None if floats => "Always",
        None => "IfNotPresent",
    }
}

fn probe(probe: &Probe) -> Value {
    let mut body = json!({
        "periodSeconds": probe.period_seconds.unwrap_or(10),
        "timeoutSeconds": probe.timeout_seconds.unwrap_or(1),
        "successThreshold": 1,
        "failureThreshold": probe.failure_threshold.unwrap_or(3),
    });
    if let Some(delay) = probe.initial_delay_seconds.filter(|delay| *delay > 0) {
        body["initialDelaySeconds"] = json!(delay);
    }
    match &probe.action {
        ProbeAction::HttpGet(get) => {
            let path = get.path.as_deref().unwrap_or("/");
            body["httpGet"] = json!({"path": path, "port": get.port, "scheme": "HTTP"});
        }
        ProbeAction::TcpSocket(tcp) => body["tcpSocket"] = json!({"port": tcp.port}),
        ProbeAction::Exec(exec) => body["exec"] = json!({"command": exec.command}),
    }
    body
}

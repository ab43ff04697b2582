//! The operator with the rights that the chart gives it, and with each of them taken away.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use penstock_e2e::operator::condition;
use penstock_e2e::until::{SOON, START, throughout};
use penstock_e2e::versions::Versions;
use penstock_e2e::{ApiServer, Operator, Pipeline, Playground, folder, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart::helm::{NAMESPACE, find, rendered};

const ACCOUNT: &str = "penstock-operator";
/// Kinds of children, as kubectl takes them together.
const KINDS: &str = "configmap,serviceaccount,service,networkpolicy,pdb,hpa,deployment";

/// A right: API group, resource, verb.
type Right = (String, String, String);

/// Where it shows that a right is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// In a condition of the pipeline.
    Condition,
    /// In the log, since it is the pipeline that cannot be read or written.
    Log(&'static str),
    /// Nowhere: nothing asks for it unless the cluster does more than this one.
    Nowhere,
}

fn shows((_, resource, verb): &Right) -> Shows {
    match (&**resource, &**verb) {
        ("ingestpipelines", "list" | "watch") => Shows::Log("cannot watch ingestpipelines.penstock.dev"),
        ("ingestpipelines/status", "patch") => {
            Shows::Log("cannot patch ingestpipelines.penstock.dev/status gap")
        }
        ("events", "create") => Shows::Log("cannot write an Event"),
        // A pipeline is read by list and watch. Its finalizers count where OwnerReferencesPermissionEnforcement is on,
        // and an Event is patched when it comes again.
        ("ingestpipelines", "get") | ("ingestpipelines/finalizers", "update") | ("events", "patch") => {
            Shows::Nowhere
        }
        // Every pipeline has one for as long as it is there; its end is the garbage collector's.
        ("deployments" | "poddisruptionbudgets", "delete") => Shows::Nowhere,
        _ => Shows::Condition,
    }
}

/// A kubeconfig of the operator's ServiceAccount, in a folder that has to live as long.
fn kubeconfig(api: &ApiServer) -> (TempDir, PathBuf) {
    let token = api.kubectl(&["create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=1h"]).expect_ok();
    let config = api.kubectl(&["config", "view", "--raw", "-o", "json"]).expect_ok();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let folder = folder::fresh("rights-");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    (folder, path)
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()})
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn schema(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "schema", "namespace": namespace},
        "data": {"schema.json": "{}"},
    })
}

/// A pipeline with every kind of child and a reference.
fn full(ground: &Playground) -> Pipeline {
    let validation = json!({"jsonSchema": {"configMap": {"name": "schema", "key": "schema.json"}}});
    ground
        .pipeline("gap")
        .set("/spec/revisionHistoryLimit", 0)
        .set("/spec/routes/0/validation", validation)
        .set("/spec/edge/resources/requests/cpu", "100m")
        .set("/spec/autoscaling", json!({"minReplicas": 2, "maxReplicas": 5}))
}

/// The same with less, so that every kind is deleted that can be, and a configuration of the past is left.
fn less(full: &Pipeline) -> Pipeline {
    full.clone()
        .ack_timeout(9)
        .set("/spec/autoscaling", Value::Null)
        .set("/spec/endpoints/1/exposure/type", "Pod")
        .set("/spec/networkPolicy/mode", "Disabled")
        .set("/spec/edge/serviceAccountName", "default")
}

fn pipelines(api: &ApiServer) -> BTreeMap<String, Value> {
    let text = api.kubectl(&["get", "ipl", "-A", "-o", "json"]).expect_ok();
    let all: Value = serde_json::from_str(&text).unwrap();
    let of = |object: &Value| object["metadata"]["namespace"].as_str().unwrap().to_owned();
    all["items"].as_array().unwrap().iter().map(|object| (of(object), object.clone())).collect()
}

fn is_ready(pipeline: &Value) -> bool {
    let current = pipeline["status"]["observedGeneration"] == pipeline["metadata"]["generation"];
    current && condition(pipeline, "Ready").as_deref() == Some("True/Available")
}

/// Somebody changes a label of every child.
fn drift(api: &ApiServer) {
    let arguments = ["-A", "-l", "penstock.dev/pipeline=gap", "--overwrite", "penstock.dev/pipeline=drifted"];
    api.kubectl(&[&["label", KINDS], &arguments[..]].concat()).expect_ok();
}

/// How many children in a namespace have drifted.
fn drifted(api: &ApiServer, namespace: &str) -> usize {
    let arguments = ["get", KINDS, "-n", namespace, "-l", "penstock.dev/pipeline=drifted", "-o", "name"];
    api.kubectl(&arguments).expect_ok().lines().count()
}

/// Installs what of the chart gives the operator its rights.
fn give_rights(api: &ApiServer, objects: Vec<Value>) {
    let rights = objects.into_iter().filter(|object| {
        let kind = object["kind"].as_str().unwrap();
        kind == "ServiceAccount" || kind.contains("Role")
    });
    api.apply(namespace(NAMESPACE));
    api.apply(list(rights));
}

#[test]
fn the_rights_of_the_chart_are_enough() {
    let ground = Playground::start();
    let api = &ground.api;
    give_rights(api, rendered(&["--set=crds.enabled=false"]));
    let versions = Versions::watch(api);
    let (_folder, kubeconfig) = kubeconfig(api);
    let operator = Operator::start_as(&kubeconfig, &["--lease-namespace", NAMESPACE]);
    api.apply(schema("iot"));
    let managed = ground.kafka.fresh_name("rights");
    let full = full(&ground).set(
        "/spec/topics",
        json!([{"name": "telemetry", "topicName": managed, "management": "Managed", "partitions": 1}]),
    );
    api.apply(&full);
    api.wait_condition("gap", "Ready", "True/Available");
    drift(api);
    until("what drifted is back", START, || (drifted(api, "iot") == 0).then_some(()));
    api.apply(less(&full));
    api.wait_condition("gap", "Ready", "True/Available");
    assert!(api.object("networkpolicy", "gap").is_none());
    until("the Event is there", START, || {
        api.objects("event").iter().any(|event| event["reason"] == "Available").then_some(())
    });
    versions.catch_up(api);
    for version in versions.of_pipeline("gap") {
        assert!(!version["status"].to_string().contains("ApiForbidden"), "{version:#}");
    }
    assert!(!operator.log().contains("orbidden"), "{}", operator.log());
    assert_eq!(operator.end(), 0);
}

/// The rights that the chart gives in a namespace.
fn chart_rights(objects: &[Value]) -> Vec<Right> {
    let strings = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut rights = Vec::new();
    for rule in find(objects, "Role/iot/penstock-operator")["rules"].as_array().unwrap() {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                rights.extend(
                    strings(&rule["verbs"]).into_iter().map(|verb| (group.clone(), resource.clone(), verb)),
                );
            }
        }
    }
    rights
}

/// A namespace in which the operator has all rights but one.
fn lacking(name: &str, rights: &[Right], without: Option<&Right>) -> Vec<Value> {
    let rules = rights.iter().filter(|right| Some(*right) != without).map(
        |(group, resource, verb)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}),
    );
    let metadata = json!({"name": ACCOUNT, "namespace": name});
    let group = "rbac.authorization.k8s.io";
    let of = |kind: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata});
    let (mut role, mut binding) = (of("Role"), of("RoleBinding"));
    role["rules"] = json!(rules.collect::<Vec<_>>());
    binding["roleRef"] = json!({"apiGroup": group, "kind": "Role", "name": ACCOUNT});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]);
    vec![role, binding]
}

#[test]
fn each_right_that_is_missing_is_told_and_stops_no_other_namespace() {
    let ground = Playground::start();
    let api = &ground.api;
    let objects = rendered(&["--set=crds.enabled=false", "--set=watchNamespaces={iot}"]);
    let rights = chart_rights(&objects);
    api.apply(namespace(NAMESPACE));
    // One namespace for each right, and one where none is missing.
    let mut cases: BTreeMap<String, Option<&Right>> =
        rights.iter().enumerate().map(|(index, right)| (format!("lacks-{index}"), Some(right))).collect();
    cases.insert("whole".to_owned(), None);
    let own = objects.iter().filter(|object| {
        let kind = object["kind"].as_str().unwrap();
        (kind == "ServiceAccount" || kind.contains("Role")) && object["metadata"]["namespace"] == NAMESPACE
    });
    api.apply(list(own.cloned().chain(cases.keys().map(|name| namespace(name)))));
    let made = cases
        .iter()
        .flat_map(|(name, without)| lacking(name, &rights, *without).into_iter().chain([schema(name)]));
    api.apply(list(made));

    let versions = Versions::watch(api);
    let (_folder, kubeconfig) = kubeconfig(api);
    let namespaces: Vec<_> = cases.keys().cloned().collect();
    let arguments =
        ["--lease-namespace", NAMESPACE, "--watch-namespaces", &namespaces.join(","), "--concurrency", "2"];
    let operator = Operator::start_as(&kubeconfig, &arguments);
    let full = full(&ground);
    let everywhere = |pipeline: &Pipeline| {
        let of = |(name, without): (&String, &Option<&Right>)| {
            let mut pipeline = pipeline.clone().set("/metadata/namespace", name.clone());
            if without.is_some_and(|(_, resource, _)| resource == "secrets") {
                pipeline = pipeline.set("/spec/kafka/authentication/scramSha512/username", "telemetry").set(
                    "/spec/kafka/authentication/scramSha512/passwordSecret",
                    json!({"name": "credentials"}),
                );
            }
            pipeline.value().clone()
        };
        api.apply(list(cases.iter().map(of)));
    };
    let told = |namespace: &str, right: &Right| match shows(right) {
        Shows::Condition => {
            let (group, resource, verb) = right;
            let resource = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
            let verb = if matches!(&**verb, "list" | "watch")
                && !matches!(&*resource, "pods" | "replicasets.apps")
            {
                "list or watch"
            } else {
                verb
            };
            let text = format!("cannot {verb} {resource}");
            versions.of_pipeline("gap").iter().any(|version| {
                let conditions = version["status"]["conditions"].as_array().into_iter().flatten();
                let says = |one: &Value| {
                    one["reason"] == "ApiForbidden" && one["message"].as_str().unwrap().contains(&text)
                };
                version["metadata"]["namespace"] == namespace && conditions.into_iter().any(says)
            })
        }
        Shows::Log(text) => operator.log().contains(text),
        Shows::Nowhere => false,
    };
    // Everybody is served, or has said what is missing.
    let settled = |what: &str, also: &dyn Fn(&str) -> bool| {
        let mut open = Vec::new();
        let deadline = std::time::Instant::now() + START;
        until(what, START + START, || {
            let now = pipelines(api);
            open = cases
                .iter()
                .filter(|(name, without)| {
                    let served = is_ready(&now[*name]) && also(name);
                    !served && !without.is_some_and(|right| told(name, right))
                })
                .map(|(name, without)| format!("{name}: {without:?}, {}", now[name]["status"]))
                .collect();
            assert!(std::time::Instant::now() < deadline, "{what}: {open:#?}");
            open.is_empty().then_some(())
        });
    };
    everywhere(&full);
    settled("what is new", &|_| true);
    drift(api);
    settled("what drifted", &|name| drifted(api, name) == 0);
    everywhere(&less(&full));
    settled("what goes", &|_| true);
    versions.catch_up(api);
    let silent: Vec<_> = cases
        .iter()
        .filter_map(|(name, without)| without.map(|right| (name, right)))
        .filter(|(name, right)| told(name, right) != (shows(right) != Shows::Nowhere))
        .collect();
    assert!(silent.is_empty(), "these say nothing: {silent:#?}");
    let whole = versions.of_pipeline("gap").into_iter().filter(|one| one["metadata"]["namespace"] == "whole");
    whole.for_each(|version| assert!(!version.to_string().contains("ApiForbidden"), "{version:#}"));
}

/// The role by which the operator leads, without a verb.
fn lease_role(objects: &[Value], without: &str) -> Value {
    let mut role = find(objects, &format!("Role/{NAMESPACE}/{ACCOUNT}-lease")).clone();
    let rules = role["rules"].as_array_mut().unwrap();
    rules.iter_mut().for_each(|rule| rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != without));
    rules.retain(|rule| !rule["verbs"].as_array().unwrap().is_empty());
    role
}

#[test]
fn without_a_right_on_its_lease_an_operator_says_which_and_does_not_lead() {
    let ground = Playground::start();
    let api = &ground.api;
    let objects = rendered(&["--set=crds.enabled=false"]);
    give_rights(api, objects.clone());
    let (_folder, kubeconfig) = kubeconfig(api);
    let may = |verb: &str| {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
        let lease = format!("leases.coordination.k8s.io/{ACCOUNT}");
        api.kubectl(&["auth", "can-i", verb, &lease, "-n", NAMESPACE, &account]).ok
    };
    let take_away = |verb: &str| {
        api.apply(lease_role(&objects, verb));
        until("the right is gone", SOON, || (!may(verb)).then_some(()));
    };
    for verb in ["get", "create", "update"] {
        take_away(verb);
        if verb == "update" {
            // One that nobody holds.
            api.apply(json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"holderIdentity": ""},
                "metadata": {"name": ACCOUNT, "namespace": NAMESPACE},
            }));
        }
        let mut operator = Operator::start_as(&kubeconfig, &["--lease-namespace", NAMESPACE]);
        let name = format!("lacks-{verb}");
        api.apply(ground.pipeline(&name));
        let missing = format!("cannot {verb} leases.coordination.k8s.io {ACCOUNT}: ");
        until("it says what is missing", SOON, || {
            let log = operator.log();
            let line = log.lines().find(|line| line.contains(&missing))?;
            line.contains("install those of the chart").then_some(())
        });
        throughout("it does not act", Duration::from_secs(4), || {
            operator.metric("penstock_operator_leader") == Some(0.0)
                && api.object("ipl", &name).unwrap()["status"]["conditions"].is_null()
        });
        api.apply(lease_role(&objects, ""));
        operator.wait_to_lead();
        api.wait_condition(&name, "Ready", "True/Available");
        if verb != "update" {
            assert_eq!(operator.end(), 0);
            api.kubectl(&["delete", "lease", ACCOUNT, "-n", NAMESPACE]).expect_ok();
            continue;
        }
        // Taken from one that leads.
        take_away(verb);
        assert_eq!(operator.wait_exit_code(SOON), 1);
        assert!(operator.log().contains("could not be renewed"), "{}", operator.log());
    }
}

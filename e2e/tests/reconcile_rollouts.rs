//! Rollouts: a new operator rolls few pipelines at once, and what a pod may still need stays.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;

use penstock_e2e::operator::condition;
use penstock_e2e::until::SOON;
use penstock_e2e::{ApiServer, Operator, Playground, until};
use serde_json::{Value, json};

const NEXT: &str = "penstock-sidecar:next";

fn image(deployment: &Value) -> &str {
    deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap()
}

#[test]
fn a_new_operator_rolls_no_more_than_two_at_once() {
    let ground = Playground::start();
    let api = &ground.api;
    let operator = Operator::start(api);
    let names: Vec<_> = (0..5).map(|index| format!("roll-{index}")).collect();
    for name in &names {
        api.apply(ground.pipeline(name));
    }
    for name in &names {
        api.wait_condition(name, "Ready", "True/Available");
    }
    assert_eq!(operator.end(), 0);
    ground.player.old_pods_go(false);
    let _operator = Operator::start_with(api, &["--sidecar-image", NEXT, "--max-upgrades", "2"]);
    let new = || api.objects("deployment").iter().filter(|object| image(object) == NEXT).count();
    let waits = |name: &String| {
        let seen = api.object("ipl", name).unwrap();
        // Whoever waits is served as before, and says so.
        condition(&seen, "Ready").as_deref() == Some("True/Available")
            && seen["status"]["conditions"][0]["message"]
                .as_str()
                .unwrap()
                .contains("waits for other pipelines")
    };
    until("two roll and three wait", SOON, || {
        let rolling = new();
        assert!(rolling <= 2, "{rolling} roll at once");
        (rolling == 2 && names.iter().filter(|name| waits(name)).count() == 3).then_some(())
    });
    // A change of the pipeline itself does not wait.
    let waiting = names.iter().find(|name| waits(name)).unwrap();
    api.kubectl(&["scale", "ipl", waiting, "-n", "iot", "--replicas=3"]).expect_ok();
    until("the changed one rolls too", SOON, || {
        (image(&api.object("deployment", waiting).unwrap()) == NEXT).then_some(())
    });
    assert_eq!(new(), 3);
    ground.player.old_pods_go(true);
    for name in &names {
        until("it has the new image and is ready", SOON, || {
            let rolled = image(&api.object("deployment", name).unwrap()) == NEXT;
            let ready = condition(&api.object("ipl", name).unwrap(), "Ready");
            (rolled && ready.as_deref() == Some("True/Available")).then_some(())
        });
    }
}

fn configurations(api: &ApiServer) -> BTreeSet<String> {
    let names = api.objects("configmap").into_iter().map(|object| object["metadata"]["name"].clone());
    names
        .filter_map(|name| name.as_str().filter(|name| name.starts_with("pruned-edge-")).map(str::to_owned))
        .collect()
}

/// A pod or ReplicaSet of the pipeline that mounts a configuration.
fn mounts(kind: &str, configuration: &str) -> Value {
    let spec = json!({
        "containers": [{"name": "penstock", "image": "penstock:1"}],
        "volumes": [{"name": "config", "configMap": {"name": configuration}}],
    });
    let labels = json!({"penstock.dev/pipeline": "pruned", "of": "hand"});
    let metadata =
        json!({"name": format!("by-hand-{}", kind.to_lowercase()), "namespace": "iot", "labels": labels});
    if kind == "Pod" {
        return json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec});
    }
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let spec = json!({"selector": {"matchLabels": labels}, "template": template});
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

#[test]
fn configurations_of_the_past_go_unless_something_mounts_them() {
    let ground = Playground::start();
    let api = &ground.api;
    let _operator = Operator::start(api);
    // What admits a pod asks for it; no controller makes it here.
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "iot"},
    });
    api.apply(account);
    let pipeline = ground.pipeline("pruned").set("/spec/revisionHistoryLimit", 2);
    let mut hashes = Vec::new();
    let mut step = |seconds: u32| {
        api.apply(pipeline.clone().ack_timeout(seconds));
        let seen = api.wait_condition("pruned", "Ready", "True/Available");
        assert_eq!(seen["spec"]["delivery"]["ackTimeoutSeconds"], seconds);
        let name = format!("pruned-edge-{}", seen["status"]["configHash"].as_str().unwrap());
        hashes.push(name.clone());
        name
    };
    let (by_pod, by_set) = (step(10), step(11));
    api.apply(mounts("Pod", &by_pod));
    api.apply(mounts("ReplicaSet", &by_set));
    (12..17).for_each(|seconds| drop(step(seconds)));
    let expected =
        |kept: &[&String]| -> BTreeSet<String> { kept.iter().map(|name| (*name).clone()).collect() };
    let newest: Vec<_> = hashes.iter().rev().take(3).collect();
    let all: Vec<_> = newest.iter().copied().chain([&by_pod, &by_set]).collect();
    until("two of the past and what is mounted are left", SOON, || {
        (configurations(api) == expected(&all)).then_some(())
    });

    // What is no longer mounted goes with the next change.
    api.kubectl(&["delete", "pod", "by-hand-pod", "-n", "iot", "--force", "--grace-period=0"]).expect_ok();
    api.kubectl(&["delete", "rs", "by-hand-replicaset", "-n", "iot"]).expect_ok();
    let back = hashes.last().unwrap().clone();
    api.apply(pipeline.clone().ack_timeout(16).set("/spec/revisionHistoryLimit", 0));
    until("only the current one is left", SOON, || (configurations(api) == expected(&[&back])).then_some(()));
    api.wait_condition("pruned", "Ready", "True/Available");
}

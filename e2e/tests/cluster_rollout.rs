//! Pods come and go under load, and Kafka goes and comes back: nothing acknowledged is lost, nobody finds a closed door.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::time::Duration;

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl_in;
use penstock_e2e::cluster::{Installed, SYSTEM};
use penstock_e2e::load::Plan;
use penstock_e2e::load::wire::{Publish, Version};
use penstock_e2e::operator::condition;
use penstock_e2e::raw::{Next, Raw};
use penstock_e2e::until;
use penstock_e2e::until::{SOON, START, throughout};
use serde_json::{Value, json};

const PATH: &str = "/v1/p/d/telemetry";
const READY: &str = "True/Available";

#[test]
fn a_change_of_the_spec_and_a_deleted_pod_close_no_door_and_lose_nothing() {
    let cluster = &*Installed::shared();
    let pipeline = cluster.telemetry("rolled");
    cluster.apply_ready(&pipeline);
    let before = cluster.pods("rolled");
    assert_eq!(before.len(), 2);
    let loads = cluster.loads("rolled");
    loads.wait_acknowledged(50);

    cluster.apply_ready(&pipeline.clone().ack_timeout(10));
    cluster.wait_pods("rolled", 2);
    let after = cluster.pods("rolled");
    assert!(after.iter().all(|pod| !before.contains(pod)), "{before:?} rolled to {after:?}");
    loads.wait_acknowledged(50);
    let rolled = loads.closes();
    assert!(rolled > 0, "nobody was asked to leave a pod that ended");

    cluster.kubectl(&["delete", "pod", &after[0], "-n", "rolled", "--timeout=60s"]).expect_ok();
    cluster.wait_ready("rolled", "telemetry");
    cluster.wait_pods("rolled", 2);
    loads.wait_acknowledged(50);
    assert_eq!(loads.unreachable(), 0, "somebody found nobody listening");
    cluster.finish(loads, "rolled");
}

#[test]
fn one_replica_becomes_three_and_one_again_under_load() {
    let cluster = &*Installed::shared();
    let pipeline = cluster.telemetry("scaled");
    let of = |replicas: u32| pipeline.clone().set("/spec/edge/replicas", replicas);
    cluster.apply_ready(&of(1));
    let first = cluster.pods("scaled");
    let loads = cluster.loads("scaled");
    for replicas in [3, 1] {
        loads.wait_acknowledged(50);
        cluster.apply_ready(&of(replicas));
        cluster.wait_pods("scaled", replicas as usize);
        until("status tells the replicas", SOON, || {
            let status = &cluster.get("scaled", "ipl/telemetry")["status"];
            (status["replicas"] == replicas && status["readyReplicas"] == replicas).then_some(())
        });
        if replicas == 3 {
            let pods = cluster.pods("scaled");
            assert!(first.iter().all(|pod| pods.contains(pod)), "{first:?} stays in {pods:?}");
        }
    }
    loads.wait_acknowledged(50);
    assert_eq!(loads.unreachable(), 0, "somebody found nobody listening");
    cluster.finish(loads, "scaled");
}

#[test]
fn without_kafka_clients_are_told_to_come_back_and_the_pipeline_stays_ready() {
    let cluster = &*Installed::alone();
    cluster.apply_ready(&cluster.telemetry("outage").ack_timeout(3));
    let loads = cluster.loads("outage");
    let broker = cluster.kafka.broker(0);
    type Act<'a> = &'a dyn Fn();
    let outages: [(Act<'_>, Act<'_>); 2] =
        [(&|| broker.stop(), &|| broker.cont()), (&|| broker.kill(), &|| broker.restart())];
    for (away, back) in outages {
        loads.wait_acknowledged(50);
        away();
        // Through the Service, on new connections: an answer, not a closed door.
        let answer = curl_in(cluster.place(), cluster.http("outage"), PATH, &["-d", "x"]);
        answer.assert_problem(503);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        let mqtt = cluster.mqtt("outage");
        cluster.place().inside(|| {
            let mut raw = Raw::mqtt(mqtt, Version::V5, "held");
            raw.send(&Publish::new(Version::V5, PATH.trim_start_matches('/'), b"held", 1).encode());
            assert!(matches!(raw.next(Duration::from_secs(2)), Next::Nothing), "it is held, not answered");
        });
        // An operator that starts now and cannot ask Kafka leaves what is well as it is.
        let operator = "deployment/penstock-operator";
        cluster.kubectl(&["rollout", "restart", operator, "-n", SYSTEM]).expect_ok();
        let rollout = ["rollout", "status", operator, "-n", SYSTEM, "--timeout=120s"];
        cluster.kubectl(&rollout).expect_ok();
        until("the new one has asked", SOON, || {
            let status = cluster.get("outage", "ipl/telemetry")["status"].to_string();
            status.contains("since then the operator cannot ask Kafka").then_some(())
        });
        throughout("the pipeline and its pods are Ready", Duration::from_secs(10), || {
            let pipeline = cluster.get("outage", "ipl/telemetry");
            let ready = condition(&pipeline, "Ready");
            ready.as_deref() == Some(READY) && pipeline["status"]["readyReplicas"] == 2
        });
        back();
        loads.wait_acknowledged(50);
    }
    assert_eq!(cluster.condition("outage", "telemetry", "Ready").as_deref(), Some(READY));
    assert_eq!(loads.unreachable(), 0, "somebody found nobody listening");
    // What the producer could not send before its time ran out makes it begin anew, and only then is the rest taken.
    let history = cluster.history(loads, "outage", SOON * 8);
    assert_eq!(history.refused(), 0, "refused for good");
    assert!(history.transient.iter().all(|&(status, after)| status == 503 && after.is_some()));
    let mut records = cluster.kafka.read("outage");
    records.retain(|record| !["x", "held"].contains(&record.text()));
    check(&history, &records).assert_kept();
}

#[test]
fn load_takes_an_autoscaled_pipeline_from_one_pod_to_two_and_it_stays_ready() {
    let cluster = &*Installed::shared();
    cluster.metrics_server();
    let pipeline = cluster
        .telemetry("autoscaled")
        .set("/spec/autoscaling", json!({"minReplicas": 1, "maxReplicas": 2}))
        .set("/spec/edge/resources", json!({"requests": {"cpu": "50m"}}));
    cluster.apply_ready(&pipeline);
    let autoscaler = || cluster.get("autoscaled", "horizontalpodautoscaler/telemetry");
    until("the autoscaler has measured one pod, which idles", START, || {
        let status = &autoscaler()["status"];
        (status["currentMetrics"][0]["containerResource"]["current"]["averageUtilization"].is_u64())
            .then_some(())
    });
    assert_eq!(autoscaler()["status"]["desiredReplicas"], 1, "{:#}", autoscaler());
    let plan = Plan::mqtt(cluster.mqtt("autoscaled"), Version::V5).within(cluster.place());
    let load = plan.rate(3000).start();
    until("the second pod is ready", START, || {
        let pipeline = cluster.get("autoscaled", "ipl/telemetry");
        let ready = condition(&pipeline, "Ready");
        assert_eq!(ready.as_deref(), Some(READY), "a step of the autoscaler is no change: {pipeline:#}");
        (pipeline["status"]["readyReplicas"] == 2).then_some(())
    });
    load.wait_acknowledged(1000);
    assert_eq!(load.unreachable(), 0, "somebody found nobody listening");
    let history = load.finish(SOON * 3);
    assert_eq!(history.refused(), 0, "refused for good");
    check(&history, &cluster.kafka.read("autoscaled")).assert_kept();
}

/// Names of the ConfigMaps that objects of a kind mount, with the object's own.
fn mounts(cluster: &Installed, namespace: &str, kind: &str) -> Vec<(String, Value)> {
    let objects = cluster.get(namespace, kind);
    let volumes = if kind == "pods" { "/spec/volumes" } else { "/spec/template/spec/volumes" };
    let objects = objects["items"].as_array().unwrap().clone();
    let of = |object: Value| {
        let volumes = object.pointer(volumes).and_then(Value::as_array).cloned().unwrap_or_default();
        let names =
            volumes.into_iter().filter_map(|volume| Some(volume["configMap"]["name"].as_str()?.into()));
        names.map(|name: String| (name, object.clone())).collect::<Vec<_>>()
    };
    objects.into_iter().flat_map(of).collect()
}

fn mounted(cluster: &Installed, namespace: &str) -> BTreeSet<String> {
    let all = ["pods", "replicasets"].map(|kind| mounts(cluster, namespace, kind));
    all.into_iter().flatten().map(|(name, _)| name).collect()
}

/// The configurations that a namespace has.
fn configurations(cluster: &Installed, namespace: &str) -> BTreeSet<String> {
    let maps = cluster.get(namespace, "configmaps");
    let names = maps["items"].as_array().unwrap().iter().map(|map| map["metadata"]["name"].as_str().unwrap());
    names.filter(|name| name.starts_with("telemetry-edge-")).map(str::to_owned).collect()
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Names of the ready pods that run a configuration.
fn running(cluster: &Installed, namespace: &str, configuration: &str) -> BTreeSet<String> {
    let pods = mounts(cluster, namespace, "pods").into_iter();
    let pods = pods.filter(|(name, pod)| {
        name == configuration && is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null()
    });
    pods.map(|(_, pod)| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn ten_images_that_never_start_take_nothing_from_the_pods_that_serve() {
    const NAMESPACE: &str = "stuck";
    const DEPLOYMENT: &str = "deployment/telemetry";
    const HISTORY: usize = 2;
    let cluster = &*Installed::shared();
    let good = cluster.telemetry(NAMESPACE).set("/spec/revisionHistoryLimit", HISTORY);
    cluster.apply_ready(&good);
    let hash = cluster.get(NAMESPACE, "ipl/telemetry")["status"]["configHash"].as_str().unwrap().to_owned();
    let configuration = format!("telemetry-edge-{hash}");
    let serving = || running(cluster, NAMESPACE, &configuration);
    let first = serving();
    assert_eq!(first.len(), 2);
    let loads = cluster.loads(NAMESPACE);
    let image = |edit: u32| format!("penstock.local/absent:{edit}");
    for edit in 0..10 {
        let bad = good.clone().ack_timeout(10 + edit).set("/spec/edge/image", image(edit));
        cluster.apply(&bad.to_string());
        until("a pod of it is there, and does not start", START, || {
            let pods = cluster.get(NAMESPACE, "pods");
            let of_it = |pod: &&Value| pod["spec"]["containers"][0]["image"] == *image(edit);
            let pod = pods["items"].as_array().unwrap().iter().find(of_it)?;
            pod.pointer("/status/containerStatuses/0/state/waiting").is_some().then_some(())
        });
        // What is mounted before and after is so in between.
        let (before, kept, after) =
            (mounted(cluster, NAMESPACE), configurations(cluster, NAMESPACE), mounted(cluster, NAMESPACE));
        let missing: Vec<_> = before
            .intersection(&after)
            .filter(|name| name.starts_with("telemetry-") && !kept.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{missing:?} are mounted and gone");
        assert_eq!(serving(), first);
    }
    loads.wait_acknowledged(50);
    until("no more are kept than the limit says, but those that are mounted", SOON, || {
        let (kept, mounted) = (configurations(cluster, NAMESPACE), mounted(cluster, NAMESPACE));
        (kept.difference(&mounted).count() <= HISTORY).then_some(())
    });

    let gone = first.first().unwrap();
    cluster.kubectl(&["delete", "pod", gone, "-n", NAMESPACE, "--timeout=60s"]).expect_ok();
    until("another one is in its place, with the configuration of then", START, || {
        (serving().len() == 2).then_some(())
    });
    let second = serving();
    assert!(!second.contains(gone));
    loads.wait_acknowledged(50);

    // Undone, what is ours is put back.
    let generation = || cluster.get(NAMESPACE, DEPLOYMENT)["metadata"]["generation"].as_i64().unwrap();
    let before = generation();
    cluster.kubectl(&["rollout", "undo", DEPLOYMENT, "-n", NAMESPACE]).expect_ok();
    until("the last image is put back", SOON, || {
        let deployment = cluster.get(NAMESPACE, DEPLOYMENT);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        (generation() >= before + 2 && container["image"] == *image(9)).then_some(())
    });
    assert_eq!(serving(), second);

    // With the operator held off it stays, and the configuration of then is there.
    let annotate = |what: &str| {
        cluster.kubectl(&["annotate", "ipl", "telemetry", "-n", NAMESPACE, what]).expect_ok();
    };
    annotate("penstock.dev/pause-reconciliation=true");
    until("it is paused", SOON, || {
        cluster.condition(NAMESPACE, "telemetry", "ReconciliationPaused").map(drop)
    });
    let sets = mounts(cluster, NAMESPACE, "replicasets");
    let (_, set) = sets.iter().find(|(name, _)| *name == configuration).unwrap();
    let revision = set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().unwrap();
    let to = format!("--to-revision={revision}");
    cluster.kubectl(&["rollout", "undo", DEPLOYMENT, "-n", NAMESPACE, &to]).expect_ok();
    let status = ["rollout", "status", DEPLOYMENT, "-n", NAMESPACE, "--timeout=60s"];
    cluster.kubectl(&status).expect_ok();
    cluster.wait_pods(NAMESPACE, 2);
    assert_eq!(serving(), second);

    // The way back that lasts: the pipeline as it was. Nobody is rolled.
    cluster.apply(&good.to_string());
    annotate("penstock.dev/pause-reconciliation-");
    cluster.wait_ready(NAMESPACE, "telemetry");
    assert_eq!(cluster.condition(NAMESPACE, "telemetry", "Ready").as_deref(), Some(READY));
    assert_eq!(serving(), second);
    assert_eq!(cluster.pods(NAMESPACE).len(), 2);
    assert_eq!(loads.unreachable(), 0, "somebody found nobody listening");
    cluster.finish(loads, NAMESPACE);
}

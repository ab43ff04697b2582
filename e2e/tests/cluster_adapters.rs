//! `edge.adapters`: containers of the user's own, which speak to the sidecar on loopback while their pod ends.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use penstock_crds::edge::ADMIN_PORT;
use penstock_e2e::clients::curl_in;
use penstock_e2e::cluster::{BUSYBOX, Installed};
use penstock_e2e::load::Plan;
use penstock_e2e::load::wire::Version;
use penstock_e2e::until::SOON;
use penstock_e2e::{Pipeline, until};
use serde_json::json;

/// Posts again and again, and writes down what was acknowledged. The name of the pod makes a payload its own.
const POST: &str = r#"
n=0
post() {
  if wget -q -O /dev/null --post-data "$HOSTNAME/$n" http://127.0.0.1:8081/v1/p/adapter/telemetry; then
    echo "$1 $HOSTNAME/$n"
  fi
  n=$((n + 1))
  sleep 0.05
}
"#;

/// What a pod may need beyond its grace for kubelet to notice and the API to be told, on a busy machine.
const SLACK: Duration = Duration::from_secs(8);

/// A pipeline with a loopback endpoint, and an adapter that runs [`POST`] and then `script`.
fn beside(cluster: &Installed, namespace: &str, stop_seconds: u32, script: &str) -> Pipeline {
    cluster
        .telemetry(namespace)
        .push(
            "/spec/endpoints",
            json!({"name": "local", "port": 8081, "http": {}, "exposure": {"type": "Pod"}}),
        )
        .push("/spec/routes/0/from", json!({"endpoint": "local", "path": "/v1/{project}/{device}/telemetry"}))
        .set(
            "/spec/edge/adapters",
            json!([{
                "name": "adapter",
                "image": BUSYBOX,
                "command": ["sh", "-c", format!("{POST}{script}")],
                "stopSeconds": stop_seconds,
            }]),
        )
}

/// Deletes a pod while its adapter posts; returns what the adapter was told is acknowledged, line by line, and how long
/// the end took.
fn delete_while_it_posts(cluster: &Installed, namespace: &str, pod: &str) -> (Vec<String>, Duration) {
    let mut logs = cluster.kubectl_command();
    logs.args(["logs", "-n", namespace, pod, "-c", "adapter", "-f"]);
    let logs = logs.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let reader = std::thread::spawn(move || logs.wait_with_output().unwrap().stdout);
    until("the adapter has posted", SOON, || {
        let so_far = cluster.kubectl(&["logs", "-n", namespace, pod, "-c", "adapter"]).expect_ok();
        (so_far.lines().count() > 20).then_some(())
    });
    let started = Instant::now();
    cluster.kubectl(&["delete", "pod", pod, "-n", namespace, "--timeout=120s"]).expect_ok();
    let took = started.elapsed();
    let text = String::from_utf8(reader.join().unwrap()).unwrap();
    (text.lines().map(str::to_owned).collect(), took)
}

/// Demands that what an adapter's lines say is acknowledged is in Kafka.
fn assert_stored(cluster: &Installed, topic: &str, lines: &[String]) {
    let records = cluster.kafka.read(topic);
    let stored: BTreeSet<_> = records.iter().map(|record| record.text()).collect();
    // Between them wget says whom it could not reach.
    let told = |line: &String| {
        line.strip_prefix("running ").or_else(|| line.strip_prefix("ending ")).map(str::to_owned)
    };
    let told: Vec<_> = lines.iter().filter_map(told).collect();
    assert!(told.len() > 20, "nothing was proved: {lines:?}");
    let lost: Vec<_> = told.iter().filter(|id| !stored.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged are lost: {lost:?}", lost.len(), told.len());
}

fn grace(cluster: &Installed, namespace: &str) -> Duration {
    let deployment = cluster.get(namespace, "deployment/telemetry");
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    Duration::from_secs(grace.as_u64().unwrap())
}

#[test]
fn an_adapter_that_posts_while_its_pod_is_deleted_is_served_until_it_ends() {
    let cluster = &*Installed::shared();
    // Asked to end, it has ten messages left.
    let script = r#"
trap 'ending=1' TERM
while [ -z "$ending" ]; do post running; done
for last in 1 2 3 4 5 6 7 8 9 10; do post ending; done
echo done
"#;
    let pipeline = beside(cluster, "posting", 20, script).set("/spec/edge/replicas", 1);
    cluster.apply_ready(&pipeline);
    let services = cluster.kubectl(&["get", "services", "-n", "posting", "-o", "name"]).expect_ok();
    assert!(!services.contains("local"), "what is for the pod alone has no Service: {services}");
    let pod = &cluster.pods("posting")[0];
    let (lines, took) = delete_while_it_posts(cluster, "posting", pod);
    assert_stored(cluster, "posting", &lines);
    let last: Vec<_> = lines.iter().rev().take(11).collect();
    assert!(
        last[0] == "done" && last[1..].iter().all(|line| line.starts_with("ending ")),
        "each of the last ten was acknowledged: {last:?}"
    );
    assert!(took < grace(cluster, "posting"), "{took:?}");
}

#[test]
fn an_adapter_that_will_not_end_is_killed_in_time_and_loses_nothing() {
    let cluster = &*Installed::shared();
    let script = "trap '' TERM\nwhile true; do post running; done\n";
    let pipeline = beside(cluster, "stubborn", 5, script).set("/spec/edge/replicas", 1);
    cluster.apply_ready(&pipeline);
    let pod = &cluster.pods("stubborn")[0];
    let (lines, took) = delete_while_it_posts(cluster, "stubborn", pod);
    assert_stored(cluster, "stubborn", &lines);
    let grace = grace(cluster, "stubborn");
    assert!(took < grace + SLACK, "{took:?}, and its grace is {grace:?}");
}

#[test]
fn clients_from_outside_leave_while_an_adapter_is_still_ending() {
    let cluster = &*Installed::shared();
    // Asked to end, it goes on for long.
    let script = r#"
trap 'ending=1' TERM
while [ -z "$ending" ]; do post running; done
for last in $(seq 400); do post ending; done
"#;
    cluster.apply_ready(&beside(cluster, "leaving", 60, script));
    let plan = Plan::mqtt(cluster.mqtt("leaving"), Version::V5).within(cluster.place());
    let load = plan.clients(12).rate(120).start();
    load.wait_acknowledged(100);
    let connections = |pod: &str| -> u64 {
        let address = cluster.get("leaving", &format!("pod/{pod}"))["status"]["podIP"].clone();
        let admin = SocketAddr::new(address.as_str().unwrap().parse().unwrap(), ADMIN_PORT);
        let metrics = curl_in(cluster.place(), admin, "/metrics", &[]).body;
        let open = metrics.lines().filter(|line| line.starts_with("penstock_connections{"));
        let mqtt = open.filter(|line| line.contains(r#"endpoint="mqtt""#));
        mqtt.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let pods = cluster.pods("leaving");
    let pod = pods.iter().find(|pod| connections(pod) > 0).unwrap();
    cluster.kubectl(&["delete", "pod", pod, "-n", "leaving", "--wait=false"]).expect_ok();
    until("every client has left the pod that ends", SOON, || (connections(pod) == 0).then_some(()));
    let ending = cluster.get("leaving", &format!("pod/{pod}"));
    let running = &ending["status"]["containerStatuses"][0]["state"]["running"];
    assert!(running.is_object(), "the adapter is still ending: {:#}", ending["status"]);
    load.wait_acknowledged(100);
    assert_eq!(load.unreachable(), 0, "somebody found nobody listening");
    let history = load.finish(SOON * 3);
    assert!(!history.closes.is_empty());
    assert!(history.closes.iter().all(|close| close.reason.is_some()), "each was told: {:?}", history.closes);
    assert_eq!(history.refused(), 0, "refused for good");
    let mut records = cluster.kafka.read("leaving");
    records.retain(|record| record.key() != Some("p/adapter"));
    penstock_e2e::checker::check(&history, &records).assert_kept();
}

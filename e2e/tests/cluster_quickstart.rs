//! The chart by helm, the quickstart by kubectl, on a whole cluster: what the docs tell a person to type, and what comes.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stdout, reason = "the time to Ready is worth reading")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use penstock_e2e::checker::check;
use penstock_e2e::cluster::{Installed, SYSTEM, repository};
use penstock_e2e::load::wire::Version;
use penstock_e2e::load::{Loads, Plan};
use penstock_e2e::until;
use penstock_e2e::until::SOON;
use serde_json::{Value, json};

/// Labels of what belongs to the quickstart.
const OURS: &str = "penstock.dev/pipeline=quickstart";
/// Every kind that a pipeline may have children of, and what their controllers make of them.
const KINDS: &str = "deployments,replicasets,pods,services,endpointslices,configmaps,serviceaccounts,\
                     poddisruptionbudgets,networkpolicies,horizontalpodautoscalers";
/// What a pipeline may take from `kubectl apply` to Ready beyond the time that its pods must have been ready.
const LIMIT: Duration = Duration::from_secs(8);

/// The example as it is, with another Kafka.
fn quickstart(cluster: &Installed) -> String {
    let text = std::fs::read_to_string(repository().join("docs/examples/quickstart.yaml")).unwrap();
    let changed = text.replace("localhost:9092", &cluster.kafka.bootstrap());
    assert_ne!(text, changed, "the example names another Kafka now");
    changed
}

fn said(cluster: &Installed, line: &str) -> String {
    cluster.kubectl(&line.split(' ').collect::<Vec<_>>()).expect_ok()
}

/// Head of a table to the field below it, in the one row that it has. No field of ours has a blank in it.
fn row(table: &str) -> BTreeMap<String, String> {
    let [head, fields] = table.lines().collect::<Vec<_>>()[..] else { panic!("one row: {table}") };
    let heads = head.split("  ").map(str::trim).filter(|head| !head.is_empty());
    // `Paused` is empty unless it is so, and its field a blank: fields begin below their heads.
    heads
        .map(|name| {
            let begin = head.find(name).unwrap();
            let field = fields.get(begin..).unwrap_or_default();
            (name.to_owned(), field.split(' ').next().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn the_quickstart_takes_messages_on_a_cluster_and_its_deletion_leaves_nothing() {
    let cluster = &*Installed::shared();
    cluster.create_namespace("quickstart");
    let manifest = quickstart(cluster);
    let apply = ["apply", "-n", "quickstart", "-f", "-"];
    let started = Instant::now();
    cluster.kubectl_with(&apply, &manifest).expect_ok();
    cluster.wait_ready("quickstart", "quickstart");
    let took = started.elapsed();
    let settle = cluster.min_ready("quickstart", "quickstart");
    println!("from apply to Ready: {took:.1?}, of which pods must have been ready for {settle:?}");

    // Topics are as declared.
    let topics = [("telemetry", 6), ("dead-letters", 1)];
    for (topic, partitions) in topics {
        assert_eq!(cluster.kafka.in_sync(topic), Some(vec![1; partitions]), "{topic}");
    }

    look_at_it(cluster);
    drift_is_none(cluster, &manifest);
    messages_come_through_its_services(cluster);

    // Whoever deletes it waits for nothing else.
    said(cluster, "delete ipl quickstart -n quickstart --timeout=60s");
    until("the garbage collector has taken every child", SOON * 3, || {
        said(cluster, &format!("get {KINDS} -n quickstart -l {OURS} -o name")).is_empty().then_some(())
    });
    let left = said(cluster, &format!("get {KINDS} -n quickstart -o name"));
    // These two Kubernetes makes in every namespace.
    assert_eq!(
        left.split_whitespace().collect::<Vec<_>>(),
        ["configmap/kube-root-ca.crt", "serviceaccount/default"]
    );
    for (topic, partitions) in topics {
        assert_eq!(cluster.kafka.in_sync(topic), Some(vec![1; partitions]), "{topic} stays");
    }
    assert!(took < LIMIT + settle, "from apply to Ready: {took:.1?}, beyond {settle:?} at most {LIMIT:?}");
}

/// What `kubectl get`, `describe` and `explain` show.
fn look_at_it(cluster: &Installed) {
    let narrow = row(&said(cluster, "get ipl -n quickstart"));
    for (head, field) in [
        ("NAME", "quickstart"),
        ("READY", "True"),
        ("REASON", "Available"),
        ("ENDPOINTS", "mqtt:1883,http:8080"),
        ("REPLICAS", "2"),
    ] {
        assert_eq!(narrow.get(head).map(String::as_str), Some(field), "{head} of {narrow:?}");
    }
    let heads: Vec<_> = narrow.keys().map(String::as_str).collect();
    assert_eq!(heads, ["AGE", "ENDPOINTS", "NAME", "READY", "REASON", "REPLICAS"]);
    let wide = row(&said(cluster, "get ipl -n quickstart -o wide"));
    let pipeline = cluster.get("quickstart", "ipl/quickstart");
    let hash = pipeline["status"]["configHash"].as_str().unwrap();
    assert_eq!(wide.get("CONFIG HASH").map(String::as_str), Some(hash), "{wide:?}");
    // One broker, one replica: what it acknowledges is on one disk.
    assert_eq!(wide.get("DURABLE").map(String::as_str), Some("False"), "{wide:?}");
    assert_eq!(wide.get("PAUSED").map(String::as_str), Some(""), "{wide:?}");

    let described = said(cluster, "describe ipl quickstart -n quickstart");
    for text in ["Ready", "TopicsReady", "EdgeAvailable", "Durable", "the current generation is served"] {
        assert!(described.contains(text), "{text} is not in {described}");
    }
    let events = described.split("Events:").nth(1).unwrap_or_default();
    assert!(events.contains("penstock-operator"), "no Event of ours: {described}");
    let explained = said(cluster, "explain ipl.spec.topics");
    assert!(explained.contains("partitions\t<integer>"), "{explained}");
    let explained = said(cluster, "explain ipl.status");
    assert!(explained.contains("configHash\t<string>"), "{explained}");

    // Its children, by the label that the docs name.
    let pods = said(cluster, &format!("get pods -n quickstart -l {OURS} --no-headers"));
    assert_eq!(
        pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count(),
        2,
        "{pods}"
    );
}

/// What a GitOps tool asks: is what is there what I have? Also when somebody else owns other fields of it.
fn drift_is_none(cluster: &Installed, manifest: &str) {
    let clean = |how: &[&str]| {
        let said = cluster.kubectl_with(&[&["diff", "-n", "quickstart", "-f", "-"], how].concat(), manifest);
        assert!(said.ok && said.out.is_empty(), "{how:?}: {}{}", said.out, said.err);
    };
    clean(&[]);
    let argo = ["--server-side", "--field-manager=argocd-controller", "--force-conflicts"];
    let apply = [&["apply", "-n", "quickstart", "-f", "-"], &argo[..]].concat();
    cluster.kubectl_with(&apply, manifest).expect_ok();
    cluster.wait_ready("quickstart", "quickstart");
    clean(&argo);
    clean(&[]);
    let pipeline = cluster.get("quickstart", "ipl/quickstart");
    assert_eq!(pipeline["metadata"]["generation"], 1, "the operator never writes the spec");
}

fn messages_come_through_its_services(cluster: &Installed) {
    let pipeline = cluster.get("quickstart", "ipl/quickstart");
    let endpoints = pipeline["status"]["endpoints"].as_array().unwrap();
    let url = |name: &str| {
        let found = endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap();
        found["url"].as_str().unwrap().to_owned()
    };
    assert_eq!(url("mqtt"), "mqtt://quickstart-mqtt.quickstart.svc:1883");
    assert_eq!(url("http"), "http://quickstart-http.quickstart.svc:8080");

    // By the addresses of the status, as a person would.
    let place = format!("{}/v1/demo/meter-1/telemetry", url("http"));
    let curl = ["--silent", "--fail-with-body", "--json", r#"{"t": 21.5}"#, &place];
    let output = cluster.command("curl").args(curl).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["topic"], "telemetry", "{answer}");
    let host = url("mqtt").replace("mqtt://", "").replace(":1883", "");
    let publish = ["-h", &host, "-V", "mqttv5", "-q", "1", "-t", "v1/demo/meter-2/telemetry", "-m", "21.6"];
    let output = cluster.command("mosquitto_pub").args(publish).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = cluster.kafka.read("telemetry");
    let stored: Vec<_> = records.iter().map(|record| (record.key(), record.text())).collect();
    for wanted in [(Some("demo/meter-1"), r#"{"t": 21.5}"#), (Some("demo/meter-2"), "21.6")] {
        assert!(stored.contains(&wanted), "{stored:?}");
    }

    // Many, with the ledger checker.
    let plans = [
        Plan::mqtt(cluster.service("quickstart", "quickstart-mqtt", 1883), Version::V5),
        Plan::http(cluster.service("quickstart", "quickstart-http", 8080)),
    ];
    let loads = plans.map(|plan| plan.within(cluster.place()).messages(100).start());
    let mut history = penstock_e2e::checker::History::default();
    for load in loads {
        history.merge(load.complete(SOON * 2));
    }
    assert_eq!(history.acknowledged(), 800);
    let mut records = cluster.kafka.read("telemetry");
    records.retain(|record| !record.key().unwrap_or_default().starts_with("demo/"));
    check(&history, &records).assert_kept();
}

#[test]
fn the_operator_of_the_chart_is_restricted_and_says_what_it_does() {
    let cluster = &*Installed::shared();
    let pods = said(cluster, &format!("get pods -n {SYSTEM} --no-headers"));
    assert!(pods.lines().count() == 1 && pods.contains("1/1"), "{pods}");
    let lease = cluster.get(SYSTEM, "lease/penstock-operator");
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap();
    assert!(pods.contains(holder.split('_').next().unwrap()), "{holder} is none of {pods}");
    let metrics = format!("http://penstock-operator.{SYSTEM}.svc:9464/metrics");
    let output = cluster.command("curl").args(["--silent", "--fail", &metrics]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("penstock_operator_leader 1"), "{text}");
}

/// What a cloud would give to a Service; one that kube-proxy answers for, beside the node's own.
const BALANCER: &str = "192.0.2.80";

#[test]
fn senders_from_outside_come_through_a_node_port_and_a_load_balancer() {
    let cluster = &*Installed::shared();
    let namespace = "exposed";
    let pipeline = cluster
        .telemetry(namespace)
        .set("/spec/endpoints/0/exposure", json!({"type": "NodePort"}))
        .set("/spec/endpoints/1/exposure", json!({"type": "LoadBalancer"}));
    cluster.apply_ready(&pipeline);
    let service = cluster.get(namespace, "service/telemetry-mqtt");
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let mqtt = SocketAddr::new(cluster.node_address().parse().unwrap(), port as u16);
    // As a cloud's controller does, which this cluster has none of.
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}}).to_string();
    let patch =
        ["patch", "service", "telemetry-rest", "-n", namespace, "--subresource=status", "--type=merge"];
    cluster.kubectl(&[&patch[..], &["-p", &address]].concat()).expect_ok();
    let http = SocketAddr::new(BALANCER.parse().unwrap(), 8080);
    let url = until("status has the address of the load balancer", SOON, || {
        let pipeline = cluster.get(namespace, "ipl/telemetry");
        let url = pipeline["status"]["endpoints"][1]["url"].as_str()?.to_owned();
        url.contains(BALANCER).then_some(url)
    });
    assert_eq!(url, format!("http://{http}"));
    assert_eq!(cluster.condition(namespace, "telemetry", "Ready").as_deref(), Some("True/Available"));
    let plans = [Plan::mqtt(mqtt, Version::V5), Plan::http(http)];
    let loads = Loads::new(plans.map(|plan| plan.within(cluster.place()).clients(2).rate(100).start()));
    loads.wait_acknowledged(100);
    cluster.finish(loads, namespace);
}

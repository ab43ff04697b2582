//! What a person gets wrong: each mistake gets one message with what, where and what to do, and its exit code.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::TcpListener;

use penstock_e2e::clients::curl;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar, sidecar};
use serde_json::json;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

fn refused(manifest: &str, code: i32, texts: &[&str]) {
    let ended = Sidecar::manifest(manifest).run_to_end();
    assert_eq!(ended.code, code, "{}", ended.text);
    for text in texts {
        assert!(ended.text.contains(text), "no {text:?} in: {}", ended.text);
    }
    assert!(!ended.text.contains("panicked"), "{}", ended.text);
}

fn good() -> Pipeline {
    Pipeline::on(NOWHERE, "telemetry")
}

#[test]
fn a_manifest_that_is_no_pipeline_is_refused_with_its_place() {
    refused("", 3, &["empty"]);
    refused("# only a comment\n", 3, &["empty"]);
    refused("{", 3, &["YAML"]);
    refused(&format!("{}\n---\n{}\n", good(), good()), 3, &["one document"]);
    refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", 3, &["IngestPipeline"]);
    refused(
        &good().set("/spec/endpoints/0/mqtt/maxQos", 1).to_string(),
        3,
        &["spec.endpoints[0].mqtt", "maxQos"],
    );
    refused(&good().set("/spec/kafka/producer/acks", "1").to_string(), 3, &["spec.kafka.producer", "acks"]);
    refused(&good().set("/spec/endpoints/0/port", "1883").to_string(), 3, &["spec.endpoints[0].port"]);
    refused(
        &good().set("/spec/routes/0/to/topic", "elsewhere").to_string(),
        3,
        &["spec.routes[0]", "a route leads to a topic that is not declared"],
    );
    refused(
        &good().set("/spec/delivery/qos", "ExactlyOnce").to_string(),
        3,
        &["spec.delivery.qos", "not served by this version"],
    );
}

#[test]
fn a_yaml_bomb_is_refused_without_being_expanded() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (this, before) in ["b", "c", "d", "e", "f", "g", "h", "i", "j"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h", "i"])
    {
        let ten = vec![format!("*{before}"); 10].join(",");
        bomb.push_str(&format!("{this}: &{this} [{ten}]\n"));
    }
    refused(&bomb, 3, &["pipeline.yaml"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = sidecar::command(&["run", "-f", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-file.yaml"));
    let output = sidecar::command(&["run"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn an_edge_configuration_of_another_version_is_refused() {
    let folder = penstock_e2e::folder::fresh("edge-");
    let path = folder.path().join("EDGE.json");
    for (content, text) in [("{\"version\": 999}", "version 999"), ("[]", "no version"), ("{", "not JSON")] {
        std::fs::write(&path, content).unwrap();
        let output = sidecar::command(&["run", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(text), "{output:?}");
    }
}

#[test]
fn a_port_in_use_is_named_with_its_endpoint() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let manifest = good().set("/spec/endpoints/1/port", port).to_string();
    refused(&manifest, 4, &["rest", &port.to_string(), "in use"]);
}

#[test]
fn a_reference_that_is_not_there_is_named() {
    let manifest = good().set(
        "/spec/kafka/authentication/scramSha512",
        json!({"username": "u", "passwordSecret": {"name": "kafka-user", "key": "password"}}),
    );
    refused(&manifest.to_string(), 3, &["spec.kafka.authentication", "secrets/kafka-user/password"]);
    let schema = json!({"name": "schemas", "key": "s.json"});
    let manifest = good().set("/spec/routes/0/validation/jsonSchema/configMap", schema);
    refused(&manifest.to_string(), 3, &["telemetry", "configmaps/schemas/s.json"]);
}

#[test]
fn a_kafka_that_is_not_there_is_said_and_senders_are_told() {
    let sidecar = Sidecar::run(&good().ack_timeout(2)).not_ready().start();
    sidecar.wait_log("spec.kafka.bootstrapServers");
    let answer = sidecar.get("/readyz").unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(NOWHERE), "{answer:?}");
    assert_eq!(sidecar.get("/livez").unwrap().status, 200);
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]);
    response.assert_problem(503);
    assert!(response.header("retry-after").is_some());
}

#[test]
fn a_wrong_password_is_said_without_the_password() {
    let kafka = Kafka::single().user("telemetry", "opens-sesame").start();
    let topic = kafka.create_topic("password", 1);
    kafka.allow("telemetry", &["Write", "Describe"], &topic);
    let pipeline = |mechanism: &str| {
        Pipeline::telemetry(&kafka, &topic).set(
            &format!("/spec/kafka/authentication/{mechanism}"),
            json!({"username": "telemetry", "passwordSecret": {"name": "kafka-user", "key": "password"}}),
        )
    };
    for mechanism in ["plain", "scramSha512"] {
        let wrong = Sidecar::run(&pipeline(mechanism))
            .reference("secrets/kafka-user/password", "wrong-pa55word")
            .not_ready()
            .start();
        wrong.wait_log("spec.kafka.authentication");
        assert!(!wrong.is_ready());
        assert!(!wrong.log().contains("wrong-pa55word"), "a secret in the log");
        let right = Sidecar::run(&pipeline(mechanism))
            .reference("secrets/kafka-user/password", "opens-sesame\n")
            .start();
        assert_eq!(curl(right.http(), "/v1/p/d/telemetry", &["-d", "x"]).status, 200);
    }
    assert_eq!(kafka.read(&topic).len(), 2);
}

fn with_credentials(kafka: &Kafka, topic: &str) -> Sidecar {
    let pipeline = Pipeline::telemetry(kafka, topic).ack_timeout(3).set(
        "/spec/kafka/authentication/scramSha256",
        json!({"username": "telemetry", "passwordSecret": {"name": "kafka-user", "key": "password"}}),
    );
    Sidecar::run(&pipeline).reference("secrets/kafka-user/password", "opens-sesame").not_ready().start()
}

/// 503 until the user may write, then 200.
fn assert_held_until_allowed(kafka: &Kafka, topic: &str, sidecar: &Sidecar) {
    curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]).assert_problem(503);
    sidecar.wait_log("ACLs");
    assert!(!sidecar.is_ready());
    kafka.allow("telemetry", &["Write"], topic);
    until("it may now", SOON * 2, || {
        (curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]).status == 200).then_some(())
    });
    sidecar.assert_ledger_balances();
}

#[test]
fn a_topic_one_may_not_write_is_said_and_takes_nothing() {
    let kafka = Kafka::single().user("telemetry", "opens-sesame").start();
    let (topic, other) = (kafka.create_topic("forbidden", 1), kafka.create_topic("allowed", 1));
    kafka.allow("telemetry", &["Describe"], &topic);
    kafka.allow("telemetry", &["Describe", "Write"], &other);
    let sidecar = with_credentials(&kafka, &topic);
    assert_held_until_allowed(&kafka, &topic, &sidecar);
}

#[test]
fn a_user_who_may_write_nothing_gets_no_producer_and_is_named() {
    let kafka = Kafka::single().user("telemetry", "opens-sesame").start();
    let topic = kafka.create_topic("forbidden", 1);
    kafka.allow("telemetry", &["Describe"], &topic);
    let sidecar = with_credentials(&kafka, &topic);
    assert_held_until_allowed(&kafka, &topic, &sidecar);
}

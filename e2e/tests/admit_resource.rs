//! The resource on a real API server: explained, listed, scaled, defaulted, changed and changed back.

use std::collections::BTreeSet;

use penstock_crds::schema;
use penstock_e2e::until::{START, until};
use penstock_e2e::{ApiServer, Pipeline};
use serde_json::Value;

/// Paths of all objects below `schema`, as `kubectl explain` takes them, each with its schema. Kubernetes' own are
/// left out.
fn objects<'s>(schema: &'s Value, path: &str, found: &mut Vec<(String, &'s Value)>) {
    if path.ends_with(".affinity") || path.ends_with(".metadata") {
        return;
    }
    if let Some(items) = schema.get("items") {
        return objects(items, path, found);
    }
    let Some(fields) = schema["properties"].as_object() else { return };
    found.push((path.to_owned(), schema));
    for (name, field) in fields {
        objects(field, &format!("{path}.{name}"), found);
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn kubectl_explains_every_level_in_the_words_of_the_types() {
    let api = ApiServer::serving_pipelines();
    // What explain reads, the server publishes a moment after it serves the resource.
    until("the resource is published", START, || api.kubectl(&["explain", "ipl"]).ok.then_some(()));
    let mut found = Vec::new();
    objects(schema::open_api(), "ipl", &mut found);
    assert!(found.len() > 30, "only {} objects", found.len());
    let mut silent = Vec::new();
    for (path, schema) in &found {
        let said = words(&api.kubectl(&["explain", path]).expect_ok());
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let description = words(field["description"].as_str().unwrap_or_default());
            // The server has words of its own for these.
            let builtin = matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
            if !builtin && (description.is_empty() || !said.contains(&description)) {
                silent.push(format!("{path}.{name}"));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
    let endpoint = words(&api.kubectl(&["explain", "ipl.spec.endpoints"]).expect_ok());
    assert!(endpoint.contains("port <integer> -required-"), "{endpoint}");
    let qos = words(&api.kubectl(&["explain", "ipl.spec.delivery.qos"]).expect_ok());
    assert!(qos.contains("AtMostOnce AtLeastOnce ExactlyOnce"), "{qos}");
}

fn get(api: &ApiServer, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    api.kubectl(&["-n", "e2e", "get", "ipl", "telemetry", "-o", &path]).expect_ok()
}

fn created() -> ApiServer {
    let api = ApiServer::serving_pipelines();
    api.kubectl(&["create", "namespace", "e2e"]).expect_ok();
    let pipeline = Pipeline::on("kafka:9092", "telemetry")
        .set("/spec/topics/0/partitions", 6)
        .set("/spec/topics/0/config", serde_json::json!({"retention.ms": null, "segment.ms": "60000"}))
        .set("/spec/sessions", Value::Null);
    api.kubectl_with(&["create", "--validate=strict", "-f", "-"], &pipeline.to_string()).expect_ok();
    api
}

#[test]
fn a_pipeline_is_kept_as_written_without_defaults_and_nulls() {
    let api = created();
    // No operator has seen it, which kstatus must be able to tell.
    assert_eq!(get(&api, ".status"), r#"{"observedGeneration":-1}"#);
    let spec: Value = serde_json::from_str(&get(&api, ".spec")).expect("JSON");
    let fields: BTreeSet<_> = spec.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["delivery", "edge", "endpoints", "kafka", "routes", "topics"]));
    assert_eq!(spec["topics"][0]["config"], serde_json::json!({"segment.ms": "60000"}));
    assert_eq!(spec["endpoints"][1]["http"], serde_json::json!({}));
}

#[test]
fn the_list_tells_what_one_wants_to_know() {
    let api = created();
    let status = serde_json::json!({"status": {
        "observedGeneration": 1,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "KafkaUnreachable", "message": "no broker answers",
             "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Durable", "status": "True", "reason": "Replicated", "message": "",
             "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ],
        "endpoints": [
            {"name": "mqtt", "protocol": "mqtt", "url": "mqtt://telemetry-edge.e2e:1883"},
            {"name": "rest", "protocol": "http", "url": "http://telemetry-edge.e2e:8080"},
        ],
        "endpointSummary": "mqtt:1883,rest:8080",
        "replicas": 3,
        "readyReplicas": 2,
        "selector": "app=telemetry",
        "configHash": "c0ffee",
    }});
    api.kubectl(&[
        "-n",
        "e2e",
        "patch",
        "ipl",
        "telemetry",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ])
    .expect_ok();
    let list = api.kubectl(&["-n", "e2e", "get", "ipl"]).expect_ok();
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "READY", "REASON", "ENDPOINTS", "REPLICAS", "AGE"]);
    assert_eq!(lines[1][..5], ["telemetry", "False", "KafkaUnreachable", "mqtt:1883,rest:8080", "2"]);
    let wide = api.kubectl(&["-n", "e2e", "get", "ipl", "-o", "wide"]).expect_ok();
    assert!(wide.contains("DURABLE") && wide.contains("CONFIG HASH") && wide.contains("c0ffee"), "{wide}");
}

#[test]
fn it_is_scaled_unless_it_scales_itself() {
    let api = created();
    api.kubectl(&["-n", "e2e", "scale", "ipl/telemetry", "--replicas=3"]).expect_ok();
    assert_eq!(get(&api, ".spec.edge.replicas"), "3");
    let scaled = r#"{"spec": {"edge": {"replicas": null}, "autoscaling": {"maxReplicas": 5}}}"#;
    api.kubectl(&["-n", "e2e", "patch", "ipl", "telemetry", "--type=merge", "-p", scaled]).expect_ok();
    let refused = api.kubectl(&["-n", "e2e", "scale", "ipl/telemetry", "--replicas=4"]);
    assert!(!refused.ok && refused.err.contains("remove edge.replicas or autoscaling"), "{refused:?}");
}

#[test]
fn every_change_can_be_taken_back() {
    let api = created();
    // Kafka cannot follow all of these; the operator says so, and a revert must be admitted.
    for (change, back) in [
        (
            r#"[{"op": "replace", "path": "/spec/topics/0/partitions", "value": 12}]"#,
            r#"[{"op": "replace", "path": "/spec/topics/0/partitions", "value": 6}]"#,
        ),
        (
            r#"[{"op": "replace", "path": "/spec/topics/0/topicName", "value": "other"}]"#,
            r#"[{"op": "replace", "path": "/spec/topics/0/topicName", "value": "telemetry"}]"#,
        ),
        (
            r#"[{"op": "replace", "path": "/spec/endpoints/1/port", "value": 20001}]"#,
            r#"[{"op": "replace", "path": "/spec/endpoints/1/port", "value": 20002}]"#,
        ),
    ] {
        for patch in [change, back] {
            api.kubectl(&["-n", "e2e", "patch", "ipl", "telemetry", "--type=json", "-p", patch]).expect_ok();
        }
    }
}

#[test]
fn elements_of_lists_are_merged_by_name() {
    let api = created();
    // Two appliers own a topic each; neither takes the other's away.
    for topic in ["a", "b"] {
        let manifest = serde_json::json!({
            "apiVersion": "penstock.dev/v1alpha1", "kind": "IngestPipeline",
            "metadata": {"name": "telemetry", "namespace": "e2e"},
            "spec": {"topics": [{"name": topic, "partitions": 1}]},
        });
        let manager = format!("--field-manager={topic}");
        api.kubectl_with(&["apply", "--server-side", &manager, "-f", "-"], &manifest.to_string()).expect_ok();
    }
    assert_eq!(get(&api, ".spec.topics[*].name"), "telemetry a b");
}

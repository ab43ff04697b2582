//! What is filled in is what the fields say, and references become files.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::Path;

use penstock_crds::edge::{TOPIC_ALIAS_MAXIMUM, WILL_GRACE_SECONDS};
use penstock_crds::{manifest, resolve, schema, standalone};
use serde_json::{Value, json};

fn resolved(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let pipeline = manifest::read(&fs::read_to_string(path).unwrap()).unwrap();
    serde_json::to_value(resolve::resolve(&pipeline).unwrap()).unwrap()
}

/// The word after `Default: ` in the description of a field.
fn told(path: &str) -> String {
    let pointer: String =
        path.split('.').map(|name| format!("/properties/{}", name.replace("[]", "/items"))).collect();
    let description = schema::open_api().pointer(&pointer).unwrap()["description"].as_str().unwrap();
    let (_, default) = description.split_once("Default: ").unwrap();
    default.split([' ', ',']).next().unwrap().trim_end_matches('.').to_owned()
}

#[test]
fn defaults_are_those_that_the_fields_tell() {
    let config = resolved("tests/manifests/good/smallest.yaml");
    for (field, place) in [
        ("spec.kafka.producer.lingerMilliseconds", "/kafka/lingerMilliseconds"),
        ("spec.kafka.producer.compression", "/kafka/compression"),
        ("spec.endpoints[].mqtt.receiveMaximum", "/endpoints/0/protocol/mqtt/receiveMaximum"),
        ("spec.endpoints[].limits.maxConnections", "/endpoints/0/limits/maxConnections"),
        ("spec.endpoints[].limits.maxMessageBytes", "/endpoints/0/limits/maxMessageBytes"),
        ("spec.endpoints[].limits.maxInFlightBytes", "/endpoints/0/limits/maxInFlightBytes"),
        ("spec.endpoints[].limits.maxInFlightMessages", "/endpoints/0/limits/maxInFlightMessages"),
        (
            "spec.endpoints[].limits.maxInFlightBytesPerConnection",
            "/endpoints/0/limits/maxInFlightBytesPerConnection",
        ),
        ("spec.delivery.ackTimeoutSeconds", "/delivery/ackTimeoutSeconds"),
        ("spec.edge.maxInFlightBytes", "/maxInFlightBytes"),
        ("spec.edge.drain.acceptSeconds", "/drain/acceptSeconds"),
        ("spec.edge.drain.clientSeconds", "/drain/clientSeconds"),
    ] {
        let value = config.pointer(place).unwrap();
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(value, told(field), "{field}");
    }
    assert_eq!(config["endpoints"][0]["protocol"]["mqtt"]["maximumQos"], 2);
    assert_eq!(told("spec.endpoints[].mqtt.topicAliasMaximum"), TOPIC_ALIAS_MAXIMUM.to_string());
    assert_eq!(config["endpoints"][0]["protocol"]["mqtt"].get("maximumKeepAliveSeconds"), None);
    assert_eq!(config["endpoints"][0]["loopback"], false);
    assert_eq!(config["topics"][0], json!({"name": "telemetry", "topicName": "telemetry"}));
    assert_eq!(config["pipeline"], json!({"namespace": "default", "name": "smallest"}));
}

#[test]
fn references_are_files_with_the_keys_that_the_fields_tell() {
    let config = resolved("../docs/examples/production.yaml");
    assert_eq!(config["kafka"]["tls"], json!({"ca": "secrets/kafka-ca/ca.crt"}));
    assert_eq!(
        config["kafka"]["authentication"],
        json!({"mechanism": "SCRAM-SHA-512", "username": "telemetry", "password": "secrets/telemetry-kafka/password"})
    );
    assert_eq!(config["routes"][0]["jsonSchema"], "configmaps/telemetry-schema/schema.json");
    assert_eq!(config["endpoints"][1]["protocol"], json!({"http": {"basePath": "/ingest"}}));
    assert_eq!(config["topics"][0]["minInSyncReplicas"], 2);
    assert_eq!(told("spec.kafka.tls.ca.key"), "ca.crt");
    assert_eq!(told("spec.kafka.authentication.plain.passwordSecret.key"), "password");
    assert_eq!(told("spec.routes[].validation.jsonSchema.configMap.key"), "schema.json");
}

#[test]
fn sessions_are_in_memory_unless_redis_is_named() {
    let config = resolved("tests/manifests/good/smallest.yaml");
    assert_eq!(config.get("sessions"), None);
    let mqtt = &config["endpoints"][0]["protocol"]["mqtt"];
    // What is left out when it is written is filled in when it is read.
    assert_eq!((mqtt.get("sessionExpirySeconds"), mqtt.get("willGraceSeconds")), (None, None));
    assert_eq!(told("spec.endpoints[].mqtt.sessionExpirySeconds"), "0");
    assert_eq!(told("spec.endpoints[].mqtt.willGraceSeconds"), WILL_GRACE_SECONDS.to_string());
    let config = resolved("tests/manifests/good/sessions-in-redis.yaml");
    let servers = json!({"standalone": {"address": "sessions:6379", "database": 1}});
    let user = json!({"name": "penstock", "password": "secrets/sessions/password"});
    let tls = json!({"ca": "secrets/redis-ca/ca.crt"});
    assert_eq!(config["sessions"], json!({"redis": {"servers": servers, "user": user, "tls": tls}}));
    assert_eq!(config["endpoints"][0]["protocol"]["mqtt"]["sessionExpirySeconds"], 60);
    let config = resolved("tests/manifests/good/sessions-behind-sentinels.yaml");
    let sentinel = &config["sessions"]["redis"]["servers"]["sentinel"];
    assert_eq!(sentinel["primaryName"], "sessions");
    assert_eq!(sentinel["user"], json!({"name": "watcher", "password": "secrets/sentinels/secret"}));
    assert_eq!(config["sessions"]["redis"]["tls"], json!({}));
}

#[test]
fn an_endpoint_of_the_pod_listens_on_loopback() {
    assert_eq!(resolved("tests/manifests/good/adapter-in-the-pod.yaml")["endpoints"][0]["loopback"], true);
}

#[test]
fn what_only_the_operator_does_is_told() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/production.yaml"));
    let pipeline = manifest::read(&text.unwrap()).unwrap();
    let notes = standalone::left_to_operator(&pipeline);
    let paths: Vec<_> = notes.iter().map(|note| note.path.as_str()).collect();
    for path in [
        "spec.delivery.requireDurable",
        "spec.autoscaling",
        "spec.networkPolicy",
        "spec.edge.resources",
        "spec.topics[0].management",
        "spec.topics[0].config",
        "spec.endpoints[0].exposure",
    ] {
        assert!(paths.contains(&path), "{path} is not told: {paths:?}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/good/smallest.yaml");
    let smallest = manifest::read(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(standalone::left_to_operator(&smallest), []);
}

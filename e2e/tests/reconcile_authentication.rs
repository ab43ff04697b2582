//! What the operator makes of authentication: Secrets checked for their shape, mounted for the sidecar alone, and read
//! again by the pods themselves.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use penstock_e2e::credentials::{Issuer, sha256_line};
use penstock_e2e::deployments::Deployments;
use penstock_e2e::operator::condition;
use penstock_e2e::until::SOON;
use penstock_e2e::{ApiServer, Kafka, Operator, Pipeline, Playground, until};
use serde_json::{Value, json};

const NAME: &str = "authenticated";
const PASSWORD: &str = "opens-sesame";

fn message(pipeline: &Value, kind: &str) -> String {
    let mut conditions = pipeline["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
}

fn secret(key: &str, contents: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "devices", "namespace": "iot"},
        "stringData": {key: contents},
    })
}

fn pipeline(ground: &Playground) -> Pipeline {
    ground
        .pipeline(NAME)
        .set("/spec/endpoints/0/authentication", json!({"basic": {"usersSecret": {"name": "devices"}}}))
        .set("/spec/edge/adapters", json!([{"name": "modbus", "image": "registry.example/modbus:1"}]))
}

#[track_caller]
fn told(api: &ApiServer, parts: &[&str]) -> String {
    until(&format!("{parts:?} is told"), SOON, || {
        let told = message(&api.object("ipl", NAME)?, "Ready");
        parts.iter().all(|part| told.contains(part)).then_some(told)
    })
}

#[test]
fn a_secret_that_cannot_be_used_is_named_with_key_and_line_and_never_told() {
    let ground = Playground::start();
    let api = &ground.api;
    let _operator = Operator::start(api);
    api.apply(pipeline(&ground));
    let field = "spec.endpoints[0].authentication.basic.usersSecret";
    told(api, &[field, "there is no Secret devices"]);
    api.apply(secret("other", "x"));
    told(api, &[field, "Secret devices has no key users"]);
    api.apply(secret("users", &format!("{}marker-of-a-line\n", sha256_line("press-1", "secret"))));
    let text = told(api, &[field, "Secret devices, key users: line 2: has no ':'"]);
    assert!(!text.contains("marker"), "{text}");
    let seen = api.wait_condition(NAME, "Reconciling", "True/ReferenceUnusable");
    assert!(!seen.to_string().contains("marker"), "{seen:#}");
    assert!(api.object("deployment", NAME).is_none(), "nothing is made that could let nobody in");
    api.apply(secret("users", &sha256_line("press-1", "secret")));
    api.wait_condition(NAME, "Ready", "True/Available");
}

#[test]
fn a_secret_is_mounted_for_the_sidecar_alone_and_a_changed_one_rolls_no_pod() {
    let ground = Playground::start();
    let api = &ground.api;
    let operator = Operator::start(api);
    api.apply(secret("users", &sha256_line("press-1", "secret")));
    let pipeline = pipeline(&ground);
    api.apply(&pipeline);
    api.wait_condition(NAME, "Ready", "True/Available");
    let deployment = api.object("deployment", NAME).unwrap();
    let spec = &deployment["spec"]["template"]["spec"];
    let volumes = spec["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["secret"]["secretName"] == "devices").unwrap();
    assert_eq!(volume["secret"]["items"], json!([{"key": "users", "path": "users"}]));
    let mounts = |container: &Value| -> Vec<String> {
        let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        mounts.iter().map(|mount| mount["name"].as_str().unwrap().to_owned()).collect()
    };
    let name = volume["name"].as_str().unwrap().to_owned();
    for kind in ["initContainers", "containers"] {
        for container in spec[kind].as_array().unwrap() {
            let mounted = mounts(container).contains(&name);
            assert_eq!(mounted, container["name"] == "penstock", "{container:#}");
        }
    }
    let template = deployment["spec"]["template"].clone();
    api.apply(secret("users", &sha256_line("press-2", "another")));
    // An operator that starts looks at everything once.
    assert_eq!(operator.end(), 0);
    let _operator = Operator::start(api);
    api.apply(pipeline.set("/spec/revisionHistoryLimit", 4));
    until("the new generation is seen", SOON, || {
        let seen = api.object("ipl", NAME)?;
        (seen["status"]["observedGeneration"] == seen["metadata"]["generation"]).then_some(())
    });
    api.wait_condition(NAME, "Ready", "True/Available");
    let after = api.object("deployment", NAME).unwrap()["spec"]["template"].clone();
    assert_eq!(after, template, "the pods read it themselves");
}

#[test]
fn an_open_endpoint_is_a_warning_and_no_more() {
    let ground = Playground::start();
    let api = &ground.api;
    let _operator = Operator::start(api);
    let issuer = Issuer::new();
    api.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuer", "namespace": "iot"},
        "data": {"jwks.json": issuer.jwks()},
    }));
    api.apply(secret("users", &sha256_line("press-1", "secret")));
    let pipeline = pipeline(&ground);
    api.apply(&pipeline);
    let seen = api.wait_condition(NAME, "Ready", "True/Available");
    assert_eq!(condition(&seen, "SendersAuthenticated").as_deref(), Some("False/OpenEndpoint"));
    let told = message(&seen, "SendersAuthenticated");
    assert!(told.contains("rest") && !told.contains("mqtt"), "{told}");
    let settings = Issuer::settings(&json!({"configMap": {"name": "issuer"}}));
    api.apply(pipeline.clone().set("/spec/endpoints/1/authentication", settings));
    api.wait_condition(NAME, "SendersAuthenticated", "True/AllAuthenticate");
    // What only the pod itself reaches is open to nobody else.
    api.apply(pipeline.set("/spec/endpoints/1/exposure/type", "Pod"));
    until("it is told of the new generation", SOON, || {
        let seen = api.object("ipl", NAME)?;
        let current = seen["status"]["observedGeneration"] == seen["metadata"]["generation"];
        (current && condition(&seen, "SendersAuthenticated").as_deref() == Some("True/AllAuthenticate"))
            .then_some(())
    });
}

#[test]
fn a_changed_password_for_kafka_rolls_the_pods_and_is_told_nowhere() {
    let api = &ApiServer::serving_pipelines();
    let _player = Deployments::play(api);
    let kafka = Kafka::single().user("telemetry", PASSWORD).start();
    let _operator = Operator::start(api);
    let secret = |note: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "kafka", "namespace": "iot", "annotations": {"note": note}},
            "stringData": {"password": PASSWORD},
        })
    };
    api.apply(secret("first"));
    let topic = kafka.create_topic(NAME, 1);
    kafka.allow("telemetry", &["Write", "Describe", "DescribeConfigs"], &topic);
    let scram = json!({"scramSha512": {"username": "telemetry", "passwordSecret": {"name": "kafka"}}});
    let pipeline = Pipeline::telemetry(&kafka, &topic)
        .set("/metadata/namespace", "iot")
        .set("/metadata/name", NAME)
        .set("/spec/kafka/authentication", scram);
    api.apply(&pipeline);
    api.wait_condition(NAME, "Ready", "True/Available");
    let template = || api.object("deployment", NAME).unwrap()["spec"]["template"].clone();
    let hash = || api.object("ipl", NAME).unwrap()["status"]["configHash"].clone();
    let before = (template(), hash());

    // Its version counts, never what is in it; and the next reconcile reads it.
    api.apply(secret("second"));
    api.apply(pipeline.clone().set("/spec/revisionHistoryLimit", 4));
    until("the pods roll", SOON, || (template() != before.0).then_some(()));
    api.wait_condition(NAME, "Ready", "True/Available");
    assert_eq!(hash(), before.1, "the configuration is as it was");
    for kind in ["deployment", "configmap", "ipl", "event"] {
        for object in api.objects(kind) {
            assert!(!object.to_string().contains(PASSWORD), "{object:#}");
        }
    }
    let rolled = template();
    api.apply(pipeline.set("/spec/revisionHistoryLimit", 5));
    until("the new generation is seen", SOON, || {
        let seen = api.object("ipl", NAME)?;
        (seen["status"]["observedGeneration"] == seen["metadata"]["generation"]).then_some(())
    });
    assert_eq!(template(), rolled, "a Secret that is the same rolls nobody");
}

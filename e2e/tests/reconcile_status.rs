//! What a pipeline says of itself, at every moment that a watch sees: never Current too early, never Failed for what
//! mends itself, and nothing written without a reason.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::kafka::TopicSpec;
use penstock_e2e::kstatus::{Kstatus, evaluate};
use penstock_e2e::operator::condition;
use penstock_e2e::until::{SOON, throughout};
use penstock_e2e::versions::Versions;
use penstock_e2e::{ApiServer, Kafka, Operator, Pipeline, Playground, ports, until};
use serde_json::{Value, json};

fn message<'a>(pipeline: &'a Value, kind: &str) -> &'a str {
    let conditions = pipeline["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["message"].as_str()).unwrap_or_default()
}

fn annotate(api: &ApiServer, pipeline: &str, annotation: &str) {
    api.kubectl(&["annotate", "--overwrite", "ipl", pipeline, "-n", "iot", annotation]).expect_ok();
}

fn secret(data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials", "namespace": "iot"},
        "stringData": data,
    })
}

#[test]
fn a_pipeline_is_never_current_before_its_pods_are_available() {
    let ground = Playground::start();
    let api = &ground.api;
    let versions = Versions::watch(api);
    let pipeline = ground.pipeline("early");
    api.apply(&pipeline);
    let unseen = api.object("ipl", "early").unwrap();
    assert_eq!(evaluate(&unseen), Kstatus::InProgress, "nobody has seen it: {unseen:#}");

    ground.player.pods_become_ready(false);
    let operator = Operator::start(api);
    api.wait_condition("early", "Reconciling", "True/RollingOut");
    ground.player.pods_become_ready(true);
    api.wait_condition("early", "Ready", "True/Available");

    for (pointer, value) in [
        ("/spec/delivery/ackTimeoutSeconds", json!(6)),
        ("/spec/edge/replicas", json!(3)),
        ("/spec/edge/podLabels", json!({"team": "ours"})),
    ] {
        // Old pods are left for as long as they are.
        ground.player.old_pods_go(false);
        api.apply(pipeline.clone().set(pointer, value));
        if pointer != "/spec/edge/replicas" {
            api.wait_condition("early", "Reconciling", "True/RollingOut");
        }
        ground.player.old_pods_go(true);
        api.wait_condition("early", "Ready", "True/Available");
    }

    // Changed while nobody looks.
    assert_eq!(operator.end(), 0);
    api.apply(pipeline.clone().set("/spec/delivery/ackTimeoutSeconds", 7));
    assert_eq!(evaluate(&api.object("ipl", "early").unwrap()), Kstatus::InProgress);
    let _operator = Operator::start(api);
    api.wait_condition("early", "Ready", "True/Available");

    versions.catch_up(api);
    assert!(versions.of_pipeline("early").len() >= 10, "each step is a version");
    versions.assert_no_false_current();
    versions.assert_never_failed("early");
    versions.assert_times_move_with_status_only();
}

#[test]
fn what_is_missing_or_away_mends_itself_and_is_no_failure() {
    let kafka = Kafka::single().user("telemetry", "right").start();
    let topic = kafka.fresh_name("mends");
    kafka.create(&TopicSpec::new(&topic, 1));
    kafka.allow("telemetry", &["Describe", "DescribeConfigs", "Write"], &topic);
    let ground = Playground::start();
    let api = &ground.api;
    let versions = Versions::watch(api);
    let operator = Operator::start(api);
    let credentials = json!({"name": "credentials", "key": "password"});
    let pipeline = Pipeline::telemetry(&kafka, &topic)
        .set("/metadata/namespace", "iot")
        .set("/metadata/name", "mends")
        .set("/spec/kafka/authentication/scramSha512/username", "telemetry")
        .set("/spec/kafka/authentication/scramSha512/passwordSecret", credentials);
    api.apply(&pipeline);
    let seen = api.wait_condition("mends", "Reconciling", "True/ReferenceNotFound");
    let told = message(&seen, "Ready");
    assert!(told.contains("spec.kafka.authentication") && told.contains("Secret credentials"), "{told}");

    api.apply(secret(json!({"another": "right"})));
    until("the missing key is told", SOON, || {
        let seen = api.object("ipl", "mends")?;
        let told = message(&seen, "Ready");
        (told.contains("Secret credentials has no key password")
            && told.contains("spec.kafka.authentication"))
        .then_some(())
    });

    api.apply(secret(json!({"password": "wrong"})));
    let seen = api.wait_condition("mends", "Reconciling", "True/KafkaAuthenticationFailed");
    let generation = seen["metadata"]["generation"].clone();
    assert!(api.object("deployment", "mends").is_none(), "nothing is made that could not connect");

    api.apply(secret(json!({"password": "right"})));
    let seen = api.wait_condition("mends", "Ready", "True/Available");
    assert_eq!(seen["metadata"]["generation"], generation);

    // Converged, it stays ready while only the operator loses Kafka, also one that has never seen it.
    kafka.broker(0).kill();
    assert_eq!(operator.end(), 0);
    let operator = Operator::start(api);
    until("the operator has noticed", SOON, || {
        let seen = api.object("ipl", "mends")?;
        assert_eq!(condition(&seen, "Ready").as_deref(), Some("True/Available"), "{seen:#}");
        message(&seen, "TopicsReady").contains("cannot ask Kafka").then_some(())
    });
    throughout("it stays ready", Duration::from_secs(3), || {
        evaluate(&api.object("ipl", "mends").unwrap()) == Kstatus::Current
    });

    // What is changed meanwhile waits, and is on its way when Kafka is back.
    api.apply(pipeline.set("/spec/delivery/ackTimeoutSeconds", 6));
    let seen = api.wait_condition("mends", "Reconciling", "True/KafkaUnreachable");
    assert_eq!(evaluate(&seen), Kstatus::InProgress);
    kafka.broker(0).restart();
    let seen = api.wait_condition("mends", "Ready", "True/Available");
    assert!(!message(&seen, "TopicsReady").contains("cannot ask Kafka"), "{seen:#}");
    assert!(operator.metric("penstock_operator_leader").is_some(), "it lives");

    versions.catch_up(api);
    versions.assert_no_false_current();
    versions.assert_never_failed("mends");
    versions.assert_times_move_with_status_only();
}

#[test]
fn only_the_spec_mends_an_invalid_spec() {
    let ground = Playground::start();
    let api = &ground.api;
    let versions = Versions::watch(api);
    let _operator = Operator::start(api);
    let good = ground.pipeline("invalid");
    let packets =
        json!({"name": "packets", "port": ports::free(), "udp": {"acknowledgement": "AfterPersist"}});
    let bad = good.clone().push("/spec/endpoints", packets);
    api.apply(&bad);
    let seen = api.wait_condition("invalid", "Stalled", "True/InvalidSpec");
    assert_eq!(evaluate(&seen), Kstatus::Failed);
    assert!(message(&seen, "Stalled").contains("spec.endpoints"), "{}", message(&seen, "Stalled"));
    assert!(api.object("deployment", "invalid").is_none());
    api.apply(&good);
    let seen = api.wait_condition("invalid", "Ready", "True/Available");
    assert_eq!(condition(&seen, "Stalled"), None);
    let before = api.object("deployment", "invalid").unwrap();

    // The edge stays as it is while the spec is bad.
    api.apply(&bad);
    api.wait_condition("invalid", "Stalled", "True/InvalidSpec");
    let after = api.object("deployment", "invalid").unwrap();
    assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    api.apply(&good);
    api.wait_condition("invalid", "Ready", "True/Available");
    versions.catch_up(api);
    versions.assert_no_false_current();
    versions.assert_times_move_with_status_only();
}

#[test]
fn a_paused_pipeline_is_left_alone_until_it_goes_on() {
    let ground = Playground::start();
    let api = &ground.api;
    let _operator = Operator::start(api);
    let pipeline = ground.pipeline("paused");
    api.apply(&pipeline);
    api.wait_condition("paused", "Ready", "True/Available");
    annotate(api, "paused", "penstock.dev/pause-reconciliation=true");
    until("it says that it is paused", SOON, || {
        let seen = api.object("ipl", "paused")?;
        assert_eq!(condition(&seen, "Ready").as_deref(), Some("True/Available"), "what was so stays");
        (condition(&seen, "ReconciliationPaused").as_deref() == Some("True/Paused")).then_some(())
    });
    let others = || {
        let all = api.writes_of_operator().into_iter();
        all.filter(|write| write.resource != "ingestpipelines/status").count()
    };
    let before = others();
    // kubectl apply leaves alone what kubectl annotate has set.
    api.apply(pipeline.set("/spec/edge/replicas", 4));
    api.kubectl(&["delete", "networkpolicy", "paused", "-n", "iot"]).expect_ok();
    api.kubectl(&["label", "deployment", "paused", "-n", "iot", "--overwrite", "penstock.dev/plan-hash=x"])
        .expect_ok();
    throughout("nothing is written of a paused pipeline", Duration::from_secs(4), || {
        let seen = api.object("ipl", "paused").unwrap();
        assert_eq!(evaluate(&seen), Kstatus::InProgress, "the change is not acted upon: {seen:#}");
        others() == before
    });
    annotate(api, "paused", "penstock.dev/pause-reconciliation-");
    let seen = api.wait_condition("paused", "Ready", "True/Available");
    assert_eq!(condition(&seen, "ReconciliationPaused"), None);
    assert_eq!(api.object("deployment", "paused").unwrap()["spec"]["replicas"], 4);
    assert!(api.object("networkpolicy", "paused").is_some());
}

#[test]
fn durability_is_told_and_decides_only_where_it_is_required() {
    let ground = Playground::start();
    let api = &ground.api;
    let _operator = Operator::start(api);
    let pipeline = ground.pipeline("durable");
    api.apply(&pipeline);
    let seen = api.wait_condition("durable", "Ready", "True/Available");
    assert_eq!(condition(&seen, "Durable").as_deref(), Some("False/SingleReplica"));
    api.apply(pipeline.clone().set("/spec/delivery/requireDurable", true));
    let seen = api.wait_condition("durable", "Ready", "False/NotDurable");
    assert_eq!(evaluate(&seen), Kstatus::InProgress);
    assert!(message(&seen, "Ready").contains("requireDurable"));
    api.apply(&pipeline);
    api.wait_condition("durable", "Ready", "True/Available");
}

/// Reasons of the Events of a pipeline, oldest first, each as often as it came.
fn events(api: &ApiServer, pipeline: &str) -> Vec<String> {
    let mut events = api.objects("event");
    events.retain(|event| event["regarding"]["name"] == pipeline);
    events.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
    let often = |event: &Value| event["series"]["count"].as_u64().unwrap_or(1) as usize;
    let reason = |event: &Value| event["reason"].as_str().unwrap().to_owned();
    events.iter().flat_map(|event| std::iter::repeat_n(reason(event), often(event))).collect()
}

#[test]
fn events_come_with_transitions_only_and_the_pipeline_scales() {
    let ground = Playground::start();
    let api = &ground.api;
    let operator = Operator::start(api);
    let pipeline = ground.pipeline("told");
    let validation = json!({"jsonSchema": {"configMap": {"name": "schema", "key": "schema.json"}}});
    api.apply(pipeline.clone().set("/spec/routes/0/validation", validation.clone()));
    api.wait_condition("told", "Ready", "False/ReferenceNotFound");
    // Tried several times meanwhile, and told once.
    until("it has been tried again", SOON, || {
        let tried = operator.metric("penstock_operator_reconciles_total{outcome=\"waiting\"}")?;
        (tried >= 3.0).then_some(())
    });
    until("the Event is there", SOON, || (events(api, "told") == ["ReferenceNotFound"]).then_some(()));
    api.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "schema", "namespace": "iot"},
        "data": {"schema.json": "{}"},
    }));
    api.wait_condition("told", "Ready", "True/Available");
    let both = ["ReferenceNotFound", "Available"];
    until("the second Event is there", SOON, || (events(api, "told") == both).then_some(()));

    // By hand, as a HorizontalPodAutoscaler of the user's own would.
    api.kubectl(&["scale", "ipl", "told", "-n", "iot", "--replicas=3"]).expect_ok();
    let seen = api.wait_condition("told", "Ready", "True/Available");
    assert_eq!(seen["spec"]["edge"]["replicas"], 3);
    until("three pods", SOON, || {
        let seen = api.object("ipl", "told")?;
        (seen["status"]["readyReplicas"] == 3).then_some(())
    });
    let scale = api.kubectl(&["get", "ipl", "told", "-n", "iot", "--subresource=scale", "-o", "json"]);
    let scale: Value = serde_json::from_str(&scale.expect_ok()).unwrap();
    assert_eq!(scale["status"]["replicas"], 3);
    assert_eq!(scale["status"]["selector"], "penstock.dev/pipeline=told");
    // A restart tells nothing new.
    assert_eq!(operator.end(), 0);
    let operator = Operator::start(api);
    until("the first reconcile", SOON, || {
        let converged = operator.metric("penstock_operator_reconciles_total{outcome=\"converged\"}")?;
        (converged >= 1.0).then_some(())
    });
    let all = events(api, "told");
    assert_eq!(all[..2], both);
    assert!(all[2..].iter().all(|reason| reason == "Available"), "{all:?}");
    assert!(all.len() <= 3, "{all:?}");
}

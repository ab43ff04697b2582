//! Topics of a pipeline, through the operator and in real Kafka: made, kept, taken over, fought over, and never changed
//! in a way that Kafka cannot follow.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use penstock_e2e::operator::condition;
use penstock_e2e::until::SOON;
use penstock_e2e::versions::Versions;
use penstock_e2e::{ApiServer, Kafka, Operator, Pipeline, Playground, until};
use serde_json::{Value, json};

/// A pipeline that manages the topic `topic` with three partitions.
fn managing(kafka: &Kafka, name: &str, topic: &str) -> Pipeline {
    let topics = json!([{
        "name": "telemetry", "topicName": topic, "management": "Managed", "partitions": 3, "replicationFactor": 1,
        "minInSyncReplicas": 1, "config": {"retention.ms": "3600000"},
    }]);
    Pipeline::telemetry(kafka, topic)
        .set("/metadata/namespace", "iot")
        .set("/metadata/name", name)
        .set("/spec/topics", topics)
}

fn message(pipeline: &Value, kind: &str) -> String {
    let conditions = pipeline["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    found["message"].as_str().unwrap().to_owned()
}

/// Everything that the edge of a pipeline is made of, with versions.
fn edge(api: &ApiServer, name: &str) -> Vec<Value> {
    ["deployment", "configmap", "service", "networkpolicy", "pdb", "serviceaccount"]
        .iter()
        .flat_map(|kind| api.objects(kind))
        .filter(|object| object["metadata"]["labels"]["penstock.dev/pipeline"] == name)
        .map(|object| {
            json!([object["kind"], object["metadata"]["name"], object["metadata"]["resourceVersion"]])
        })
        .collect()
}

#[test]
fn a_topic_is_recorded_then_made_and_then_kept() {
    let ground = Playground::start();
    let (api, kafka) = (&ground.api, ground.kafka);
    let versions = Versions::watch(api);
    let operator = Operator::start(api);
    let topic = kafka.fresh_name("kept");
    api.apply(managing(kafka, "kept", &topic));
    let ready = api.wait_condition("kept", "Ready", "True/Available");
    let status = &ready["status"]["topics"][0];
    assert_eq!(status["state"], "Ready", "{status:#}");
    assert_eq!((&status["partitions"], &status["replicationFactor"]), (&json!(3), &json!(1)));
    assert_eq!(kafka.in_sync(&topic).unwrap().len(), 3);
    assert_eq!(kafka.topic_setting(&topic, "retention.ms").as_deref(), Some("3600000"));

    // The intent comes first, without the id that only a topic which is there has.
    versions.catch_up(api);
    let all = versions.of_pipeline("kept");
    let first = all.iter().find(|version| version["status"]["topics"].is_array()).unwrap();
    let intent = &first["status"]["topics"][0];
    assert_eq!((&intent["state"], &intent["managed"]), (&json!("Pending"), &json!(true)), "{first:#}");
    assert!(intent["topicId"].is_null(), "{first:#}");
    assert_eq!(condition(first, "TopicsReady").as_deref(), Some("False/ChangingTopics"));
    assert!(status["topicId"].is_string());

    // What drifts is mended at the next look; what somebody else has set stays.
    kafka.configure_topic(&topic, "max.message.bytes", "123456");
    let retention = || kafka.topic_setting(&topic, "retention.ms");
    until("the drift shows", SOON, || (retention().as_deref() != Some("3600000")).then_some(()));
    assert_eq!(operator.end(), 0);
    let _operator = Operator::start(api);
    until("it is as declared again", SOON, || (retention().as_deref() == Some("3600000")).then_some(()));
    assert_eq!(kafka.topic_setting(&topic, "max.message.bytes").as_deref(), Some("123456"));
    api.wait_condition("kept", "Ready", "True/Available");
    versions.catch_up(api);
    versions.assert_no_false_current();
    versions.assert_never_failed("kept");
}

#[test]
fn a_topic_that_is_there_is_taken_over_only_when_somebody_says_so() {
    let ground = Playground::start();
    let (api, kafka) = (&ground.api, ground.kafka);
    let topic = kafka.create_topic("there", 3);
    let operator = Operator::start(api);
    api.apply(managing(kafka, "adopts", &topic));
    let seen = api.wait_condition("adopts", "Stalled", "True/TopicExists");
    assert!(message(&seen, "Stalled").contains("penstock.dev/adopt"), "{}", message(&seen, "Stalled"));
    assert!(edge(api, "adopts").is_empty());
    assert_ne!(kafka.topic_setting(&topic, "retention.ms").as_deref(), Some("3600000"));
    api.kubectl(&["annotate", "ipl", "adopts", "-n", "iot", "penstock.dev/adopt=true"]).expect_ok();
    api.wait_condition("adopts", "Ready", "True/Available");
    assert_eq!(kafka.topic_setting(&topic, "retention.ms").as_deref(), Some("3600000"));

    // One that an operator had begun to make when it was killed is known as ours.
    assert_eq!(operator.end(), 0);
    let topic = kafka.create_topic("begun", 3);
    api.apply(managing(kafka, "begun", &topic));
    let intent = json!({"status": {"topics": [
        {"name": "telemetry", "topicName": topic, "managed": true, "state": "Pending"},
    ]}});
    let patch = intent.to_string();
    api.kubectl(&[
        "patch",
        "ipl",
        "begun",
        "-n",
        "iot",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ])
    .expect_ok();
    let _operator = Operator::start(api);
    api.wait_condition("begun", "Ready", "True/Available");
}

#[test]
fn of_two_pipelines_the_older_one_has_the_topic_until_it_goes() {
    let ground = Playground::start();
    let (api, kafka) = (&ground.api, ground.kafka);
    let _operator = Operator::start(api);
    let topic = kafka.fresh_name("fought-over");
    api.apply(managing(kafka, "older", &topic));
    let older = api.wait_condition("older", "Ready", "True/Available");
    // The server's clock, which counts whole seconds.
    until("a second has passed", SOON, || {
        let dry = ["create", "configmap", "now", "--dry-run=server", "-o", "json"];
        let now: Value = serde_json::from_str(&api.kubectl(&dry).expect_ok()).unwrap();
        (now["metadata"]["creationTimestamp"] != older["metadata"]["creationTimestamp"]).then_some(())
    });
    let younger = managing(kafka, "younger", &topic).set("/spec/topics/0/config/retention.ms", "7200000");
    api.apply(younger);
    let seen = api.wait_condition("younger", "Stalled", "True/TopicConflict");
    let told = message(&seen, "Stalled");
    assert!(told.contains(&topic) && !told.contains("older\"") && !told.contains("iot/"), "{told}");
    assert!(edge(api, "younger").is_empty());
    assert_eq!(kafka.topic_setting(&topic, "retention.ms").as_deref(), Some("3600000"));
    let still = api.wait_condition("older", "Ready", "True/Available");
    assert_eq!(still["metadata"]["uid"], older["metadata"]["uid"]);

    api.kubectl(&["delete", "ipl", "older", "-n", "iot"]).expect_ok();
    // The topic stays, so whoever comes next has to be told that it may have it.
    api.wait_condition("younger", "Stalled", "True/TopicExists");
    api.kubectl(&["annotate", "ipl", "younger", "-n", "iot", "penstock.dev/adopt=true"]).expect_ok();
    api.wait_condition("younger", "Ready", "True/Available");
    assert_eq!(kafka.topic_setting(&topic, "retention.ms").as_deref(), Some("7200000"));
}

#[test]
fn a_change_that_kafka_cannot_follow_leaves_the_edge_alone_and_a_revert_mends() {
    let ground = Playground::start();
    let (api, kafka) = (&ground.api, ground.kafka);
    let _operator = Operator::start(api);
    let topic = kafka.fresh_name("unsupported");
    let pipeline = managing(kafka, "unsupported", &topic);
    api.apply(&pipeline);
    api.wait_condition("unsupported", "Ready", "True/Available");
    for (pointer, value) in [
        ("/spec/topics/0/partitions", json!(2)),
        ("/spec/topics/0/partitions", json!(4)),
        ("/spec/topics/0/replicationFactor", json!(2)),
        ("/spec/topics/0/topicName", json!(kafka.fresh_name("renamed"))),
    ] {
        let before = edge(api, "unsupported");
        assert!(!before.is_empty());
        // With a change that alone would roll the edge.
        let changed = pipeline.clone().set(pointer, value.clone()).set("/spec/delivery/ackTimeoutSeconds", 9);
        api.apply(changed);
        api.wait_condition("unsupported", "Stalled", "True/UnsupportedTopicChange");
        assert_eq!(edge(api, "unsupported"), before, "{pointer} {value}");
        assert_eq!(kafka.in_sync(&topic).unwrap().len(), 3);
        api.apply(&pipeline);
        api.wait_condition("unsupported", "Ready", "True/Available");
    }
    let grown = pipeline.set("/spec/topics/0/partitions", 4).set("/spec/topics/0/partitionGrowth", "Allow");
    api.apply(grown);
    api.wait_condition("unsupported", "Ready", "True/Available");
    assert_eq!(kafka.in_sync(&topic).unwrap().len(), 4);
}

#[test]
fn an_external_topic_is_looked_at_and_never_touched() {
    let ground = Playground::start();
    let (api, kafka) = (&ground.api, ground.kafka);
    let _operator = Operator::start(api);
    let topic = kafka.fresh_name("external");
    let pipeline = managing(kafka, "external", &topic)
        .set("/spec/topics", json!([{"name": "telemetry", "topicName": topic, "management": "External"}]));
    api.apply(&pipeline);
    let seen = api.wait_condition("external", "Reconciling", "True/TopicNotFound");
    assert!(message(&seen, "Ready").contains(&topic));
    kafka.create(&penstock_e2e::kafka::TopicSpec::new(&topic, 1));
    api.wait_condition("external", "Ready", "True/Available");
    assert_eq!(kafka.in_sync(&topic).unwrap().len(), 1);
    // Another number than the one that is there is for a person to put right.
    api.apply(pipeline.set("/spec/topics/0/partitions", 5));
    api.wait_condition("external", "Stalled", "True/TopicMismatch");
    assert_eq!(kafka.in_sync(&topic).unwrap().len(), 1);
}

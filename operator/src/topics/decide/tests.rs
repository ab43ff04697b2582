use std::collections::{BTreeMap, BTreeSet};

use penstock_crds::pipeline::TopicState;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::finding::Truth;
use crate::topics::error::KafkaError;
use crate::topics::{SeenTopic, TopicFacts, names};

fn specs(topics: Value) -> Vec<TopicSpec> {
    serde_json::from_value(topics).unwrap()
}

fn configs(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn facts(partitions: i32, replication_factor: i32, entries: &[(&str, &str)]) -> TopicFacts {
    TopicFacts { id: Some("id".to_owned()), partitions, replication_factor, configs: Ok(configs(entries)) }
}

fn present(partitions: i32, replication_factor: i32, entries: &[(&str, &str)]) -> SeenTopic {
    SeenTopic::Present(facts(partitions, replication_factor, entries))
}

fn seen(topics: &[(&str, SeenTopic)]) -> Seen {
    let topics = topics.iter().map(|(name, topic)| ((*name).to_owned(), topic.clone())).collect();
    Seen { cluster_id: "c".to_owned(), topics }
}

fn not_authorized() -> KafkaError {
    KafkaError::NotAuthorized { who: "u".to_owned(), what: "w".to_owned(), acl: "a".to_owned() }
}

/// What a pipeline is told, and what it knew before.
#[derive(Default)]
struct Case {
    recorded: Vec<TopicStatus>,
    adopt: bool,
    lost: BTreeSet<String>,
    failures: Failures,
}

impl Case {
    fn owning(topics: &[TopicSpec]) -> Self {
        let recorded = topics.iter().map(|topic| record(&topic.name, topic.kafka_name())).collect();
        Self { recorded, ..Self::default() }
    }

    fn decide(&self, topics: &[TopicSpec], seen: &Seen) -> Decision {
        decide(&self.wanted(topics), seen, &self.failures)
    }

    fn wanted<'a>(&'a self, topics: &'a [TopicSpec]) -> Wanted<'a> {
        Wanted { topics, recorded: &self.recorded, adopt: self.adopt, lost: &self.lost }
    }
}

fn record(name: &str, topic_name: &str) -> TopicStatus {
    serde_json::from_value(json!({"name": name, "topicName": topic_name, "managed": true, "state": "Ready"}))
        .unwrap()
}

/// No steps, and this reason at this field.
fn assert_refused(decision: &Decision, reason: Reason, told: &[&str]) {
    assert_eq!((decision.ready.truth, decision.ready.reason), (Truth::False, reason), "{decision:?}");
    assert_eq!(decision.steps, []);
    for text in told {
        assert!(decision.ready.message.contains(text), "no {text:?} in {}", decision.ready.message);
    }
    assert_eq!(decision.topics[0].state, Some(TopicState::Failed));
    assert_eq!(decision.topics[0].reason.as_deref(), Some(reason.as_str()));
}

#[test]
fn a_managed_topic_is_created_as_declared_after_the_intent_is_recorded() {
    let topics = specs(json!([{
        "name": "telemetry", "topicName": "iot.telemetry", "partitions": 12, "replicationFactor": 3,
        "minInSyncReplicas": 2, "config": {"retention.ms": "604800000"},
    }]));
    let absent = seen(&[("iot.telemetry", SeenTopic::Absent)]);
    let first = Case::default().decide(&topics, &absent);
    let create = Step::Create {
        topic: "iot.telemetry".to_owned(),
        partitions: Some(12),
        replication_factor: Some(3),
        configs: configs(&[("min.insync.replicas", "2"), ("retention.ms", "604800000")]),
    };
    assert_eq!(first.steps, [create]);
    assert!(first.must_record);
    assert_eq!(first.topics[0].state, Some(TopicState::Pending));
    assert_eq!((first.topics[0].managed, &first.topics[0].topic_id), (Some(true), &None));
    assert_eq!((first.ready.truth, first.ready.reason), (Truth::False, Reason::ChangingTopics));
    assert_eq!((first.durable.truth, first.durable.reason), (Truth::Unknown, Reason::Pending));

    let recorded = Case { recorded: first.topics, ..Case::default() };
    assert!(!recorded.decide(&topics, &absent).must_record, "the intent stands already");
    let made = present(12, 3, &[("min.insync.replicas", "2"), ("retention.ms", "604800000"), ("x", "y")]);
    let then = recorded.decide(&topics, &seen(&[("iot.telemetry", made)]));
    assert_eq!((then.ready.truth, then.ready.reason), (Truth::True, Reason::AsDeclared));
    assert_eq!((then.steps.len(), then.must_record), (0, false));
    let status = serde_json::to_value(&then.topics[0]).unwrap();
    assert_eq!(
        status,
        json!({
            "name": "telemetry", "topicName": "iot.telemetry", "managed": true, "topicId": "id", "partitions": 12,
            "replicationFactor": 3, "minInSyncReplicas": 2, "state": "Ready", "reason": "AsDeclared",
        })
    );
}

#[test]
fn undeclared_numbers_are_left_to_the_brokers() {
    let topics = specs(json!([{"name": "t", "management": "Managed"}]));
    let created = Case::default().decide(&topics, &seen(&[("t", SeenTopic::Absent)]));
    let create = Step::Create {
        topic: "t".to_owned(),
        partitions: None,
        replication_factor: None,
        configs: configs(&[]),
    };
    assert_eq!(created.steps, [create]);
    let any = Case::owning(&topics).decide(&topics, &seen(&[("t", present(7, 2, &[]))]));
    assert!(any.ready.is_true());
}

#[test]
fn a_create_that_failed_is_told_and_tried_again_without_a_write_in_between() {
    let topics = specs(json!([{"name": "t", "partitions": 1, "config": {"nonsense": "1"}}]));
    let absent = seen(&[("t", SeenTopic::Absent)]);
    let mut case = Case { recorded: Case::default().decide(&topics, &absent).topics, ..Case::default() };
    let error = KafkaError::InvalidConfig { topic: "t".to_owned(), message: "Unknown".to_owned() };
    case.failures.insert("t".to_owned(), error);
    let failed = case.decide(&topics, &absent);
    assert_refused(&failed, Reason::InvalidTopicConfig, &["spec.topics[0]: ", "Unknown"]);
    assert_eq!(failed.topics[0].managed, Some(true));
    let again = Case { recorded: failed.topics, ..Case::default() }.decide(&topics, &absent);
    assert_eq!((again.steps.len(), again.must_record), (1, false));
}

#[test]
fn an_existing_topic_is_taken_over_only_when_that_is_asked_for() {
    let topics = specs(json!([{"name": "t", "partitions": 3, "config": {"retention.ms": "1"}}]));
    let there = seen(&[("t", present(3, 1, &[("retention.ms", "2")]))]);
    let refused = Case::default().decide(&topics, &there);
    assert_refused(&refused, Reason::TopicExists, &["spec.topics[0].management: ", "penstock.dev/adopt"]);
    assert_eq!(refused.topics[0].managed, None);
    let still = Case { recorded: refused.topics.clone(), ..Case::default() }.decide(&topics, &there);
    assert_eq!(still, refused, "that it stands in the status does not make it ours");

    let adopted = Case { adopt: true, ..Case::default() }.decide(&topics, &there);
    let configure = Step::Configure { topic: "t".to_owned(), configs: configs(&[("retention.ms", "1")]) };
    assert_eq!(adopted.steps, [configure]);
    assert_eq!(adopted.topics[0].managed, Some(true));
    let kept = Case { recorded: adopted.topics, ..Case::default() }.decide(&topics, &there);
    assert_eq!(kept.steps.len(), 1, "it stays ours without the annotation");
}

#[test]
fn a_topic_that_was_external_or_is_listed_under_another_name_is_told_by_its_name_in_kafka() {
    let external = specs(json!([{"name": "t"}]));
    let there = seen(&[("t", present(3, 1, &[]))]);
    let used = Case::default().decide(&external, &there);
    assert!(used.ready.is_true());
    let managed = specs(json!([{"name": "t", "management": "Managed"}]));
    let case = Case { recorded: used.topics, ..Case::default() };
    assert_eq!(case.decide(&managed, &there).ready.reason, Reason::TopicExists);
    let renamed_entry = specs(json!([{"name": "other", "topicName": "t", "management": "Managed"}]));
    assert!(Case::owning(&managed).decide(&renamed_entry, &there).ready.is_true());
}

#[test]
fn only_drift_of_named_settings_is_mended() {
    let topics = specs(json!([{
        "name": "t", "partitions": 3, "minInSyncReplicas": 2, "config": {"retention.ms": "0100", "cleanup.policy": "DELETE"},
    }]));
    let case = Case::owning(&topics);
    let as_declared = [
        ("min.insync.replicas", "2"),
        ("retention.ms", "100"),
        ("cleanup.policy", "delete"),
        ("foreign", "set"),
    ];
    let decision = case.decide(&topics, &seen(&[("t", present(3, 3, &as_declared))]));
    assert_eq!((decision.steps.len(), decision.ready.reason), (0, Reason::AsDeclared));
    let drifted = [("min.insync.replicas", "1"), ("retention.ms", "100"), ("foreign", "set")];
    let decision = case.decide(&topics, &seen(&[("t", present(3, 3, &drifted))]));
    let wanted = configs(&[("cleanup.policy", "DELETE"), ("min.insync.replicas", "2")]);
    assert_eq!(decision.steps, [Step::Configure { topic: "t".to_owned(), configs: wanted }]);
    assert!(!decision.must_record);
}

#[test]
fn what_kafka_cannot_follow_is_refused_and_nothing_of_that_topic_is_touched() {
    let there = seen(&[("t", present(6, 2, &[("retention.ms", "1")])), ("old", present(1, 1, &[]))]);
    let drift = json!({"retention.ms": "2"});
    for (topic, told) in [
        (json!({"partitions": 3}), ["spec.topics[0].partitions: ", "partitions: 6"]),
        (json!({"partitions": 12}), ["spec.topics[0].partitions: ", "partitionGrowth: Allow"]),
        (
            json!({"partitions": 6, "replicationFactor": 3}),
            ["spec.topics[0].replicationFactor: ", "replicationFactor: 2"],
        ),
        (
            json!({"partitions": 12, "partitionGrowth": "Allow", "replicationFactor": 3}),
            ["spec.topics[0].replicationFactor: ", "replicationFactor: 2"],
        ),
    ] {
        let mut topic = topic;
        topic["name"] = json!("t");
        topic["config"] = drift.clone();
        let topics = specs(json!([topic]));
        let decision = Case::owning(&topics).decide(&topics, &there);
        assert_refused(&decision, Reason::UnsupportedTopicChange, &told);
        assert_eq!(decision.topics[0].managed, Some(true), "and reverting it is all it takes");
    }
    let impossible = specs(json!([{"name": "t", "partitions": 6, "minInSyncReplicas": 3}]));
    let decision = Case::owning(&impossible).decide(&impossible, &there);
    assert_refused(&decision, Reason::InvalidTopicConfig, &["spec.topics[0].minInSyncReplicas: "]);
}

#[test]
fn a_renamed_topic_is_refused_until_the_old_one_is_gone() {
    let topics = specs(json!([{"name": "t", "topicName": "new", "partitions": 1}]));
    let case = Case { recorded: vec![record("t", "old")], ..Case::default() };
    assert_eq!(names(&case.wanted(&topics)), ["new".to_owned(), "old".to_owned()].into());
    let both = seen(&[("old", present(1, 1, &[])), ("new", SeenTopic::Absent)]);
    let refused = case.decide(&topics, &both);
    assert_refused(&refused, Reason::UnsupportedTopicChange, &["spec.topics[0].topicName: ", "back to old"]);
    assert_eq!(refused.topics[0].topic_name.as_deref(), Some("old"), "the record is kept");
    let still = Case { recorded: refused.topics.clone(), ..Case::default() }.decide(&topics, &both);
    assert_eq!(still, refused);
    let gone = seen(&[("old", SeenTopic::Absent), ("new", SeenTopic::Absent)]);
    let decision = case.decide(&topics, &gone);
    assert!(matches!(&decision.steps[..], [Step::Create { topic, .. }] if topic == "new"), "{decision:?}");
    assert!(decision.must_record, "the intent is for another topic");
}

#[test]
fn partitions_grow_only_where_that_is_allowed() {
    let topics = specs(json!([{"name": "t", "partitions": 12, "partitionGrowth": "Allow"}]));
    let decision = Case::owning(&topics).decide(&topics, &seen(&[("t", present(6, 1, &[]))]));
    assert_eq!(decision.steps, [Step::Grow { topic: "t".to_owned(), partitions: 12 }]);
}

#[test]
fn create_if_missing_creates_and_then_only_checks() {
    let topics = specs(json!([{
        "name": "t", "partitions": 6, "management": "CreateIfMissing", "config": {"retention.ms": "1"},
    }]));
    let created = Case::default().decide(&topics, &seen(&[("t", SeenTopic::Absent)]));
    assert!(matches!(&created.steps[..], [Step::Create { .. }]) && created.must_record);
    for (partitions, reason) in [(6, Reason::AsDeclared), (9, Reason::AsDeclared), (3, Reason::TopicMismatch)]
    {
        let there = seen(&[("t", present(partitions, 1, &[("retention.ms", "2")]))]);
        let decision = Case::default().decide(&topics, &there);
        assert_eq!((decision.ready.reason, decision.steps.len()), (reason, 0));
    }
}

#[test]
fn an_external_topic_is_checked_and_never_changed() {
    let topics = specs(json!([{
        "name": "t", "partitions": 6, "replicationFactor": 2, "minInSyncReplicas": 2, "management": "External",
        "config": {"cleanup.policy": "delete"},
    }]));
    let entries = [("min.insync.replicas", "2"), ("cleanup.policy", "delete")];
    let case = Case { adopt: true, ..Case::default() };
    assert!(case.decide(&topics, &seen(&[("t", present(6, 3, &entries))])).ready.is_true());
    let flaws: [(SeenTopic, &str); 4] = [
        (present(3, 2, &entries), "spec.topics[0].partitions: "),
        (present(6, 1, &entries), "spec.topics[0].replicationFactor: "),
        (
            present(6, 2, &[("min.insync.replicas", "1"), ("cleanup.policy", "delete")]),
            "minInSyncReplicas: 1",
        ),
        (
            present(6, 2, &[("min.insync.replicas", "2"), ("cleanup.policy", "compact")]),
            "cleanup.policy: compact",
        ),
    ];
    for (topic, told) in flaws {
        assert_refused(&case.decide(&topics, &seen(&[("t", topic)])), Reason::TopicMismatch, &[told]);
    }
    let absent = seen(&[("t", SeenTopic::Absent)]);
    assert_refused(&case.decide(&topics, &absent), Reason::TopicNotFound, &["spec.topics[0]: ", "create it"]);
}

#[test]
fn a_topic_that_another_pipeline_owns_is_left_to_it() {
    let topics = specs(
        json!([{"name": "t", "partitions": 12, "partitionGrowth": "Allow"}, {"name": "u", "partitions": 1}]),
    );
    let mut case = Case::owning(&topics);
    case.lost.insert("t".to_owned());
    let decision = case.decide(&topics, &seen(&[("t", present(6, 1, &[])), ("u", SeenTopic::Absent)]));
    assert_eq!(decision.ready.reason, Reason::TopicConflict);
    assert!(matches!(&decision.steps[..], [Step::Create { topic, .. }] if topic == "u"), "{decision:?}");
    assert_eq!(decision.topics[0].managed, Some(true), "when the owner goes it is ours again");
}

#[test]
fn what_may_not_be_read_is_told_where_it_matters() {
    let hidden = seen(&[("t", SeenTopic::Hidden(not_authorized()))]);
    let unread = TopicFacts { configs: Err(not_authorized()), ..facts(6, 2, &[]) };
    let unread = seen(&[("t", SeenTopic::Present(unread))]);
    let plain = specs(json!([{"name": "t", "partitions": 6}]));
    let named = specs(json!([{"name": "t", "partitions": 6, "config": {"retention.ms": "1"}}]));
    assert_refused(&Case::owning(&plain).decide(&plain, &hidden), Reason::NotAuthorized, &["spec.topics[0]"]);
    assert_refused(&Case::owning(&named).decide(&named, &unread), Reason::NotAuthorized, &["spec.topics[0]"]);
    let decision = Case::owning(&plain).decide(&plain, &unread);
    assert!(decision.ready.is_true(), "nothing is declared of its configuration");
    assert_eq!((decision.durable.truth, decision.durable.reason), (Truth::Unknown, Reason::NotAuthorized));
}

#[test]
fn the_worst_is_told_first_and_the_others_are_counted() {
    let topics = specs(json!([
        {"name": "a"},
        {"name": "b", "partitions": 3},
        {"name": "c", "partitions": 1},
        {"name": "d"},
    ]));
    let there = seen(&[
        ("a", SeenTopic::Absent),
        ("b", present(6, 1, &[])),
        ("c", SeenTopic::Absent),
        ("d", SeenTopic::Hidden(not_authorized())),
    ]);
    let decision = Case { adopt: true, ..Case::default() }.decide(&topics, &there);
    assert_eq!(decision.ready.reason, Reason::UnsupportedTopicChange);
    assert!(decision.ready.message.ends_with("(and 2 more topics)"), "{}", decision.ready.message);
    assert!(matches!(&decision.steps[..], [Step::Create { topic, .. }] if topic == "c"), "{decision:?}");
}

/// A cluster that does as it is told.
fn carry_out(seen: &mut Seen, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Create { topic, partitions, replication_factor, configs } => {
                let before = seen.topics.insert(
                    topic.clone(),
                    SeenTopic::Present(TopicFacts {
                        id: Some(format!("id-of-{topic}")),
                        partitions: partitions.unwrap_or(1),
                        replication_factor: replication_factor.unwrap_or(1),
                        configs: Ok(configs.clone()),
                    }),
                );
                assert_eq!(before, Some(SeenTopic::Absent), "created although it was there");
            }
            Step::Grow { topic, partitions } => {
                let Some(SeenTopic::Present(facts)) = seen.topics.get_mut(topic) else {
                    panic!("{topic} grown")
                };
                assert!(*partitions > facts.partitions);
                facts.partitions = *partitions;
            }
            Step::Configure { topic, configs } => {
                let Some(SeenTopic::Present(facts)) = seen.topics.get_mut(topic) else {
                    panic!("{topic} set")
                };
                facts.configs.as_mut().unwrap().extend(configs.clone());
            }
        }
    }
}

fn any_topic() -> impl Strategy<Value = Value> {
    let management = prop::sample::select(vec![
        json!(null),
        json!("Managed"),
        json!("CreateIfMissing"),
        json!("External"),
    ]);
    let growth = prop::sample::select(vec![json!(null), json!("Refuse"), json!("Allow")]);
    let number = || prop::option::of(1_i32..4);
    (management, growth, number(), number(), prop::option::of("[0-2]")).prop_map(
        |(management, growth, partitions, replicas, retention)| {
            let config = retention.map(|value| json!({"retention.ms": value}));
            json!({
                "management": management, "partitionGrowth": growth, "partitions": partitions,
                "replicationFactor": replicas, "config": config,
            })
        },
    )
}

fn any_seen() -> impl Strategy<Value = SeenTopic> {
    let there =
        (1_i32..4, 1_i32..4, prop::option::of("[0-2]")).prop_map(|(partitions, replicas, retention)| {
            let retention = retention.unwrap_or_default();
            present(partitions, replicas, &[("retention.ms", retention.as_str()), ("foreign", "set")])
        });
    prop_oneof![Just(SeenTopic::Absent), Just(SeenTopic::Hidden(not_authorized())), there]
}

proptest! {
    /// One round brings a cluster that does as it is told to where nothing is left to do; nobody else's topic and no
    /// foreign setting is touched on the way.
    #[test]
    fn one_round_converges_and_touches_nothing_foreign(
        topics in prop::collection::vec((any_topic(), any_seen(), any::<bool>()), 1..5),
        adopt in any::<bool>(),
    ) {
        let name = |index: usize| format!("t{index}");
        let specs = specs(topics.iter().enumerate().map(|(index, (topic, _, _))| {
            let mut topic = topic.clone();
            topic["name"] = json!(name(index));
            topic
        }).collect());
        let recorded = (0..topics.len()).filter(|index| topics[*index].2).map(|index| record(&name(index), &name(index)));
        let case = Case { recorded: recorded.collect(), adopt, ..Case::default() };
        let mut cluster = Seen {
            cluster_id: "c".to_owned(),
            topics: topics.iter().enumerate().map(|(index, (_, seen, _))| (name(index), seen.clone())).collect(),
        };
        let before = cluster.clone();
        let first = case.decide(&specs, &cluster);
        prop_assert_eq!(first.topics.len(), specs.len());
        carry_out(&mut cluster, &first.steps);
        let case = Case { recorded: first.topics.clone(), adopt, ..Case::default() };
        let second = case.decide(&specs, &cluster);
        prop_assert_eq!(&second.steps, &[]);
        prop_assert!(!second.must_record);
        prop_assert_ne!(second.ready.reason, Reason::ChangingTopics);
        for (index, (_, was, ours)) in topics.iter().enumerate() {
            let is = &cluster.topics[&name(index)];
            let managed = specs[index].management() == penstock_crds::pipeline::Management::Managed;
            if !(managed && (adopt || *ours)) && *was != SeenTopic::Absent {
                prop_assert_eq!(is, was);
            }
            if let (SeenTopic::Present(was), SeenTopic::Present(is)) = (was, is) {
                prop_assert_eq!(is.config("foreign"), was.config("foreign"));
                prop_assert_eq!(is.replication_factor, was.replication_factor);
            }
        }
        // The same again, from what was recorded: the answer is stable.
        let case = Case { recorded: second.topics.clone(), adopt, ..Case::default() };
        prop_assert_eq!(&case.decide(&specs, &cluster), &second);
        prop_assert!(before.topics.keys().eq(cluster.topics.keys()));
    }
}

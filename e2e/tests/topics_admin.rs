//! The operator's hand in Kafka, against real brokers: topics are created and kept as declared, nothing else is touched,
//! and what goes wrong is told by its reason.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use penstock_crds::pipeline::{Kafka as KafkaSpec, TopicSpec, TopicState, TopicStatus};
use penstock_e2e::Kafka;
use penstock_e2e::kafka::TopicSpec as NewTopic;
use penstock_e2e::process::shared;
use penstock_e2e::until::{SOON, until};
use penstock_operator::finding::Truth;
use penstock_operator::reason::Reason;
use penstock_operator::topics::{
    Access, AllowedServers, Clusters, Decision, Failures, KafkaError, Wanted, decide, names,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// One broker that would create any topic that somebody asks about.
static EAGER: LazyLock<Kafka> = LazyLock::new(|| shared(|| Kafka::single().auto_create().start()));

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What the operator's calls may take, with some room for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(13);

/// One pipeline's topics, from reconcile to reconcile.
struct Pipeline<'c> {
    clusters: &'c Clusters,
    access: Access,
    adopt: bool,
    status: Vec<TopicStatus>,
}

fn clusters() -> Clusters {
    Clusters::new(AllowedServers::default())
}

fn plain(bootstrap: &str) -> Access {
    let kafka: KafkaSpec = serde_json::from_value(json!({"bootstrapServers": [bootstrap]})).unwrap();
    Access::new("iot", &kafka, &[]).unwrap()
}

/// The user `topics` in some version of its Secret.
fn user(bootstrap: &str, mechanism: &str, password: &str, version: &str) -> Access {
    let kafka: KafkaSpec = serde_json::from_value(json!({
        "bootstrapServers": [bootstrap],
        "adminAuthentication": {mechanism: {"username": "topics", "passwordSecret": {"name": "topics"}}},
    }))
    .unwrap();
    let mut secret = Secret::default();
    secret.metadata.name = Some("topics".to_owned());
    secret.metadata.uid = Some("uid".to_owned());
    secret.metadata.resource_version = Some(version.to_owned());
    secret.data = Some([("password".to_owned(), ByteString(password.as_bytes().to_vec()))].into());
    Access::new("iot", &kafka, &[secret]).unwrap()
}

fn look(clusters: &Clusters, access: &Access) -> Result<String, KafkaError> {
    RUNTIME.block_on(clusters.look(access, &BTreeSet::new())).map(|seen| seen.cluster_id)
}

impl<'c> Pipeline<'c> {
    fn new(clusters: &'c Clusters, access: Access) -> Self {
        Self { clusters, access, adopt: false, status: Vec::new() }
    }

    /// As the controller does it: look, decide, write the intent, carry out, look, decide, write.
    fn try_reconcile(&mut self, topics: &Value) -> Result<Decision, KafkaError> {
        let topics: Vec<TopicSpec> = serde_json::from_value(topics.clone()).unwrap();
        let recorded = self.status.clone();
        let lost = BTreeSet::new();
        let wanted = Wanted { topics: &topics, recorded: &recorded, adopt: self.adopt, lost: &lost };
        let decision = RUNTIME.block_on(async {
            let seen = self.clusters.look(&self.access, &names(&wanted)).await?;
            let first = decide(&wanted, &seen, &Failures::new());
            self.clusters.finish(&self.access, &wanted, &first).await
        })?;
        self.status.clone_from(&decision.topics);
        Ok(decision)
    }

    #[track_caller]
    fn reconcile(&mut self, topics: &Value) -> Decision {
        self.try_reconcile(topics).unwrap()
    }

    #[track_caller]
    fn is_ready(&mut self, topics: &Value) -> Decision {
        let decision = self.reconcile(topics);
        assert_eq!(
            (decision.ready.truth, decision.ready.reason),
            (Truth::True, Reason::AsDeclared),
            "{decision:?}"
        );
        assert_eq!(decision.steps, []);
        decision
    }

    #[track_caller]
    fn fails(&mut self, topics: &Value, reason: Reason, told: &str) -> Decision {
        let decision = self.reconcile(topics);
        assert_eq!((decision.ready.truth, decision.ready.reason), (Truth::False, reason), "{decision:?}");
        assert!(decision.ready.message.contains(told), "no {told:?} in {}", decision.ready.message);
        assert_eq!(decision.topics[0].state, Some(TopicState::Failed));
        decision
    }
}

#[test]
fn a_managed_topic_is_created_and_only_what_is_declared_is_kept() {
    let clusters = clusters();
    let mut pipeline = Pipeline::new(&clusters, plain(&EAGER.bootstrap()));
    let name = EAGER.fresh_name("managed");
    let topics = json!([{
        "name": "telemetry", "topicName": name, "partitions": 3, "replicationFactor": 1, "minInSyncReplicas": 1,
        "config": {"retention.ms": "3600000", "cleanup.policy": "delete"},
    }]);
    let decision = pipeline.is_ready(&topics);
    let status = &decision.topics[0];
    assert_eq!(
        (status.partitions, status.replication_factor, status.min_in_sync_replicas),
        (Some(3), Some(1), Some(1))
    );
    assert_eq!((status.managed, status.state), (Some(true), Some(TopicState::Ready)));
    assert!(status.topic_id.as_ref().is_some_and(|id| id.len() == 22), "{status:?}");
    assert_eq!(EAGER.in_sync(&name).unwrap().len(), 3);
    assert_eq!((decision.durable.truth, decision.durable.reason), (Truth::False, Reason::SingleReplica));

    // Somebody sets a setting that nobody declared, and loses the one that was.
    EAGER.configure_topic(&name, "max.message.bytes", "123456");
    let retention = || EAGER.topic_setting(&name, "retention.ms");
    until("the drift shows", SOON, || (retention().as_deref() != Some("3600000")).then_some(()));
    assert_eq!(pipeline.is_ready(&topics).topics, decision.topics);
    assert_eq!(EAGER.topic_setting(&name, "retention.ms").as_deref(), Some("3600000"));
    assert_eq!(EAGER.topic_setting(&name, "max.message.bytes").as_deref(), Some("123456"));

    // What is no longer declared is left alone.
    let fewer = json!([{"name": "telemetry", "topicName": name, "partitions": 3}]);
    pipeline.is_ready(&fewer);
    assert_eq!(EAGER.topic_setting(&name, "retention.ms").as_deref(), Some("3600000"));

    // A managed topic that somebody deletes comes back, as another one.
    EAGER.delete_topic(&name);
    let again = pipeline.is_ready(&topics);
    assert_ne!(again.topics[0].topic_id, decision.topics[0].topic_id);
}

#[test]
fn what_kafka_cannot_follow_is_refused_and_growth_needs_to_be_allowed() {
    let clusters = clusters();
    let mut pipeline = Pipeline::new(&clusters, plain(&EAGER.bootstrap()));
    let name = EAGER.fresh_name("changes");
    let topic = |more: Value| {
        let mut topic = json!({"name": "t", "topicName": name, "partitions": 3, "replicationFactor": 1});
        topic.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([topic])
    };
    let retention = || EAGER.topic_setting(&name, "retention.ms");
    let id = pipeline.is_ready(&topic(json!({}))).topics[0].topic_id.clone();
    let before = retention();
    let drift = json!({"retention.ms": "3600000"});
    for (change, told) in [
        (json!({"partitions": 2, "config": drift}), "spec.topics[0].partitions: "),
        (json!({"partitions": 5, "config": drift}), "partitionGrowth: Allow"),
        (json!({"replicationFactor": 2, "config": drift}), "spec.topics[0].replicationFactor: "),
        (json!({"topicName": EAGER.fresh_name("renamed"), "config": drift}), "spec.topics[0].topicName: "),
    ] {
        pipeline.fails(&topic(change), Reason::UnsupportedTopicChange, told);
        assert_eq!((EAGER.in_sync(&name).unwrap().len(), retention()), (3, before.clone()));
    }
    let grown =
        pipeline.is_ready(&topic(json!({"partitions": 5, "partitionGrowth": "Allow", "config": drift})));
    assert_eq!(EAGER.in_sync(&name).unwrap().len(), 5);
    assert_eq!(retention().as_deref(), Some("3600000"));
    assert_eq!((grown.topics[0].partitions, &grown.topics[0].topic_id), (Some(5), &id));
}

#[test]
fn a_topic_that_exists_is_not_taken_over_unasked() {
    let clusters = clusters();
    let mut pipeline = Pipeline::new(&clusters, plain(&EAGER.bootstrap()));
    let name = EAGER.create_topic("theirs", 2);
    let topics =
        json!([{"name": "t", "topicName": name, "partitions": 2, "config": {"retention.ms": "3600000"}}]);
    pipeline.fails(&topics, Reason::TopicExists, "penstock.dev/adopt");
    pipeline.fails(&topics, Reason::TopicExists, "penstock.dev/adopt");
    assert_ne!(EAGER.topic_setting(&name, "retention.ms").as_deref(), Some("3600000"));
    pipeline.adopt = true;
    pipeline.is_ready(&topics);
    assert_eq!(EAGER.topic_setting(&name, "retention.ms").as_deref(), Some("3600000"));
    pipeline.adopt = false;
    pipeline.is_ready(&topics);
}

#[test]
fn looking_at_a_topic_creates_none_and_one_that_fails_keeps_no_other_from_being_made() {
    let clusters = clusters();
    let mut pipeline = Pipeline::new(&clusters, plain(&EAGER.bootstrap()));
    let [absent, nonsense, wide, made] =
        ["absent", "nonsense", "wide", "made"].map(|purpose| EAGER.fresh_name(purpose));
    let one = |name: &str| json!([{"name": "t", "topicName": name}]);
    pipeline.fails(&one(&absent), Reason::TopicNotFound, &absent);
    pipeline.fails(&one(&absent), Reason::TopicNotFound, &absent);
    assert!(!EAGER.has_topic(&absent), "looking has created it");

    let topics = json!([
        {"name": "nonsense", "topicName": nonsense, "partitions": 1, "config": {"no.such.setting": "1"}},
        {"name": "wide", "topicName": wide, "partitions": 1, "replicationFactor": 3},
        {"name": "made", "topicName": made, "management": "CreateIfMissing"},
    ]);
    let decision = pipeline.fails(&topics, Reason::InvalidTopicConfig, "no.such.setting");
    assert!(decision.ready.message.starts_with("spec.topics[0]: "), "{}", decision.ready.message);
    assert!(decision.ready.message.ends_with("(and one more topic)"), "{}", decision.ready.message);
    let told: Vec<_> = decision.topics.iter().map(|topic| topic.reason.as_deref().unwrap()).collect();
    assert_eq!(told, ["InvalidTopicConfig", "KafkaRefused", "AsDeclared"]);
    assert!(EAGER.has_topic(&made) && !EAGER.has_topic(&nonsense) && !EAGER.has_topic(&wide));
    assert_eq!(pipeline.reconcile(&topics), decision, "the same again while nothing changes");

    // An existing topic refuses a setting in the same way, and takes those that are right.
    let wrong = json!([{"name": "made", "topicName": made, "management": "Managed", "config": {"retention.ms": "soon"}}]);
    pipeline.fails(&wrong, Reason::InvalidTopicConfig, "retention.ms");
}

#[test]
fn no_pipeline_gets_through_by_the_client_of_another() {
    let kafka = Kafka::single().user("topics", "opens-sesame").start();
    let (clusters, bootstrap) = (clusters(), kafka.bootstrap());
    for mechanism in ["scramSha512", "plain"] {
        let right = user(&bootstrap, mechanism, "opens-sesame\n", "1");
        let id = look(&clusters, &right).unwrap();
        assert!(!id.is_empty());
        let wrong = user(&bootstrap, mechanism, "wrong-pa55word", "2");
        for _ in 0..2 {
            let started = Instant::now();
            let error = look(&clusters, &wrong).unwrap_err();
            assert_eq!(error.reason(), Reason::KafkaAuthenticationFailed, "{error}");
            assert!(error.to_string().contains("spec.kafka.adminAuthentication"), "{error}");
            assert!(!format!("{error} {error:?} {wrong:?}").contains("pa55"), "a secret in {error:?}");
            assert!(started.elapsed() < TIMEOUT / 2, "{:?} to tell", started.elapsed());
            assert_eq!(look(&clusters, &right).unwrap(), id, "and the other pipeline does not notice");
        }
    }
    assert_eq!(clusters.clients(), 4);
}

#[test]
fn each_right_that_is_missing_is_named() {
    let kafka = Kafka::single().user("topics", "opens-sesame").start();
    let clusters = clusters();
    let mut pipeline = Pipeline::new(&clusters, user(&kafka.bootstrap(), "scramSha256", "opens-sesame", "1"));
    let topic = |partitions: i32, retention: &str| {
        json!([{
            "name": "t", "partitions": partitions, "partitionGrowth": "Allow", "config": {"retention.ms": retention},
        }])
    };
    let created = topic(1, "3600000");
    let missing = |pipeline: &mut Pipeline<'_>, topics: &Value, right: &str| {
        let decision = pipeline.fails(topics, Reason::NotAuthorized, &format!("allow it {right} on topic t"));
        assert!(decision.ready.message.contains("user topics"), "{}", decision.ready.message);
        decision
    };
    missing(&mut pipeline, &created, "Describe");
    kafka.allow("topics", &["Describe"], "t");
    missing(&mut pipeline, &created, "Create");
    kafka.allow("topics", &["Create"], "t");
    let decision = missing(&mut pipeline, &created, "DescribeConfigs");
    assert!(kafka.has_topic("t"));
    assert_eq!((decision.durable.truth, decision.durable.reason), (Truth::False, Reason::SingleReplica));
    kafka.allow("topics", &["DescribeConfigs"], "t");
    pipeline.is_ready(&created);
    missing(&mut pipeline, &topic(1, "7200000"), "AlterConfigs");
    missing(&mut pipeline, &topic(2, "3600000"), "Alter");
    kafka.allow("topics", &["AlterConfigs", "Alter"], "t");
    pipeline.is_ready(&topic(2, "7200000"));
}

#[test]
fn a_kafka_that_does_not_answer_is_told_in_time_and_holds_nobody_up() {
    let kafka = Kafka::single().start();
    let clusters = clusters();
    let working = plain(&EAGER.bootstrap());
    look(&clusters, &working).unwrap();
    let (stopped, nowhere) = (plain(&kafka.bootstrap()), plain("127.0.0.1:9"));
    look(&clusters, &stopped).unwrap();
    kafka.broker(0).stop();
    let unnamed = plain("no-such-host.invalid:9092");
    let with_tls: KafkaSpec =
        serde_json::from_value(json!({"bootstrapServers": [EAGER.bootstrap()], "tls": {}})).unwrap();
    let with_tls = Access::new("iot", &with_tls, &[]).unwrap();
    std::thread::scope(|scope| {
        let dead = [stopped.clone(), nowhere, unnamed, with_tls].map(|access| {
            let clusters = &clusters;
            scope.spawn(move || {
                let started = Instant::now();
                let error = look(clusters, &access).unwrap_err();
                (error, started.elapsed())
            })
        });
        while dead.iter().any(|asked| !asked.is_finished()) {
            let started = Instant::now();
            look(&clusters, &working).unwrap();
            assert!(started.elapsed() < Duration::from_secs(3), "held up for {:?}", started.elapsed());
        }
        let told = dead.map(|asked| asked.join().unwrap());
        for (error, took) in &told {
            assert_eq!(error.reason(), Reason::KafkaUnreachable, "{error}");
            assert!(error.is_retryable() && *took < TIMEOUT, "{error} after {took:?}");
        }
        let [_, _, (unnamed, _), (with_tls, _)] = &told;
        assert!(unnamed.to_string().contains("cannot be resolved"), "{unnamed}");
        assert!(with_tls.to_string().contains("spec.kafka.tls"), "{with_tls}");
    });
    kafka.broker(0).cont();
    look(&clusters, &stopped).unwrap();
}

#[test]
fn durable_is_what_the_brokers_configuration_makes_of_it() {
    let kafka = Kafka::three().min_isr(2).start();
    let clusters = clusters();
    let mut pipeline = Pipeline::new(&clusters, plain(kafka.bootstrap().split(',').next().unwrap()));
    kafka.create(&NewTopic::new("good", 1));
    kafka.create(&NewTopic::new("single", 1).replication(1));
    kafka.create(&NewTopic::new("hasty", 1).set("min.insync.replicas", 1));
    kafka.create(&NewTopic::new("unclean", 1).set("unclean.leader.election.enable", true));
    kafka.create(&NewTopic::new("compact", 1).set("cleanup.policy", "compact,delete"));
    for (topic, reason) in [
        ("single", Reason::SingleReplica),
        ("hasty", Reason::SingleInSyncReplica),
        ("unclean", Reason::UncleanLeaderElection),
        ("compact", Reason::Compacted),
    ] {
        let decision = pipeline.is_ready(&json!([{"name": "good"}, {"name": topic}]));
        assert_eq!((decision.durable.truth, decision.durable.reason), (Truth::False, reason));
        assert!(decision.durable.message.starts_with(&format!("{topic}: ")), "{}", decision.durable.message);
    }
    let made = json!([
        {"name": "good"},
        {"name": "made", "partitions": 3, "replicationFactor": 3, "minInSyncReplicas": 2},
        {"name": "by-default", "management": "Managed"},
    ]);
    let decision = pipeline.is_ready(&made);
    assert_eq!((decision.durable.truth, decision.durable.reason), (Truth::True, Reason::Replicated));
    assert_eq!(decision.topics[2].replication_factor, Some(3), "as the brokers choose");
}

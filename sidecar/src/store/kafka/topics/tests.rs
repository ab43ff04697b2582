use super::*;

fn topic() -> Topic {
    Topic::new(TopicConfig {
        name: "t".into(),
        topic_name: "t".into(),
        partitions: Some(2),
        replication_factor: Some(3),
        min_in_sync_replicas: Some(2),
    })
}

fn seen(id: &str, partitions: i32, replication_factor: i32) -> TopicDescription {
    TopicDescription {
        name: "t".into(),
        error: None,
        id: Some(id.into()),
        partitions,
        replication_factor,
        may_write: None,
    }
}

fn config(entries: &[(&str, &str)]) -> ConfigDescription {
    let entries = entries.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    ConfigDescription { name: "t".into(), entries: Ok(entries) }
}

fn min_isr(value: &str) -> ConfigDescription {
    config(&[("min.insync.replicas", value)])
}

#[test]
fn a_topic_opens_when_it_is_as_declared() {
    let topic = topic();
    assert_eq!(topic.admit(), Err(TransientCause::KafkaUnreachable));
    topic.observe(Instant::now(), &seen("a", 2, 3), Some(&min_isr("2")));
    assert_eq!(topic.admit(), Ok(()));
}

#[test]
fn a_topic_that_is_less_than_declared_stays_shut() {
    for (description, config) in [(seen("a", 1, 3), "2"), (seen("a", 2, 1), "2"), (seen("a", 2, 3), "1")] {
        let topic = topic();
        let news = topic.observe(Instant::now(), &description, Some(&min_isr(config))).unwrap();
        assert!(news.contains("the pipeline declares"), "{news}");
        assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady));
    }
}

#[test]
fn a_recreated_topic_is_looked_at_twice() {
    let topic = topic();
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    topic.observe(Instant::now(), &seen("b", 2, 3), None);
    assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady));
    topic.observe(Instant::now(), &seen("b", 2, 3), None);
    assert_eq!(topic.admit(), Ok(()));
}

#[test]
fn a_deleted_topic_shuts_and_an_unreachable_broker_does_not() {
    let topic = topic();
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    topic.unreachable(Code::OperationTimedOut);
    assert_eq!(topic.admit(), Ok(()));
    let gone = TopicDescription { error: Some(Code::UnknownTopicOrPartition), ..seen("a", 0, 0) };
    assert!(topic.observe(Instant::now(), &gone, None).unwrap().contains("does not exist"));
    assert_eq!(topic.observe(Instant::now(), &gone, None), None, "said once");
    assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady));
}

#[test]
fn what_a_broker_does_not_tell_this_time_is_as_it_was() {
    let topic = topic();
    topic.observe(Instant::now(), &seen("a", 2, 3), Some(&min_isr("2")));
    let silent = TopicDescription { id: None, ..seen("a", 2, 3) };
    assert_eq!(topic.observe(Instant::now(), &silent, None), None);
    assert_eq!(topic.admit(), Ok(()));
    topic.observe(Instant::now(), &seen("b", 2, 3), None);
    assert_eq!(topic.admit(), Err(TransientCause::TopicNotReady), "the id was not forgotten");
}

#[test]
fn a_topic_that_may_not_be_written_to_is_shut_before_a_batch_fails() {
    let topic = topic();
    let read_only = TopicDescription { may_write: Some(false), ..seen("a", 2, 3) };
    let news = topic.observe(Instant::now(), &read_only, None).unwrap();
    assert!(news.contains("ACLs"), "{news}");
    assert_eq!(topic.admit(), Err(TransientCause::KafkaUnauthorized));
    topic.observe(Instant::now(), &TopicDescription { may_write: Some(true), ..seen("a", 2, 3) }, None);
    assert_eq!(topic.admit(), Ok(()));
}

#[test]
fn a_compacted_topic_needs_keys() {
    let topic = topic();
    for (policy, needs_key) in [("delete", false), ("compact", true), ("compact,delete", true)] {
        topic.observe(Instant::now(), &seen("a", 2, 3), Some(&config(&[("cleanup.policy", policy)])));
        assert_eq!(topic.needs_key(), needs_key, "{policy}");
    }
}

#[test]
fn an_election_is_no_reason_to_shut() {
    let topic = topic();
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    let leaderless = TopicDescription { error: Some(Code::LeaderNotAvailable), ..seen("a", 2, 3) };
    assert_eq!(topic.observe(Instant::now(), &leaderless, None), None);
    assert_eq!(topic.admit(), Ok(()));
}

#[test]
fn an_answer_from_before_a_doubt_does_not_settle_it() {
    let topic = topic();
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    let asked = Instant::now();
    assert!(topic.doubt().is_some());
    topic.observe(asked, &seen("a", 2, 3), None);
    assert!((topic.admit(), topic.is_checked()) == (Err(TransientCause::TopicNotReady), false));
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    assert!((topic.admit(), topic.is_checked()) == (Ok(()), true));
}

#[test]
fn a_suspension_outlasts_a_look_and_grows() {
    let topic = topic();
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    let pause = |topic: &Topic| topic.known.lock().suspended_until.unwrap() - Instant::now();
    assert!(topic.suspend(Code::InvalidTimestamp).unwrap().contains("clock"));
    assert_eq!(topic.suspend(Code::InvalidTimestamp), None, "said once");
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    assert_eq!(topic.admit(), Err(TransientCause::BrokerError));
    assert!(topic.is_checked(), "what is stored there meanwhile is stored");
    assert!(pause(&topic) <= SUSPENSION);
    topic.known.lock().suspended_until = Some(Instant::now());
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    assert_eq!(topic.admit(), Ok(()));
    topic.suspend(Code::InvalidTimestamp);
    assert!(pause(&topic) > SUSPENSION, "the second time it is longer");
    topic.known.lock().suspended_until = Some(Instant::now());
    topic.observe(Instant::now(), &seen("a", 2, 3), None);
    topic.persisted();
    topic.suspend(Code::InvalidTimestamp);
    assert!(pause(&topic) <= SUSPENSION, "a persisted message begins it anew");
}

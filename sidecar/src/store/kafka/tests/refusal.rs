//! What a broker refuses, and what is refused before it gets there.

use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use super::Connection;
use crate::budget::MESSAGE_OVERHEAD_BYTES;
use crate::store::kafka::SubmitError;
use crate::store::kafka::admin::{ConfigDescription, TopicDescription};
use crate::store::kafka::mock::{Mock, PARTITIONS, wait_until};
use crate::store::{Outcome, TransientCause};

#[test]
fn a_verdict_on_a_batch_is_transient_for_all_of_it() {
    for (error, cause) in [
        (Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, TransientCause::TopicNotReady),
        (Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, TransientCause::KafkaUnauthorized),
        (Error::RD_KAFKA_RESP_ERR_INVALID_RECORD, TransientCause::BrokerError),
        (Error::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, TransientCause::BrokerError),
    ] {
        let mock = Mock::start();
        let connection = Connection::open(&mock);
        mock.produce_errors(&[error]);
        connection.submit_batch(&mock, 1..=3);
        for tag in 1..=3 {
            assert_eq!(connection.next(), (tag, Outcome::Transient(cause)), "{error:?}");
        }
        assert_eq!(connection.budget.used_messages(), 0);
        // The topic rests, so that the next batch does not cost the next producer; then it is tried again.
        let after = Connection::open(&mock);
        assert_eq!(after.submit(4), Err(SubmitError::Transient(cause)), "{error:?}");
        let trouble = mock.store.health().trouble().unwrap();
        assert!(trouble.contains("topic telemetry"), "{trouble}");
        wait_until(|| after.submit(4).is_ok(), || "the topic is tried again");
        assert_eq!(after.receipt(4).offset(), Some(0));
        assert_eq!((mock.store.producers_made(), mock.store.health().trouble()), (2, None));
    }
}

#[test]
fn another_topic_goes_on_while_one_rests() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.produce_errors(&[Error::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP]);
    connection.submit(1).unwrap();
    assert!(matches!(connection.next().1, Outcome::Transient(_)));
    wait_until(|| connection.submit_to(1, 2, b"x").is_ok(), || "the new producer");
    assert_eq!(connection.receipt(2).topic(), "dead-letters");
}

#[test]
fn producer_ids_that_are_refused_are_told_and_asked_for_again() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(1).unwrap();
    connection.receipt(1);
    let refused = Error::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    mock.cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused, refused]);
    mock.fail_fatally();
    wait_until(
        || mock.store.health().trouble().is_some_and(|trouble| trouble.contains("ACLs")),
        || format!("the cause is told: {:?}", mock.store.health().trouble()),
    );
    // A producer takes messages before it knows that it may not write.
    let written = || connection.submit(2).is_ok() && matches!(connection.next().1, Outcome::Persisted(_));
    wait_until(written, || "a producer that may write");
    assert_eq!(mock.store.producers_made(), 4);
}

#[test]
fn a_topic_that_is_not_there_takes_nothing() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.cluster.topic_error("telemetry", Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    wait_until(|| mock.store.topics()[0].obstacle().is_some(), || "the next look");
    assert_eq!(connection.submit(1), Err(SubmitError::Transient(TransientCause::TopicNotReady)));
    let obstacle = mock.store.topics()[0].obstacle().unwrap().message;
    assert!(obstacle.contains("topic telemetry does not exist: create it"), "{obstacle}");
    assert!(connection.submit_to(1, 2, b"x").is_ok(), "the other topic goes on");
    connection.receipt(2);
}

#[test]
fn a_full_budget_refuses_and_holds_nothing() {
    let mock = Mock::start();
    mock.cluster.broker_down(1).unwrap();
    let connection = Connection::with_budget(&mock, 1 << 20, 2);
    connection.submit(1).unwrap();
    connection.submit(2).unwrap();
    let full = Err(SubmitError::Transient(TransientCause::BudgetExhausted));
    assert_eq!(connection.submit(3), full, "messages");
    let held = connection.budget.used_bytes();
    assert_eq!(mock.pod.used_bytes(), held);
    let small = Connection::with_budget(&mock, MESSAGE_OVERHEAD_BYTES, 10);
    assert_eq!(small.submit(4), full, "bytes");
    assert_eq!((small.budget.used_bytes(), mock.pod.used_bytes(), small.lane.load().0), (0, held, 0));
    mock.cluster.broker_up(1).unwrap();
    connection.receipt(1);
    connection.receipt(2);
    assert!(connection.submit(5).is_ok(), "an exhausted budget fails no lane");
}

#[test]
fn no_more_is_under_way_than_a_kafka_that_nobody_has_seen_may_have() {
    let mock = Mock::start();
    mock.cluster.broker_down(1).unwrap();
    let connection = Connection::open(&mock);
    let refused = (0..5_000).find_map(|tag| connection.submit(tag).err().map(|error| (tag, error)));
    let (taken, error) = refused.unwrap();
    assert_eq!(error, SubmitError::Transient(TransientCause::BudgetExhausted));
    assert!(mock.pod.used_bytes() >= mock.store.window_bytes(), "{taken}");
    assert_eq!(connection.budget.used_messages(), u64::from(taken));
    mock.cluster.broker_up(1).unwrap();
    for tag in 0..taken {
        connection.receipt(tag);
    }
    assert_eq!(mock.pod.used_bytes(), 0);
    connection.submit(taken).unwrap();
    connection.receipt(taken);
}

#[test]
fn a_full_queue_is_a_typed_refusal() {
    // The queue holds a thousand messages more than all endpoints together may; here the connection may more.
    let mock = Mock::with(1, |config| {
        config.endpoints.iter_mut().for_each(|endpoint| endpoint.limits.max_in_flight_messages = 10);
    });
    mock.cluster.broker_down(1).unwrap();
    mock.store.window.open();
    let connection = Connection::open(&mock);
    let refused = (0..2_000).find_map(|tag| connection.submit(tag).err().map(|error| (tag, error)));
    assert_eq!(refused, Some((1_020, SubmitError::Transient(TransientCause::QueueFull))));
    assert_eq!((connection.lane.load().0, connection.budget.used_messages()), (1_020, 1_020));
    mock.cluster.broker_up(1).unwrap();
    for tag in 0..1_020 {
        assert_eq!(
            connection.receipt(tag).offset(),
            Some(i64::from(tag)),
            "what was taken is stored in order"
        );
    }
}

#[test]
fn what_the_topic_does_not_take_is_refused_with_its_limit() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    let limit_bytes = mock.store.topics()[0].max_message_bytes();
    let refused = connection.submit_to(0, 1, &vec![0; limit_bytes]);
    assert_eq!(refused, Err(SubmitError::TooLarge { limit_bytes }));
    assert_eq!((connection.lane.load().0, mock.pod.used_bytes()), (0, 0));
}

#[test]
fn success_in_a_topic_that_is_not_the_one_that_was_looked_at_is_not_believed() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    connection.submit(1).unwrap();
    wait_until(|| mock.requests(RDKafkaApiKey::Produce) == 1, || "the request is on its way");
    assert!(mock.store.topics()[0].doubt().is_some());
    assert_eq!(connection.next(), (1, Outcome::Transient(TransientCause::TopicNotReady)));
    wait_until(|| connection.submit(2).is_ok(), || "the topic is checked again");
    assert_eq!(connection.receipt(2).offset(), Some(1));
}

#[test]
fn a_record_without_a_key_does_not_reach_a_compacted_topic() {
    // The broker would refuse it, and the batch with it.
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    let topic = &mock.store.topics()[0];
    let description = TopicDescription {
        name: topic.name().to_owned(),
        error: None,
        id: None,
        partitions: PARTITIONS,
        replication_factor: 1,
        may_write: None,
    };
    let entries = Ok(vec![("cleanup.policy".to_owned(), "compact".to_owned())]);
    let config = ConfigDescription { name: topic.name().to_owned(), entries };
    topic.observe(Instant::now(), &description, Some(&config));
    let refused = connection.submit_keyed(0, None, 1, b"1");
    assert_eq!(refused, Err(SubmitError::Transient(TransientCause::TopicNotReady)));
    assert!(mock.store.health().trouble().unwrap().contains("give its route a key"));
    assert!(connection.submit(2).is_ok());
    connection.receipt(2);
}

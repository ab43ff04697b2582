//! Producers that fail for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use super::Connection;
use crate::store::kafka::SubmitError;
use crate::store::kafka::mock::{Mock, wait_until};
use crate::store::{Outcome, TransientCause};

#[test]
fn a_fatal_error_is_followed_by_a_new_producer() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(1).unwrap();
    connection.receipt(1);
    mock.fail_fatally();
    wait_until(|| mock.store.producers_made() == 2, || "a new producer");
    wait_until(|| connection.submit(2).is_ok(), || "it takes messages of the same connection");
    assert_eq!(connection.receipt(2).offset(), Some(1));
}

#[test]
fn a_desynchronised_sequence_is_fatal_and_every_message_is_answered() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(0).unwrap();
    connection.receipt(0);
    mock.produce_errors(&[Error::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    connection.submit_batch(&mock, 1..=5);
    for tag in 1..=5 {
        assert_eq!(connection.next(), (tag, Outcome::Transient(TransientCause::ProducerReplaced)));
    }
    wait_until(|| connection.submit(6).is_ok(), || "a new producer");
    connection.receipt(6);
    assert_eq!(mock.store.producers_made(), 2);
    assert_eq!((connection.budget.used_messages(), mock.pod.used_bytes()), (0, 0));
}

#[test]
fn nothing_is_stored_behind_a_refused_message_of_its_connection() {
    // Three requests are on their way when the first of them is refused. librdkafka alone would send the other two
    // again and store them.
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(0).unwrap();
    connection.receipt(0);
    mock.cluster.broker_round_trip_time(1, Duration::from_millis(200)).unwrap();
    // The mock does not look at sequences; a broker would refuse the gap.
    mock.produce_errors(&[
        Error::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        Error::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        Error::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
    ]);
    for tag in 1..=3 {
        connection.submit(tag).unwrap();
        wait_until(|| mock.requests(RDKafkaApiKey::Produce) == usize::from(tag) + 1, || "one request each");
    }
    for tag in 1..=3 {
        let (of, outcome) = connection.next();
        assert_eq!(of, tag);
        assert!(matches!(outcome, Outcome::Transient(_)), "{tag}: {outcome:?}");
    }
    let after = Connection::open(&mock);
    wait_until(|| after.submit(4).is_ok(), || "a new producer, and the topic open again");
    assert_eq!(after.receipt(4).offset(), Some(1), "directly behind message 0");
}

#[test]
fn a_producer_that_no_longer_serves_a_partition_is_replaced_and_order_holds() {
    let mock = Mock::with(1, |config| config.delivery.ack_timeout_seconds = 3_600);
    let connection = Connection::open(&mock);
    connection.submit(0).unwrap();
    mock.stall(connection.receipt(0).partition);
    for tag in 1..=3 {
        connection.submit(tag).unwrap();
    }
    for tag in 1..=3 {
        assert_eq!(connection.next(), (tag, Outcome::Transient(TransientCause::ProducerReplaced)));
    }
    wait_until(|| connection.submit(1).is_ok(), || "a new producer");
    assert_eq!(connection.receipt(1).offset(), Some(1), "directly behind message 0");
    assert_eq!(mock.store.producers_made(), 2);
    assert_eq!((connection.budget.used_messages(), mock.pod.used_bytes()), (0, 0));
}

#[test]
fn a_connection_with_a_failed_message_takes_nothing_until_it_knows() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.cluster.broker_down(1).unwrap();
    connection.submit(1).unwrap();
    connection.submit(2).unwrap();
    mock.fail_fatally();
    wait_until(|| mock.store.producers_made() == 2, || "a new producer, which others may use");
    assert_eq!(connection.submit(3), Err(SubmitError::Transient(TransientCause::ProducerReplaced)));
    assert!(Connection::open(&mock).submit(4).is_ok());
    mock.cluster.broker_up(1).unwrap();
    assert!(matches!(connection.next(), (1, Outcome::Transient(_))));
    assert!(matches!(connection.next(), (2, Outcome::Transient(_))));
    assert!(connection.submit(3).is_ok());
}

#[test]
fn a_request_that_fails_after_the_fatal_error_is_not_waited_for_for_ever() {
    let mock = Mock::with(1, |config| config.delivery.ack_timeout_seconds = 3_600);
    let connection = Connection::open(&mock);
    mock.cluster.broker_round_trip_time(1, Duration::from_millis(500)).unwrap();
    connection.submit(1).unwrap();
    wait_until(|| mock.requests(RDKafkaApiKey::Produce) == 1, || "the request is on its way");
    mock.fail_fatally();
    // librdkafka puts the message of the broken request back into the queue that it has purged already.
    mock.cluster.broker_down(1).unwrap();
    assert_eq!(connection.next(), (1, Outcome::Transient(TransientCause::ProducerReplaced)));
    wait_until(|| mock.store.producers_made() == 2, || "a new producer");
}

#[test]
fn a_broker_that_does_not_answer_holds_a_new_producer_up_no_longer_than_the_ack_timeout() {
    let mock = Mock::with(1, |config| config.delivery.ack_timeout_seconds = 1);
    let connection = Connection::open(&mock);
    mock.cluster.broker_round_trip_time(1, Duration::from_secs(20)).unwrap();
    connection.submit(1).unwrap();
    wait_until(|| mock.requests(RDKafkaApiKey::Produce) == 1, || "the request is on its way");
    mock.fail_fatally();
    let start = std::time::Instant::now();
    assert_eq!(connection.next(), (1, Outcome::Transient(TransientCause::ProducerReplaced)));
    wait_until(|| mock.store.producers_made() == 2, || "a new producer");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_producer_is_not_let_go_while_a_submit_holds_it() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    // As a submit does that is interrupted between finding the producer and using it.
    let held = mock.store.producer.load_full().unwrap();
    assert!(held.retire());
    wait_until(
        || !mock.store.producer.load().as_ref().is_some_and(|found| Arc::ptr_eq(found, &held)),
        || "nobody else finds it",
    );
    connection.with_record(0, Some(b"p/d"), 1, b"1", |record, back| {
        assert!(connection.budget.try_take(10, 1));
        let ticket = connection.lane.occupy(connection.key, back, 10).unwrap();
        held.produce(record, ticket).unwrap();
    });
    drop(held);
    assert_eq!(connection.receipt(1).offset(), Some(0));
    wait_until(|| mock.store.producers_made() == 2, || "a new producer");
}

#[test]
fn no_message_is_lost_between_two_producers() {
    let mock = Mock::start();
    let stop = AtomicBool::new(false);
    let connections = [Connection::open(&mock), Connection::open(&mock)];
    std::thread::scope(|scope| {
        let senders: Vec<_> =
            connections.iter().map(|connection| scope.spawn(|| send(connection, &stop))).collect();
        for producers in 2..=6 {
            mock.fail_fatally();
            wait_until(|| mock.store.producers_made() == producers, || "a new producer");
            let stored = mock.requests(RDKafkaApiKey::Produce);
            wait_until(|| mock.requests(RDKafkaApiKey::Produce) > stored, || "it is used");
        }
        stop.store(true, Ordering::Release);
        senders.into_iter().for_each(|sender| assert!(sender.join().unwrap() > 0));
    });
    assert_eq!((mock.store.lanes().due(), mock.pod.used_bytes()), (0, 0));
}

/// Submits without a pause, and takes an outcome for each message. Returns how many were persisted.
fn send(connection: &Connection, stop: &AtomicBool) -> usize {
    let (mut tag, mut persisted, mut last) = (0_u16, 0, -1);
    while !stop.load(Ordering::Acquire) {
        let mut taken = 0;
        while taken < 50 && connection.submit(tag).is_ok() {
            tag = tag.wrapping_add(1);
            taken += 1;
        }
        let mut failed = false;
        for _ in 0..taken {
            match connection.next() {
                (_, Outcome::Persisted(receipt)) => {
                    assert!(!failed, "stored although a message before it failed");
                    let offset = receipt.offset().unwrap();
                    assert!(offset > last, "stored at {offset} behind {last}");
                    last = offset;
                    persisted += 1;
                }
                (_, outcome) => {
                    assert_eq!(outcome, Outcome::Transient(TransientCause::ProducerReplaced));
                    failed = true;
                }
            }
        }
        if taken == 0 {
            std::thread::yield_now();
        }
    }
    persisted
}

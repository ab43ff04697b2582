//! From produce to receipt, with brokers that refuse for a while.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use super::Connection;
use crate::store::kafka::mock::{Cluster, Mock, wait_until};
use crate::store::{Outcome, TransientCause};

#[test]
fn a_receipt_says_where_the_message_is() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(1).unwrap();
    connection.submit(2).unwrap();
    let (first, second) = (connection.receipt(1), connection.receipt(2));
    assert_eq!(first.topic(), "telemetry");
    assert_eq!(first.partition(), second.partition(), "one key, one partition");
    assert_eq!((first.offset(), second.offset()), (Some(0), Some(1)));
    assert_eq!((connection.budget.used_bytes(), connection.budget.used_messages()), (0, 0));
    assert_eq!(mock.pod.used_bytes(), 0);
}

#[test]
fn what_passes_is_retried_in_order_and_then_persisted() {
    let passing = [
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    ];
    let mock = Mock::with(3, |_| {});
    let connection = Connection::open(&mock);
    // So that the broker knows the producer, as it does nearly always.
    connection.submit(0).unwrap();
    let mut last = connection.receipt(0).offset().unwrap();
    for error in passing {
        mock.produce_errors(&[error, error]);
        (1..=20).for_each(|tag| connection.submit(tag).unwrap());
        for tag in 1..=20 {
            let offset = connection.receipt(tag).offset().unwrap();
            assert!(offset > last, "{error:?}: message {tag} is at {offset} behind {last}");
            last = offset;
        }
    }
    assert_eq!(mock.store.producers_made(), 1);
    assert_eq!(mock.store.health().failures(), 0);
    assert_eq!(connection.budget.used_messages(), 0);
}

#[test]
fn a_duplicate_is_persisted_and_has_no_offset() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.produce_errors(&[Error::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER]);
    // In one batch: librdkafka would count up from the -1 that the broker sends.
    connection.submit_batch(&mock, 1..=5);
    for tag in 1..=5 {
        assert_eq!(connection.receipt(tag).offset(), None, "message {tag}");
    }
}

#[test]
fn a_success_that_no_broker_confirmed_is_not_believed() {
    // The first request of this producer in the partition is refused while the second is on its way and is taken,
    // whatever its sequence: librdkafka concludes that the first was stored, which it never was.
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    mock.produce_errors(&[Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]);
    let requests = || mock.requests(RDKafkaApiKey::Produce);
    connection.submit(1).unwrap();
    wait_until(|| requests() == 1, || "the first request");
    connection.submit(2).unwrap();
    wait_until(|| requests() == 2, || "the second request");
    assert_eq!(connection.next(), (1, Outcome::Transient(TransientCause::BrokerError)));
    let stored = connection.receipt(2);
    assert_eq!(stored.offset(), Some(0), "the second is the only record of the partition");
}

#[test]
fn brokers_that_come_back_get_what_waited_for_them() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(0).unwrap();
    connection.receipt(0);
    mock.cluster.broker_down(1).unwrap();
    (1..=10).for_each(|tag| connection.submit(tag).unwrap());
    wait_until(|| mock.store.health().trouble().is_some(), || "a trouble is known");
    let trouble = mock.store.health().trouble().unwrap();
    assert!(trouble.contains("spec.kafka.bootstrapServers"), "{trouble}");
    assert!(mock.store.health().was_seen(), "a loss of Kafka does not end readiness");
    mock.cluster.broker_up(1).unwrap();
    for tag in 1..=10 {
        assert_eq!(connection.receipt(tag).offset(), Some(i64::from(tag)));
    }
    assert_eq!(mock.store.health().trouble(), None);
}

#[test]
fn a_given_up_message_keeps_its_budget_until_its_late_report() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    mock.cluster.broker_down(1).unwrap();
    (1..=3).for_each(|tag| connection.submit(tag).unwrap());
    let held = connection.budget.used_bytes();
    assert_eq!(mock.store.lanes().close(connection.key, &connection.lane), 3);
    assert_eq!((connection.budget.used_bytes(), connection.budget.used_messages()), (held, 3));
    assert_eq!(mock.store.lanes().len(), 1, "its number waits for the reports");
    mock.cluster.broker_up(1).unwrap();
    wait_until(|| connection.budget.used_messages() == 0, || "the reports");
    assert_eq!((connection.budget.used_bytes(), mock.pod.used_bytes()), (0, 0));
    wait_until(|| mock.store.lanes().is_empty(), || "the lane goes");
    let columns = connection.ledger.snapshot().0;
    assert_eq!(columns.late_reports, 3);
    assert!(columns.is_balanced());
}

#[test]
fn the_end_is_bounded_and_says_how_much_is_left() {
    let mut mock = Mock::start();
    let store = std::sync::Arc::clone(&mock.store);
    {
        let connection = Connection::open(&mock);
        mock.cluster.broker_down(1).unwrap();
        (1..=3).for_each(|tag| connection.submit(tag).unwrap());
    }
    let start = std::time::Instant::now();
    assert_eq!(mock.end(Duration::from_millis(300)), 3);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert!(store.producer.load().is_none());
}

#[test]
fn statistics_come_and_are_understood() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(1).unwrap();
    connection.receipt(1);
    wait_until(|| mock.store.statistics().sent_messages > 0, || "statistics with the message in them");
    let statistics = mock.store.statistics();
    assert!(
        statistics.brokers.values().any(|broker| broker.node_id == 1 && broker.state == "UP"),
        "{statistics:?}"
    );
}

#[test]
fn metadata_are_asked_for_without_making_topics() {
    // The mock would make a topic that is asked for with permission to.
    let mock = Mock::unseen(1, |_| {});
    wait_until(|| mock.requests(RDKafkaApiKey::Metadata) >= 6, || "several looks");
    assert!(!mock.store.health().was_seen());
    for topic in mock.store.topics() {
        // A look that took too long on a busy machine is followed by another one.
        wait_until(
            || topic.admit() == Err(TransientCause::TopicNotReady),
            || "the topic is known to be missing",
        );
        assert!(topic.obstacle().unwrap().message.contains("does not exist"));
    }
}

#[test]
fn a_broker_that_tells_less_is_good_enough() {
    // No topic ids and no rights in this version; the mock tells no configuration in any.
    let cluster = Cluster::start(1);
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(7)).unwrap();
    let mock = Mock::on(cluster, 1, |_| {});
    let connection = Connection::open(&mock);
    connection.submit(1).unwrap();
    connection.receipt(1);
}

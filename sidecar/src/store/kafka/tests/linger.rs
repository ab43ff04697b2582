//! Messages that gather, and those that go straight.

use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaApiKey;

use super::Connection;
use crate::store::kafka::mock::{Mock, wait_until};
use crate::store::{Outcome, TransientCause};

/// A linger that nobody waits for in these tests.
const LONG: u32 = 5_000;

fn lingering(milliseconds: u32) -> (Mock, Connection) {
    let mock = Mock::with(1, |config| config.kafka.linger_milliseconds = milliseconds);
    let connection = Connection::open(&mock);
    (mock, connection)
}

/// The same within a linger: message 0 has left just now, and what comes next waits for others.
fn within_a_linger(milliseconds: u32) -> (Mock, Connection) {
    let (mock, connection) = lingering(milliseconds);
    connection.submit(0).unwrap();
    connection.receipt(0);
    (mock, connection)
}

#[test]
fn what_comes_after_a_pause_does_not_wait_the_linger_out() {
    let (_mock, connection) = lingering(LONG);
    let start = Instant::now();
    connection.submit(1).unwrap();
    connection.receipt(1);
    assert!(start.elapsed() < Duration::from_millis(LONG.into()), "{:?}", start.elapsed());
}

#[test]
fn all_partitions_linger_together() {
    let (mock, connection) = within_a_linger(1_000);
    let before = mock.requests(RDKafkaApiKey::Produce);
    let start = Instant::now();
    // One after another, so that lingers of partitions would end one after another.
    for tag in 1..=12_u16 {
        connection.submit_keyed(0, Some(&tag.to_be_bytes()), tag, b"x").unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(mock.requests(RDKafkaApiKey::Produce), before, "they wait for others");
    let mut came = Vec::new();
    for tag in 1..=12 {
        connection.receipt(tag);
        came.push(start.elapsed());
    }
    let apart = came[11] - came[0];
    assert!(apart < Duration::from_millis(200), "they came {apart:?} apart");
}

#[test]
fn what_gathered_is_not_overtaken_by_what_goes_straight() {
    let (mock, connection) = lingering(50);
    mock.store.window.open();
    for turn in 0..5 {
        let first = turn * 1_000;
        for tag in first..first + 1_000 {
            connection.submit(tag).unwrap();
        }
        for tag in first..first + 1_000 {
            assert_eq!(connection.receipt(tag).offset(), Some(i64::from(tag)));
        }
    }
    assert_eq!(mock.store.producers_made(), 1);
    assert_eq!((connection.budget.used_messages(), mock.pod.used_bytes()), (0, 0));
}

#[test]
fn a_message_that_is_larger_than_what_may_gather_goes_behind_what_has() {
    let (_mock, connection) = within_a_linger(LONG);
    connection.submit(1).unwrap();
    let start = Instant::now();
    connection.submit_to(0, 2, &vec![0; 300_000]).unwrap();
    assert_eq!([1, 2].map(|tag| connection.receipt(tag).offset()), [Some(1), Some(2)]);
    assert!(start.elapsed() < Duration::from_millis(LONG.into()), "what had gathered was sent at once");
}

#[test]
fn what_gathered_fails_with_the_producer() {
    let (mock, connection) = within_a_linger(LONG);
    for tag in 1..=3 {
        connection.submit(tag).unwrap();
    }
    mock.fail_fatally();
    for tag in 1..=3 {
        assert_eq!(connection.next(), (tag, Outcome::Transient(TransientCause::ProducerReplaced)));
    }
    wait_until(|| connection.submit(1).is_ok(), || "a new producer");
    assert_eq!(connection.receipt(1).offset(), Some(1), "directly behind message 0");
    assert_eq!((connection.budget.used_messages(), mock.pod.used_bytes()), (0, 0));
}

#[test]
fn behind_a_message_that_finds_no_room_at_last_nothing_of_its_connection_goes() {
    let mock = Mock::with(1, |config| {
        config.kafka.linger_milliseconds = 1_000;
        config.max_in_flight_bytes = 1 << 20;
    });
    mock.cluster.broker_down(1).unwrap();
    let [filler, one, other] = [(); 3].map(|()| Connection::open(&mock));
    one.submit(0).unwrap();
    wait_until(|| mock.outstanding() == 1, || "the next messages gather for a second");
    // More than the budget lets in: until there is no room for another 20 kB in librdkafka's queue.
    let producer = mock.store.producer.load_full().unwrap();
    let mut filled = 0;
    for payload in [vec![0; 200_000], vec![0; 20_000]] {
        let fits = || {
            filler.with_record(0, Some(b"p/d"), 1, &payload, |record, back| {
                assert!(filler.budget.try_take(10, 1));
                let ticket = filler.lane.occupy(filler.key, back, 10).unwrap();
                producer.produce(record, ticket).inspect_err(|_| filler.lane.retract()).is_ok()
            })
        };
        filled += (0..).take_while(|_| fits()).count();
        filler.budget.give_back(10, 1);
    }
    drop(producer);
    one.submit_to(0, 1, &vec![0; 20_000]).unwrap();
    one.submit(2).unwrap();
    other.submit(3).unwrap();
    assert_eq!(one.lane.load().0, 3, "nobody knows yet");
    wait_until(|| mock.outstanding() >= filled + 2, || "what gathered is handed over");
    mock.cluster.broker_up(1).unwrap();
    one.receipt(0);
    for tag in [1, 2] {
        assert_eq!(one.next(), (tag, Outcome::Transient(TransientCause::QueueFull)));
    }
    other.receipt(3);
    for _ in 0..filled {
        filler.receipt(1);
    }
    assert_eq!((one.budget.used_messages(), mock.pod.used_bytes()), (0, 0));
}

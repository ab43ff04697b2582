//! From produce to receipt.

use super::Connection;
use crate::store::kafka::mock::{Mock, wait_until};

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
fn a_fatal_error_is_followed_by_a_new_producer() {
    let mock = Mock::start();
    let connection = Connection::open(&mock);
    connection.submit(1).unwrap();
    connection.receipt(1);
    mock.fail_fatally();
    wait_until(|| mock.store.producers_made() == 2, || "a new producer");
    let connection = Connection::open(&mock);
    wait_until(|| connection.submit(2).is_ok(), || "it takes messages");
    connection.receipt(2);
}

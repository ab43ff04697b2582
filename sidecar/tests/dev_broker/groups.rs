use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::clients::{Load, PATIENCE, TOPIC};
use crate::process::BrokerProcess;

fn consumer(broker: &BrokerProcess) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address.to_string())
        .set("group.id", "dashboard")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    consumer
}

/// Reads `count` records as a member of the group and commits after each.
fn take(consumer: &BaseConsumer, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", taken.len());
        if let Some(message) = consumer.poll(std::time::Duration::from_millis(100)) {
            let message = message.unwrap();
            taken.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
            consumer.commit_message(&message, CommitMode::Sync).unwrap();
        }
    }
    taken
}

#[test]
fn a_consumer_group_goes_on_where_it_was_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(folder.path(), 0);
    let port = broker.address.port();
    let mut load = Load::new(broker.address, 50);
    load.send(100);
    load.flush();
    let mut taken = take(&consumer(&broker), 60);
    broker.kill_9();
    let broker = BrokerProcess::start(folder.path(), port);
    let consumer = consumer(&broker);
    taken.extend(take(&consumer, 40));
    taken.sort();
    let all: Vec<_> = (0..100).map(|number| format!("{number:0>50}")).collect();
    assert_eq!(taken, all);
}

#[test]
fn a_time_is_found_to_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(folder.path(), 0);
    let producer: rdkafka::producer::BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.address.to_string())
        .set("linger.ms", "200")
        .create()
        .unwrap();
    for number in 0..50 {
        let record = rdkafka::producer::BaseRecord::<str, str>::to(TOPIC).partition(2).payload("x");
        producer.send(record.timestamp(1_700_000_000_000 + number * 1_000)).unwrap();
    }
    rdkafka::producer::Producer::flush(&producer, PATIENCE).unwrap();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address.to_string())
        .set("group.id", "times")
        .create()
        .unwrap();
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(TOPIC, 2, rdkafka::Offset::Offset(1_700_000_000_000 + 17_500)).unwrap();
    let found = consumer.offsets_for_times(times, PATIENCE).unwrap();
    assert_eq!(found.elements()[0].offset(), rdkafka::Offset::Offset(18));
}

//! The harness's own Kafka works: data and ports outlive a kill, a quorum outlives two brokers.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use penstock_e2e::Kafka;
use penstock_e2e::kafka::TopicSpec;
use penstock_e2e::until::{SOON, until};

fn produce(kafka: &Kafka, topic: &str, text: &str) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("acks", "all")
        .create()
        .unwrap();
    producer.send(BaseRecord::to(topic).key("k").payload(text)).map_err(|(error, _)| error).unwrap();
    producer.flush(SOON).unwrap();
}

#[test]
fn a_record_outlives_a_killed_broker() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("kept", 3);
    produce(&kafka, &topic, "first");
    kafka.broker(0).kill();
    kafka.broker(0).restart();
    produce(&kafka, &topic, "second");
    let records = kafka.read(&topic);
    let texts: Vec<_> = records.iter().map(|record| record.text()).collect();
    assert_eq!(texts, ["first", "second"]);
    kafka.delete_topic(&topic);
    assert!(!kafka.has_topic(&topic));
}

#[test]
fn two_of_three_brokers_can_die_and_come_back() {
    let kafka = Kafka::three().min_isr(2).start();
    kafka.create(&TopicSpec::new("replicated", 3));
    kafka.broker(0).kill();
    kafka.broker(1).kill();
    until("one replica is left", SOON, || {
        kafka.in_sync("replicated")?.iter().all(|&count| count == 1).then_some(())
    });
    kafka.broker(0).restart();
    kafka.broker(1).restart();
    kafka.wait_in_sync("replicated");
    produce(&kafka, "replicated", "after");
    assert_eq!(kafka.read("replicated").len(), 1);
}

#[test]
fn a_user_may_do_what_it_was_allowed() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let kafka = Kafka::single().user("device", "opens-sesame").start();
    let (open, closed) = (kafka.create_topic("open", 1), kafka.create_topic("closed", 1));
    kafka.allow("device", &["Write", "Describe"], &open);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let producer: BaseProducer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", "device")
            .set("sasl.password", "opens-sesame")
            .create()
            .unwrap();
        for topic in [&open, &closed] {
            producer
                .send(BaseRecord::<(), str>::to(topic).payload(mechanism))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(SOON).unwrap();
    }
    assert_eq!(kafka.read(&open).len(), 3);
    assert_eq!(kafka.read(&closed).len(), 0);
}

//! Three brokers, min.insync.replicas 2: one may die, two may not, and all is well when they return; leaders move, and topics
//! are made anew.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl;
use penstock_e2e::kafka::TopicSpec;
use penstock_e2e::load::Loads;
use penstock_e2e::load::wire::{Packet, Publish, Version};
use penstock_e2e::raw::Raw;
use penstock_e2e::until::{SOON, throughout, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const FINISH: Duration = Duration::from_secs(120);
/// Until a producer has asked for leaders again, and more.
const METADATA: Duration = Duration::from_secs(7);
/// So many that some have another leader when their topic is made anew.
const PARTITIONS: usize = 12;
const TOPIC: &str = "v1/p/d/telemetry";

#[test]
fn puback_waits_for_enough_replicas() {
    let kafka = Kafka::three().min_isr(2).start();
    let topic = kafka.create_topic("replicated", 6);
    let pipeline = Pipeline::telemetry(&kafka, &topic)
        .ack_timeout(4)
        .set("/spec/topics/0/replicationFactor", 3)
        .set("/spec/topics/0/minInSyncReplicas", 2);
    let sidecar = Sidecar::run(&pipeline).start();
    let plans = [sidecar.mqtt3_load(), sidecar.mqtt5_load(), sidecar.http_load()];
    let loads = Loads::new(plans.map(|plan| plan.clients(3).devices(3).rate(200).start()));
    loads.wait_acknowledged(100);

    kafka.broker(0).kill();
    loads.wait_acknowledged(200);

    kafka.broker(1).kill();
    // What two brokers had confirmed before may still be answered.
    let acknowledged = loads.settled(Duration::from_secs(3));
    throughout("no acknowledgement", Duration::from_secs(3), || loads.acknowledged() == acknowledged);
    for version in [Version::V311, Version::V5] {
        let mut raw = Raw::mqtt(sidecar.mqtt(), version, "during");
        raw.send(&Publish::new(version, TOPIC, b"during", 1).encode());
        let packets = raw.packets_until_closed(SOON);
        match version {
            Version::V311 => assert_eq!(packets, [], "closed without a PUBACK"),
            Version::V5 => {
                assert!(matches!(packets[..], [Packet::Disconnect { reason: 0x89, .. }]), "{packets:?}")
            }
        }
    }
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "during"]);
    response.assert_problem(503);
    assert!(response.header("retry-after").is_some());
    assert!(sidecar.is_ready());

    kafka.broker(0).restart();
    kafka.broker(1).restart();
    kafka.wait_in_sync(&topic);
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    // `during` was sent beside the loads and may be stored late: at least once.
    let records: Vec<_> = kafka.read(&topic).into_iter().filter(|record| record.text() != "during").collect();
    check(&history, &records).allow_repeats().assert_kept();
    until("the books balance with nothing in flight", SOON, || {
        (sidecar.total("inFlight") == 0).then_some(())
    });
    sidecar.assert_ledger_balances();
}

#[test]
fn a_topic_made_anew_is_served_although_its_leaders_have_lower_epochs_than_those_before() {
    let kafka = Kafka::three().min_isr(2).start();
    let topic = kafka.create_topic("anew", PARTITIONS);
    // Each move of a leader gives it a higher epoch (KIP-320).
    kafka.broker(0).kill();
    kafka.broker(0).restart();
    kafka.wait_in_sync(&topic);
    kafka.elect_preferred_leaders();
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic)).start();
    let load = || sidecar.mqtt5_load().clients(4).devices(16).rate(400).start();
    let before = load();
    before.wait_acknowledged(400);
    check(&before.finish(FINISH), &kafka.read(&topic)).assert_kept();

    // Soon enough that librdkafka, which does not at once believe that a topic is gone, keeps what it knows of it; and nothing
    // is sent before it has learnt of the new one, or the broker would tell it that the former one is gone.
    kafka.delete_topic(&topic);
    kafka.create(&TopicSpec::new(&topic, PARTITIONS).set("min.insync.replicas", 2));
    throughout("the sidecar is ready", METADATA, || sidecar.is_ready());
    let after = load();
    until("a topic that was made anew takes messages again", SOON, || {
        (after.acknowledged() >= 400).then_some(())
    });
    check(&after.finish(FINISH), &kafka.read(&topic)).assert_kept();
}

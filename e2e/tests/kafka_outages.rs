//! One broker that stops, dies, or loses a topic under load: no acknowledgement without it, nothing lost, all well again.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl;
use penstock_e2e::load::Loads;
use penstock_e2e::load::wire::{Packet, Publish, Version};
use penstock_e2e::raw::{Next, Raw};
use penstock_e2e::until::{SOON, throughout, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const FINISH: Duration = Duration::from_secs(90);
const TOPIC: &str = "v1/p/d/telemetry";

/// Every protocol, two devices a client.
fn loads(sidecar: &Sidecar) -> Loads {
    let plans = [sidecar.mqtt3_load(), sidecar.mqtt5_load(), sidecar.http_load(), sidecar.http2_load()];
    Loads::new(plans.map(|plan| plan.clients(3).devices(2).rate(300).start()))
}

#[test]
fn a_stopped_broker_means_no_acknowledgement_and_first_copies_stay_in_order() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("stopped", 3);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(60)).start();
    let loads = loads(&sidecar);
    loads.wait_acknowledged(100);
    kafka.broker(0).stop();
    let acknowledged = loads.settled(Duration::from_secs(1));
    throughout("no acknowledgement", Duration::from_secs(3), || loads.acknowledged() == acknowledged);
    assert!(sidecar.is_ready(), "a later loss of Kafka takes no endpoint away");
    assert!(loads[0].pings() > 0 && loads[1].pings() > 0, "pings are answered meanwhile");
    kafka.broker(0).cont();
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    check(&history, &kafka.read(&topic)).assert_kept();
    sidecar.assert_ledger_balances();
}

#[test]
fn a_broker_stopped_beyond_the_ack_timeout_ends_as_transient_and_is_sent_again_in_order() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("timeout", 3);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(2)).start();
    let loads = loads(&sidecar);
    loads.wait_acknowledged(100);
    kafka.broker(0).stop();
    until("every MQTT client was closed once, and HTTP was told", SOON, || {
        let told = loads[0].closes() >= 3 && loads[1].closes() >= 3;
        (told && loads[2].transient() >= 3 && loads[3].transient() >= 3).then_some(())
    });
    kafka.broker(0).cont();
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    assert!(history.closes.iter().any(|close| close.reason == Some(0x89)), "MQTT 5 is told Server busy");
    assert!(history.transient.iter().all(|&(status, retry_after)| status == 503 && retry_after.is_some()));
    check(&history, &kafka.read(&topic)).assert_kept();
    until("late reports are counted", SOON, || (sidecar.total("lateReports") > 0).then_some(()));
    sidecar.assert_ledger_balances();
}

#[test]
fn a_broker_killed_and_restarted_under_load_loses_nothing() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("killed", 3);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(4)).start();
    let loads = loads(&sidecar);
    for _ in 0..2 {
        loads.wait_acknowledged(100);
        kafka.broker(0).kill();
        assert!(sidecar.is_ready());
        kafka.broker(0).restart();
    }
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    check(&history, &kafka.read(&topic)).assert_kept();
    sidecar.assert_ledger_balances();
}

#[test]
fn batches_that_a_broker_refuses_are_sent_again_in_order() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("refused", 3);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(10)).start();
    let loads = loads(&sidecar);
    for _ in 0..2 {
        loads.wait_acknowledged(200);
        kafka.configure_topic(&topic, "message.timestamp.before.max.ms", "1000");
        kafka.broker(0).stop();
        let acknowledged = loads.settled(Duration::from_secs(1));
        throughout("no acknowledgement", Duration::from_secs(2), || loads.acknowledged() == acknowledged);
        let told = || loads[2].transient() + loads[3].transient();
        let before = told();
        // The oldest of what waits is refused now, and what came after it is not.
        kafka.broker(0).cont();
        until("batches are refused", SOON, || (told() > before).then_some(()));
        loads.wait_acknowledged(200);
        kafka.configure_topic(&topic, "message.timestamp.before.max.ms", &i64::MAX.to_string());
    }
    sidecar.wait_log("compare this machine's clock with the brokers'");
    loads.wait_acknowledged(200);
    let history = loads.finish(FINISH);
    check(&history, &kafka.read(&topic)).assert_kept();
    assert!(sidecar.is_ready());
    sidecar.assert_ledger_balances();
}

#[test]
fn a_held_message_ends_without_a_puback() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("held", 1);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(3)).start();
    kafka.broker(0).stop();
    for version in [Version::V311, Version::V5] {
        let mut raw = Raw::mqtt(sidecar.mqtt(), version, "held");
        let started = Instant::now();
        raw.send(&Publish::new(version, TOPIC, b"x", 1).encode());
        let packets = raw.packets_until_closed(SOON);
        assert!(started.elapsed() >= Duration::from_millis(2_900), "held for the ack timeout");
        match version {
            Version::V311 => assert_eq!(packets, []),
            Version::V5 => {
                assert!(matches!(packets[..], [Packet::Disconnect { reason: 0x89, .. }]), "{packets:?}")
            }
        }
    }
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]);
    response.assert_problem(503);
    assert!(response.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    kafka.broker(0).cont();
}

#[test]
fn a_deleted_topic_is_not_made_anew_by_producing() {
    let kafka = Kafka::single().auto_create().start();
    let topic = kafka.create_topic("deleted", 2);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(3)).start();
    let before = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "before"]);
    assert_eq!(before.status, 200, "{before:?}");
    kafka.delete_topic(&topic);
    let mut told = 0;
    until("the deleted topic takes nothing, and for a while", Duration::from_secs(60), || {
        let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "after"]);
        assert_eq!(response.status, 503, "{response:?}");
        told += 1;
        (told > 5).then_some(())
    });
    assert!(!kafka.has_topic(&topic), "nobody created it");
    sidecar.wait_log("does not exist");
    assert!(sidecar.is_ready());
    // Created again, with what is declared: it is another topic, and is taken into use.
    kafka.create(&penstock_e2e::kafka::TopicSpec::new(&topic, 2));
    until("the new topic takes messages", SOON * 2, || {
        (curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "again"]).status == 200).then_some(())
    });
    sidecar.assert_ledger_balances();
}

#[test]
fn a_topic_that_is_less_than_declared_takes_nothing() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("less", 1);
    let pipeline = Pipeline::telemetry(kafka, &topic).set("/spec/topics/0/partitions", 3);
    let sidecar = Sidecar::run(&pipeline).not_ready().start();
    sidecar.wait_log("the pipeline declares 3");
    assert!(!sidecar.is_ready());
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V311, "less");
    raw.send(&Publish::new(Version::V311, TOPIC, b"x", 1).encode());
    assert_eq!(raw.next(SOON), Next::Closed);
    assert_eq!(kafka.read(&topic).len(), 0);
    kafka.grow_topic(&topic, 3);
    until("it is as declared", SOON, || sidecar.is_ready().then_some(()));
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]);
    assert_eq!(response.status, 200, "{response:?}");
}

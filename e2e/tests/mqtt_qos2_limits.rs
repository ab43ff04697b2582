//! QoS 2 when Kafka is away, and how much of it may be under way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::collections::HashSet;
use std::time::Duration;

use penstock_e2e::Kafka;
use penstock_e2e::device::Device;
use penstock_e2e::load::wire::{Packet, Publish, Version, pubrel};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::{ANSWER, Next};
use penstock_e2e::until::{SOON, until};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
const SECOND: Duration = Duration::from_secs(1);
const TOPIC: &str = "v1/p/d/telemetry";

/// The reason of the DISCONNECT that is the next packet; nothing but a close in 3.1.1.
#[track_caller]
fn assert_ended(device: &mut Device, version: Version, reason: u8) {
    let packets = device.raw.packets_until_closed(SOON);
    match (version, &packets[..]) {
        (Version::V311, []) => {}
        (Version::V5, [Packet::Disconnect { reason: found, .. }]) if *found == reason => {}
        _ => panic!("{version:?}: {packets:?}, not {reason:#04x}"),
    }
}

#[test]
fn a_repetition_while_kafka_is_stopped_gets_no_pubrec() {
    let kafka = Kafka::single().start();
    let pods = Pods::one(&kafka, |pipeline| pipeline.ack_timeout(60));
    for version in BOTH {
        let name = client_id("stopped");
        let mut device = Device::clean(pods[0].mqtt(), version, &name);
        device.publish(1, "before");
        kafka.broker(0).stop();
        device.send(2, 2, "first");
        assert_eq!(device.raw.next(SECOND), Next::Nothing, "no PUBREC without Kafka");
        for _ in 0..2 {
            device.send_again(2, "first");
            assert_eq!(device.raw.next(SECOND), Next::Nothing, "nor for a repetition");
        }
        // What is known to be stored needs no Kafka, but its turn: answers leave in order.
        device.send_again(1, "before");
        device.assert_quiet();
        kafka.broker(0).cont();
        // A PUBLISH that was repeated has its answer with the repetition.
        device.pubrec(2);
        device.pubrec(1);
        device.assert_quiet();
        assert_eq!((device.release(2), device.release(1)), (0, 0));
        let records = pods.stored(&name);
        let ids: HashSet<_> = records.iter().map(|record| (record.header("ce_id"), record.text())).collect();
        assert_eq!(ids.len(), 2, "{version:?}: copies have one id: {ids:?}");
    }
    pods.assert_ledgers_balance();
}

#[test]
fn a_held_message_of_qos_2_ends_without_a_pubrec() {
    let kafka = Kafka::single().start();
    let pods = Pods::one(&kafka, |pipeline| pipeline.ack_timeout(3));
    kafka.broker(0).stop();
    for version in BOTH {
        let mut device = Device::clean(pods[0].mqtt(), version, &client_id("held"));
        device.send(2, 1, "x");
        assert_ended(&mut device, version, 0x89);
    }
    kafka.broker(0).cont();
    assert_eq!(pods[0].assert_ledger_balances()["total"]["acknowledged"], 0);
}

#[test]
fn a_pubrel_before_its_pubrec_ends_the_connection() {
    let kafka = Kafka::single().start();
    let pods = Pods::one(&kafka, |pipeline| pipeline.ack_timeout(60));
    kafka.broker(0).stop();
    for version in BOTH {
        let mut device = Device::clean(pods[0].mqtt(), version, &client_id("hasty"));
        device.send(2, 1, "x");
        device.assert_quiet();
        device.raw.send(&pubrel(1));
        assert_ended(&mut device, version, 0x82);
    }
    kafka.broker(0).cont();
}

#[test]
fn receive_maximum_counts_qos_2_until_pubcomp_or_an_error() {
    let pods =
        Pods::one(Kafka::shared(), |pipeline| pipeline.set("/spec/endpoints/0/mqtt/receiveMaximum", 10));
    let name = client_id("window");
    let mut device = Device::clean(pods[0].mqtt(), Version::V5, &name);
    assert_eq!(device.connack.number(0x21), Some(10));
    for id in 1..=9 {
        device.publish(id, "x");
    }
    // One place is left, and each of these gives it back.
    for _ in 0..5 {
        device.send(1, 99, "x");
        assert!(matches!(device.raw.packet(), Packet::PubAck { id: 99, reason: 0, .. }));
        let refused = Publish { qos: 2, ..Publish::new(Version::V5, "nobody/asked", b"x", 50) };
        device.raw.send(&refused.encode());
        assert!(matches!(device.raw.packet(), Packet::PubRec { id: 50, reason: 0x90, .. }));
        device.publish(10, "x");
        assert_eq!(device.release(10), 0);
    }
    // QoS 0 does not count.
    device.publish(10, "x");
    device.send(0, 0, "x");
    device.assert_quiet();
    for qos in [1, 2] {
        let mut device = Device::clean(pods[0].mqtt(), Version::V5, &client_id("window"));
        for id in 1..=10 {
            device.publish(id, "x");
        }
        device.send(qos, 11, "one too many");
        assert_ended(&mut device, Version::V5, 0x93);
    }
    assert!(Kafka::shared().read(&pods.topic).iter().all(|record| record.text() != "one too many"));
}

/// A client of 3.1.1 was told no Receive Maximum: it may send its PUBRELs behind any number of PUBLISH packets.
#[test]
fn a_3_with_more_unreleased_than_receive_maximum_is_not_stuck() {
    let pods =
        Pods::one(Kafka::shared(), |pipeline| pipeline.set("/spec/endpoints/0/mqtt/receiveMaximum", 10));
    let mut device = Device::clean(pods[0].mqtt(), Version::V311, &client_id("wide"));
    let publishes: Vec<u8> = (1..=300_u16)
        .flat_map(|id| Publish { qos: 2, ..Publish::new(Version::V311, TOPIC, b"x", id) }.encode())
        .collect();
    device.raw.send(&publishes);
    for id in 1..=300 {
        device.pubrec(id);
    }
    for id in 1..=300 {
        assert_eq!(device.release(id), 0);
    }
}

/// How much more memory a second turn through every packet identifier may take than the first has.
const GROWTH_BYTES: u64 = 6 << 20;

#[test]
fn a_turn_through_every_packet_identifier_leaves_nothing_behind() {
    let pods = Pods::one(Kafka::shared(), |pipeline| pipeline);
    for version in BOTH {
        let mut device = Device::clean(pods[0].mqtt(), version, &client_id("turn"));
        let held = || pods[0].metric("penstock_endpoint_held_bytes{endpoint=\"mqtt\"}");
        let held_at_rest = held();
        // The first turn warms up: buffers of the producer, the allocator's own.
        turn(&mut device, version, 1..=20_000);
        let before = pods[0].rss();
        turn(&mut device, version, 1..=65_535);
        let after = pods[0].rss();
        println!("{version:?}: {before} bytes, after 65,535 more identifiers {after}");
        assert!(after < before + GROWTH_BYTES, "{version:?}: {before} bytes became {after}");
        until("handshakes that are over hold nothing", SOON, || (held() == held_at_rest).then_some(()));
    }
    assert_eq!(pods[0].assert_ledger_balances()["total"]["acknowledged"], 2 * (20_000 + 65_535));
}

/// A whole handshake for each identifier, 500 of them at a time.
#[track_caller]
fn turn(device: &mut Device, version: Version, ids: std::ops::RangeInclusive<u16>) {
    let ids: Vec<u16> = ids.collect();
    for window in ids.chunks(500) {
        let publish = |&id| Publish { qos: 2, ..Publish::new(version, TOPIC, b"x", id) }.encode();
        device.raw.send(&window.iter().flat_map(publish).collect::<Vec<_>>());
        for &id in window {
            device.pubrec(id);
        }
        device.raw.send(&window.iter().flat_map(|&id| pubrel(id)).collect::<Vec<_>>());
        for &expected in window {
            match device.raw.next(ANSWER) {
                Next::Packet(Packet::PubComp { id, reason: 0, .. }) if id == expected => {}
                other => panic!("{other:?}, not PUBCOMP {expected}"),
            }
        }
    }
}

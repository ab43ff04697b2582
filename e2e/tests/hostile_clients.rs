//! Clients that send half of what they announce, never read, dribble, or come in thousands: memory stays within the
//! budgets, and good clients are served.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl;
use penstock_e2e::crowd::{Crowd, half_a_publish};
use penstock_e2e::load::wire::{Connect, PINGREQ, Packet, Publish, Version, packet, put_length};
use penstock_e2e::raw::{ANSWER, Raw};
use penstock_e2e::sidecar::BESIDE_BUDGETS;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const MIB: u64 = 1 << 20;
const TOPIC: &str = "v1/p/d/telemetry";

/// Tasks, sockets and places of connections that hold nothing.
const PER_CONNECTION: u64 = 16 << 10;

fn sidecar(purpose: &str, change: impl Fn(Pipeline) -> Pipeline) -> (Sidecar, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    (Sidecar::run(&change(Pipeline::telemetry(kafka, &topic))).start(), topic)
}

fn budget(pipeline: Pipeline, bytes: u64) -> Pipeline {
    let pipeline = pipeline.set("/spec/edge/maxInFlightBytes", bytes);
    (0..2).fold(pipeline, |pipeline, endpoint| {
        pipeline.set(&format!("/spec/endpoints/{endpoint}/limits/maxInFlightBytes"), bytes)
    })
}

fn connect(number: usize) -> Vec<u8> {
    Connect::new(Version::V311, &format!("crowd-{number}")).encode()
}

#[test]
fn two_thousand_halves_of_the_largest_packet_stay_within_the_budget() {
    let limit = 64 * MIB;
    let (sidecar, topic) = sidecar("halves", |pipeline| budget(pipeline, limit));
    let largest = 262_144;
    let crowd =
        Crowd::send(sidecar.mqtt(), 2_000, |number| vec![connect(number), half_a_publish(TOPIC, largest)]);
    crowd.wait_sent();
    assert_eq!(crowd.connected(), 2_000);
    // 2,000 halves are 250 MiB; the budget is a quarter of that.
    let most = limit + BESIDE_BUDGETS + 2_000 * PER_CONNECTION;
    until("those that found no room were sent away", SOON * 2, || {
        assert!(sidecar.rss() < most, "{} MiB", sidecar.rss() / MIB);
        (crowd.closed() > 1_000).then_some(())
    });
    assert!(sidecar.peak_rss() < most, "{} MiB at the peak", sidecar.peak_rss() / MIB);
    let load = sidecar.mqtt5_load().clients(2).messages(50).start();
    drop(crowd);
    let history = load.complete(SOON * 2);
    check(&history, &Kafka::shared().read(&topic)).assert_kept();
    until("the budget is given back", SOON, || {
        sidecar.metrics().contains("penstock_pod_held_bytes 0\n").then_some(())
    });
}

#[test]
fn halves_of_http_bodies_stay_within_the_budget() {
    let limit = 32 * MIB;
    let (sidecar, _) = sidecar("bodies", |pipeline| budget(pipeline, limit));
    let head = format!("POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n").into_bytes();
    let half = vec![b'x'; 131_072];
    let crowd = Crowd::send(sidecar.http(), 1_000, |_| vec![head.clone(), half.clone()]);
    crowd.wait_sent();
    let most = limit + BESIDE_BUDGETS + 1_000 * 2 * PER_CONNECTION;
    assert!(sidecar.peak_rss() < most, "{} MiB at the peak", sidecar.peak_rss() / MIB);
    drop(crowd);
    until("the budget is given back", SOON * 2, || {
        sidecar.metrics().contains("penstock_pod_held_bytes 0\n").then_some(())
    });
    assert_eq!(curl(sidecar.http(), &format!("/{TOPIC}"), &["-d", "x"]).status, 200);
    sidecar.assert_ledger_balances();
}

#[test]
fn five_thousand_connections_are_served_side_by_side() {
    let (sidecar, topic) = sidecar("thousands", |pipeline| pipeline);
    let crowd = Crowd::send(sidecar.mqtt(), 5_000, |number| {
        vec![connect(number), Publish::new(Version::V311, TOPIC, format!("{number}").as_bytes(), 1).encode()]
    });
    crowd.wait_sent();
    until("every one of them has its PUBACK", SOON * 2, || {
        (sidecar.total("acknowledged") == 5_000).then_some(())
    });
    // CONNACK and PUBACK, four bytes each.
    until("and has read it", SOON, || (crowd.answered() == 5_000 * 8).then_some(()));
    assert_eq!((crowd.connected(), crowd.closed()), (5_000, 0));
    assert_eq!(Kafka::shared().read(&topic).len(), 5_000);
    sidecar.assert_ledger_balances();
}

#[test]
fn clients_that_never_read_are_held_to_their_budget_and_closed() {
    let (sidecar, _) =
        sidecar("deaf", |pipeline| pipeline.set("/spec/endpoints/0/limits/maxInFlightBytes", 16 * MIB));
    // Enough questions that the answers fill every socket buffer and then ours.
    let questions = PINGREQ.repeat(6 << 20);
    let crowd =
        Crowd::send_and_never_read(sidecar.mqtt(), 12, |number| vec![connect(number), questions.clone()]);
    crowd.wait_sent();
    let most = 16 * MIB + BESIDE_BUDGETS;
    assert!(sidecar.peak_rss() < most, "{} MiB at the peak", sidecar.peak_rss() / MIB);
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V311, "good");
    raw.send(&Publish::new(Version::V311, TOPIC, b"x", 1).encode());
    assert!(matches!(raw.packet(), Packet::PubAck { id: 1, .. }), "good clients are served");
    until("those that do not read are closed", SOON, || {
        (sidecar.metrics().contains("penstock_connections{endpoint=\"mqtt\"} 1\n")).then_some(())
    });
    drop(crowd);
}

#[test]
fn before_connect_nobody_holds_more_than_16_kib() {
    let (sidecar, _) = sidecar("before", |pipeline| pipeline);
    let mut body = Vec::new();
    put_length(&mut body, 200_000);
    let mut raw = Raw::open(sidecar.mqtt());
    raw.send(&[&[0x10][..], &body].concat());
    assert!(
        raw.is_closed_within(Duration::from_secs(5)),
        "closed at the announcement, before a byte of it is kept"
    );
}

#[test]
fn a_client_that_does_not_finish_its_connect_is_closed() {
    let (sidecar, _) = sidecar("unfinished", |pipeline| pipeline);
    let mut half_open = Raw::open(sidecar.mqtt());
    let mut half_sent = Raw::open(sidecar.mqtt());
    half_sent.send(&connect(0)[..7]);
    let mut dribbling = Raw::open(sidecar.http());
    dribbling.send(b"POST /v1/p/d/telemetry HTTP/1.1\r\nHo");
    for raw in [&mut half_open, &mut half_sent, &mut dribbling] {
        assert!(raw.is_closed_within(Duration::from_secs(30)));
    }
}

#[test]
fn a_slow_client_is_served_as_long_as_it_moves() {
    let (sidecar, _) = sidecar("slow", |pipeline| pipeline);
    let publish = Publish::new(Version::V311, TOPIC, &[b's'; 400], 1).encode();
    let parts = |number: usize| -> Vec<Vec<u8>> {
        std::iter::once(connect(number)).chain(publish.chunks(40).map(<[u8]>::to_vec)).collect()
    };
    let crowd = Crowd::trickle(sidecar.mqtt(), 50, Duration::from_millis(200), parts);
    crowd.wait_sent();
    until("each has its PUBACK", SOON, || (sidecar.total("acknowledged") == 50).then_some(()));
    assert_eq!(crowd.closed(), 0);
}

#[test]
fn malformed_packets_in_numbers_leave_nothing_behind() {
    let (sidecar, _) = sidecar("malformed", |pipeline| pipeline);
    let crowd = Crowd::send(sidecar.mqtt(), 500, |number| {
        let garbage = match number % 5 {
            0 => packet(0x30, b"\xff\xff"),
            1 => packet(0x32, b"\x00\x03a\xff\xfe\x00\x01x"),
            2 => vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
            3 => packet(0x62, &[]),
            _ => packet(0x00, b"reserved"),
        };
        vec![connect(number), garbage]
    });
    until("all of them are closed", SOON, || (crowd.closed() == 500).then_some(()));
    until("and forgotten", SOON, || {
        let metrics = sidecar.metrics();
        let gone = metrics.contains("penstock_connections{endpoint=\"mqtt\"} 0\n");
        (gone && metrics.contains("penstock_pod_held_bytes 0\n")).then_some(())
    });
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V5, "after");
    raw.send(&PINGREQ);
    assert_eq!(raw.packet(), Packet::PingResp);
    assert!(!sidecar.log().contains("panicked"), "{}", sidecar.log());
}

#[test]
fn a_connection_beyond_the_limit_is_refused_and_a_freed_place_is_used() {
    let (sidecar, _) = sidecar("limit", |pipeline| {
        pipeline
            .set("/spec/endpoints/0/limits/maxConnections", 2)
            .set("/spec/endpoints/1/limits/maxConnections", 1)
    });
    let first = Raw::mqtt(sidecar.mqtt(), Version::V5, "first");
    let _second = Raw::mqtt(sidecar.mqtt(), Version::V5, "second");
    let mut third = Raw::open(sidecar.mqtt());
    assert!(third.is_closed_within(ANSWER));
    drop(first);
    until("a place is free", SOON, || {
        let mut raw = Raw::open(sidecar.mqtt());
        raw.send(&connect(3));
        matches!(raw.next(Duration::from_secs(1)), penstock_e2e::raw::Next::Packet(_)).then_some(())
    });
}

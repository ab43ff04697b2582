//! What a client is told at CONNECT, and how a connection ends.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::load::wire::{self, Connect, PINGREQ, Packet, Publish, Version};
use penstock_e2e::raw::{ANSWER, Next, Raw};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const MAXIMUM_QOS: u8 = 0x24;
const RECEIVE_MAXIMUM: u8 = 0x21;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const SESSION_EXPIRY: u8 = 0x11;
const SERVER_KEEP_ALIVE: u8 = 0x13;
const ASSIGNED_CLIENT_ID: u8 = 0x12;
const TOPIC: &str = "v1/p/d/telemetry";

fn sidecar(purpose: &str, change: impl Fn(Pipeline) -> Pipeline) -> (Sidecar, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    (Sidecar::run(&change(Pipeline::telemetry(kafka, &topic))).start(), topic)
}

fn disconnect_reason(raw: &mut Raw) -> Option<u8> {
    raw.packets_until_closed(ANSWER).into_iter().find_map(|packet| match packet {
        Packet::Disconnect { reason, .. } => Some(reason),
        _ => None,
    })
}

#[test]
fn connack_5_tells_what_is_served() {
    let (sidecar, _) = sidecar("connack", |pipeline| {
        pipeline
            .set("/spec/endpoints/0/mqtt/receiveMaximum", 77)
            .set("/spec/endpoints/0/mqtt/topicAliasMaximum", 3)
    });
    let mut connect = Connect::new(Version::V5, "");
    connect.properties = [&[SESSION_EXPIRY][..], &3600_u32.to_be_bytes()].concat();
    connect.clean = false;
    let (_raw, packet) = Raw::mqtt_with(sidecar.mqtt(), &connect);
    let Packet::ConnAck { code: 0, session_present: false, properties } = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(properties.number(MAXIMUM_QOS), Some(1));
    assert_eq!(properties.number(RECEIVE_MAXIMUM), Some(77));
    assert_eq!(properties.number(TOPIC_ALIAS_MAXIMUM), Some(3));
    assert!(properties.number(MAXIMUM_PACKET_SIZE).unwrap() >= 65_536);
    assert_eq!(
        properties.number(SESSION_EXPIRY),
        Some(0),
        "the session ends with the connection, and says so"
    );
    assert!(properties.text(ASSIGNED_CLIENT_ID).unwrap().len() > 8);
}

#[test]
fn a_client_of_5_is_told_the_longest_keep_alive_and_held_to_it() {
    let (sidecar, _) =
        sidecar("keep-alive", |pipeline| pipeline.set("/spec/endpoints/0/mqtt/maximumKeepAliveSeconds", 2));
    for (asked, told) in [(0, Some(2)), (60, Some(2)), (2, None), (1, None)] {
        let mut connect = Connect::new(Version::V5, &format!("asked-{asked}"));
        connect.keep_alive = asked;
        let (mut raw, packet) = Raw::mqtt_with(sidecar.mqtt(), &connect);
        let connected = Instant::now();
        let Packet::ConnAck { code: 0, properties, .. } = packet else { panic!("{packet:?}") };
        assert_eq!(properties.number(SERVER_KEEP_ALIVE), told, "asked for {asked}");
        assert_eq!(disconnect_reason(&mut raw), Some(0x8D), "asked for {asked}");
        let (silent, held) = (connected.elapsed(), told.unwrap_or(asked.into()));
        let allowed = Duration::from_millis(u64::from(held) * 1_500);
        assert!(silent > allowed.mul_f64(0.95) && silent < allowed + ANSWER, "asked for {asked}: {silent:?}");
    }
}

#[test]
fn a_client_of_3_is_refused_with_a_keep_alive_that_is_too_long_as_it_cannot_be_told() {
    let (sidecar, _) =
        sidecar("keep-alive-3", |pipeline| pipeline.set("/spec/endpoints/0/mqtt/maximumKeepAliveSeconds", 2));
    for (asked, code) in [(0, 2), (3, 2), (2, 0)] {
        let mut connect = Connect::new(Version::V311, &format!("asked-{asked}"));
        connect.keep_alive = asked;
        let (mut raw, packet) = Raw::mqtt_with(sidecar.mqtt(), &connect);
        let Packet::ConnAck { code: answered, .. } = packet else { panic!("{packet:?}") };
        assert_eq!(answered, code, "asked for {asked}");
        assert_eq!(raw.packets_until_closed(ANSWER), [], "refused at once, or silent for too long");
    }
}

#[test]
fn clean_session_0_gets_session_present_0() {
    let (sidecar, _) = sidecar("session", |pipeline| pipeline);
    for _ in 0..2 {
        let mut connect = Connect::new(Version::V311, "same");
        connect.clean = false;
        let (_raw, packet) = Raw::mqtt_with(sidecar.mqtt(), &connect);
        assert!(matches!(packet, Packet::ConnAck { code: 0, session_present: false, .. }), "{packet:?}");
    }
}

#[test]
fn a_client_without_identifier_must_be_content_with_a_clean_session_on_3() {
    let (sidecar, _) = sidecar("anonymous", |pipeline| pipeline);
    let mut connect = Connect::new(Version::V311, "");
    connect.clean = false;
    let (mut raw, packet) = Raw::mqtt_with(sidecar.mqtt(), &connect);
    assert!(matches!(packet, Packet::ConnAck { code: 2, .. }), "{packet:?}");
    assert!(raw.is_closed_within(ANSWER));
}

#[test]
fn another_protocol_version_is_refused_with_return_code_1() {
    let (sidecar, _) = sidecar("version", |pipeline| pipeline);
    let mut raw = Raw::open(sidecar.mqtt());
    raw.send(&wire::packet(0x10, b"\x00\x04MQTT\x03\x02\x00\x3c\x00\x01a"));
    let packet = raw.packet();
    assert!(matches!(packet, Packet::ConnAck { code: 1, .. }), "{packet:?}");
    assert!(raw.is_closed_within(ANSWER));
}

#[test]
fn what_is_not_mqtt_is_closed() {
    let (sidecar, _) = sidecar("noise", |pipeline| pipeline);
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &PINGREQ, b"\x10\xff\xff\xff\xff\xff", b"\x00\x00"] {
        let mut raw = Raw::open(sidecar.mqtt());
        raw.send(noise);
        assert!(raw.is_closed_within(ANSWER), "{noise:?}");
    }
    // It still serves.
    Raw::mqtt(sidecar.mqtt(), Version::V5, "after");
}

#[test]
fn qos_2_is_refused_by_the_book() {
    let (sidecar, _) = sidecar("qos2", |pipeline| pipeline);
    for version in [Version::V5, Version::V311] {
        let mut raw = Raw::mqtt(sidecar.mqtt(), version, "two");
        raw.send(&Publish { qos: 2, ..Publish::new(version, TOPIC, b"x", 1) }.encode());
        let expected = (version == Version::V5).then_some(0x9B);
        assert_eq!(disconnect_reason(&mut raw), expected, "{version:?}");
        let mut connect = Connect::new(version, "will");
        connect.will = Some((TOPIC.to_owned(), b"w".to_vec(), 2));
        let mut raw = Raw::open(sidecar.mqtt());
        raw.send(&connect.encode());
        match version {
            Version::V5 => assert!(raw.is_closed_within(ANSWER)),
            Version::V311 => assert_eq!(raw.next(ANSWER), Next::Closed),
        }
    }
    let (_, packet) = Raw::mqtt_with(sidecar.mqtt(), &{
        let mut connect = Connect::new(Version::V5, "will");
        connect.will = Some((TOPIC.to_owned(), b"w".to_vec(), 2));
        connect
    });
    assert!(matches!(packet, Packet::ConnAck { code: 0x9B, .. }), "{packet:?}");
}

#[test]
fn a_subscription_is_answered_with_a_failure_code() {
    let (sidecar, _) = sidecar("subscribe", |pipeline| pipeline);
    for (version, code) in [(Version::V311, 0x80), (Version::V5, 0xA2)] {
        let mut raw = Raw::mqtt(sidecar.mqtt(), version, "sub");
        raw.send(&wire::subscribe(version, 9, "a/#"));
        assert_eq!(raw.packet(), Packet::SubAck { id: 9, codes: vec![code] });
        raw.send(&PINGREQ);
        assert_eq!(raw.packet(), Packet::PingResp, "the connection goes on");
    }
}

#[test]
fn a_silent_client_is_closed_after_1_5_times_its_keep_alive() {
    let (sidecar, _) = sidecar("silent", |pipeline| pipeline);
    let mut connect = Connect::new(Version::V5, "silent");
    connect.keep_alive = 2;
    let started = Instant::now();
    let (mut raw, _) = Raw::mqtt_with(sidecar.mqtt(), &connect);
    assert_eq!(disconnect_reason(&mut raw), Some(0x8D));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(2_900), "{waited:?}");
}

#[test]
fn a_second_connection_takes_the_place_of_the_first() {
    let (sidecar, _) = sidecar("takeover", |pipeline| pipeline);
    let mut first = Raw::mqtt(sidecar.mqtt(), Version::V5, "same");
    let mut second = Raw::mqtt(sidecar.mqtt(), Version::V5, "same");
    assert_eq!(disconnect_reason(&mut first), Some(0x8E));
    second.send(&PINGREQ);
    assert_eq!(second.packet(), Packet::PingResp);
}

#[test]
fn a_taken_place_publishes_its_will() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("takenwill", |pipeline| pipeline);
    let mut connect = Connect::new(Version::V311, "same");
    connect.will = Some((TOPIC.to_owned(), b"taken over".to_vec(), 1));
    let (_first, _) = Raw::mqtt_with(sidecar.mqtt(), &connect);
    let _second = Raw::mqtt(sidecar.mqtt(), Version::V311, "same");
    until("the Will in the topic", SOON, || (kafka.read(&topic).len() == 1).then_some(()));
}

#[test]
fn a_will_is_published_when_the_client_is_lost_and_not_when_it_leaves() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("will", |pipeline| pipeline);
    for (client, leaves) in [("leaves", true), ("lost", false)] {
        let mut connect = Connect::new(Version::V5, client);
        connect.will =
            Some((format!("v1/p/{client}/telemetry"), format!("will of {client}").into_bytes(), 1));
        let (mut raw, _) = Raw::mqtt_with(sidecar.mqtt(), &connect);
        if leaves {
            raw.send(&wire::DISCONNECT);
        }
    }
    let records = until("the Will in the topic", SOON, || {
        let records = kafka.read(&topic);
        (!records.is_empty()).then_some(records)
    });
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].text(), records[0].key()), ("will of lost", Some("p/lost")));
    until("the Will in the books", SOON, || (sidecar.total("acknowledged") == 1).then_some(()));
    sidecar.assert_ledger_balances();
}

#[test]
fn an_end_by_the_protocol_names_its_reason() {
    let (sidecar, _) =
        sidecar("reasons", |pipeline| pipeline.set("/spec/endpoints/0/limits/maxMessageBytes", 1_024));
    let topic_alias = |alias: u16| [&[0x23][..], &alias.to_be_bytes()].concat();
    let publish = |topic: &str, payload: &[u8], properties: &[u8]| {
        Publish { properties, ..Publish::new(Version::V5, topic, payload, 1) }.encode()
    };
    let cases = [
        ("larger than Maximum Packet Size", publish(TOPIC, &[0; 2_000], &[]), 0x95),
        ("wildcard in a topic name", publish("v1/+/d/telemetry", b"x", &[]), 0x90),
        ("alias 0", publish(TOPIC, b"x", &topic_alias(0)), 0x94),
        ("alias never set", publish("", b"x", &topic_alias(3)), 0x82),
        ("neither topic nor alias", publish("", b"x", &[]), 0x82),
        ("QoS 3", wire::packet(0x36, b"\x00\x01a\x00\x01\x00"), 0x81),
        ("packet identifier 0", Publish::new(Version::V5, TOPIC, b"x", 0).encode(), 0x82),
        ("second CONNECT", Connect::new(Version::V5, "again").encode(), 0x82),
        ("PUBACK to nothing", wire::packet(0x40, &[0, 1]), 0x82),
        ("AUTH without a method", wire::packet(0xF0, &[]), 0x82),
    ];
    for (name, bytes, reason) in cases {
        let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V5, "faulty");
        raw.send(&bytes);
        assert_eq!(disconnect_reason(&mut raw), Some(reason), "{name}");
    }
    assert_eq!(sidecar.total("acknowledged"), 0);
    sidecar.assert_ledger_balances();
}

//! CONNECT and CONNACK (§3.1, §3.2).

use std::time::{Duration, Instant};

use penstock_e2e::load::wire::{self, Connect, Packet, Publish, Version, pubrel, subscribe};
use penstock_e2e::raw::{ANSWER, Next, Raw};

use super::{
    BOTH, MALFORMED, PROTOCOL_ERROR, TOPIC, assert_ended, assert_ends, assert_refused, assert_serves, client,
    client_id, connect, mqtt, stored, text, topic_of,
};

const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const RESPONSE_INFORMATION: u8 = 0x1A;
const SERVER_KEEP_ALIVE: u8 = 0x13;

/// A CONNECT of any protocol name and level, with a client identifier and nothing else.
fn connect_as(name: &[u8], level: u8) -> Vec<u8> {
    let none: &[u8] = if level >= 5 { &[0] } else { &[] };
    wire::packet(0x10, &[&text(name)[..], &[level, 2, 0, 60], none, &text(client_id().as_bytes())].concat())
}

#[test]
fn the_first_packet_is_connect() {
    for version in BOTH {
        for (what, bytes) in [
            ("PUBLISH", Publish::new(version, &topic_of("first"), b"x", 1).encode()),
            ("SUBSCRIBE", subscribe(version, 1, "a")),
            ("PINGREQ", wire::PINGREQ.to_vec()),
            ("PUBREL", pubrel(1).to_vec()),
            ("DISCONNECT", wire::DISCONNECT.to_vec()),
            ("AUTH", vec![0xF0, 0]),
        ] {
            let mut raw = Raw::open_as(mqtt(), version);
            raw.send(&bytes);
            // [MQTT-3.14.0-1]: no DISCONNECT before CONNACK.
            assert_eq!(raw.packets_until_closed(ANSWER), [], "{what}");
        }
    }
    assert_eq!(stored("first").len(), 0);
}

#[test]
fn a_second_connect_ends_the_connection() {
    for version in BOTH {
        assert_ends(version, &Connect::new(version, &client_id()).encode(), PROTOCOL_ERROR, "again");
    }
}

#[test]
fn another_protocol_name_is_closed_without_an_answer() {
    for (name, level) in [(&b"MQTX"[..], 5), (b"mqtt", 4), (b"", 4), (b"HTTP", 1), (b"MQTT ", 5)] {
        let mut raw = Raw::open(mqtt());
        raw.send(&connect_as(name, level));
        assert_eq!(raw.packets_until_closed(ANSWER), [], "{name:?}");
    }
}

#[test]
fn another_protocol_level_is_told_that_it_is_not_served() {
    for (name, level) in [(&b"MQTT"[..], 0), (b"MQTT", 3), (b"MQIsdp", 3)] {
        let mut raw = Raw::open_as(mqtt(), Version::V311);
        raw.send(&connect_as(name, level));
        let packets = raw.packets_until_closed(ANSWER);
        assert!(matches!(packets[..], [Packet::ConnAck { code: 1, .. }]), "{level}: {packets:?}");
    }
    for level in [6, 0x84, 0xFF] {
        assert_refused(Version::V5, &connect_as(b"MQTT", level), 0x84, &format!("level {level}"));
    }
}

#[test]
fn connect_flags_that_contradict_each_other_are_refused() {
    let will = |version| {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        [none, &text(TOPIC.as_bytes()), &text(b"w")].concat()
    };
    for version in BOTH {
        for (what, flags, rest) in [
            ("the reserved flag", 0x03, vec![]),
            ("Will QoS 3", 0x1E, will(version)),
            ("Will QoS without a Will", 0x0A, vec![]),
            ("Will Retain without a Will", 0x22, vec![]),
            ("a Will that is not there", 0x06, vec![]),
            ("a Will without its payload", 0x06, will(version)[..will(version).len() - 3].to_vec()),
            ("a user name that is not there", 0x82, vec![]),
            ("a password that is not there", 0xC2, text(b"user")),
            ("a user name without its flag", 0x02, text(b"user")),
            ("a password without its flag", 0x82, [text(b"user"), text(b"secret")].concat()),
        ] {
            assert_refused(version, &connect(version, flags, &[], &rest), MALFORMED, what);
        }
    }
    // [MQTT-3.1.2-22] of 3.1.1; MQTT 5 allows it.
    let password = text(b"secret");
    assert_refused(Version::V311, &connect(Version::V311, 0x42, &[], &password), MALFORMED, "password alone");
    let mut five = Raw::open_as(mqtt(), Version::V5);
    five.send(&connect(Version::V5, 0x42, &[], &password));
    assert!(matches!(five.packet(), Packet::ConnAck { code: 0, .. }), "a password alone in MQTT 5");
}

#[test]
fn client_identifiers_of_1_to_23_characters_and_longer_ones_are_let_in() {
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in BOTH {
        for name in ["Z", &all[..23], &all[39..], all] {
            assert_serves(&mut Raw::mqtt(mqtt(), version, name), name);
        }
    }
}

#[test]
fn a_client_without_identifier_gets_one_of_its_own() {
    let mut assigned = Vec::new();
    for clean in [true, false] {
        let mut five = Connect::new(Version::V5, "");
        five.clean = clean;
        let (_, packet) = Raw::mqtt_with(mqtt(), &five);
        let Packet::ConnAck { code: 0, session_present: false, properties } = packet else {
            panic!("{packet:?}")
        };
        assigned.push(properties.text(0x12).expect("an Assigned Client Identifier").to_owned());
    }
    assert_ne!(assigned[0], assigned[1]);
    // Nobody's place is taken.
    let (mut first, mut second) =
        (Raw::mqtt(mqtt(), Version::V311, ""), Raw::mqtt(mqtt(), Version::V311, ""));
    assert_serves(&mut first, "first");
    assert_serves(&mut second, "second");
    let mut three = Connect::new(Version::V311, "");
    three.clean = false;
    let (mut raw, packet) = Raw::mqtt_with(mqtt(), &three);
    assert!(matches!(packet, Packet::ConnAck { code: 2, session_present: false, .. }), "{packet:?}");
    assert_eq!(raw.next(ANSWER), Next::Closed);
}

#[test]
fn connack_comes_once_and_first_and_has_no_reserved_flag() {
    for version in BOTH {
        let mut raw = Raw::open_as(mqtt(), version);
        raw.send(&Connect::new(version, &client_id()).encode());
        let head = raw.bytes(4);
        assert_eq!((head[0], &head[2..]), (0x20, &[0, 0][..]), "{version:?}");
        let rest = usize::from(head[1]) - 2;
        raw.bytes(rest);
        raw.send(&wire::PINGREQ);
        assert_eq!(raw.packet(), Packet::PingResp);
        assert_eq!(raw.next(Duration::from_millis(300)), Next::Nothing, "nothing after it");
    }
}

#[test]
fn nothing_after_a_refused_connect_is_taken() {
    let name = client_id();
    let publishes = |version| Publish::new(version, &topic_of(&name), b"x", 1).encode();
    let malformed = connect(Version::V5, 0x03, &[], &[]);
    assert_refused(Version::V5, &[malformed, publishes(Version::V5)].concat(), MALFORMED, "with a PUBLISH");
    let mut three = Connect::new(Version::V311, "");
    three.clean = false;
    let mut raw = Raw::open(mqtt());
    raw.send(&[three.encode(), publishes(Version::V311)].concat());
    let packets = raw.packets_until_closed(ANSWER);
    assert!(matches!(packets[..], [Packet::ConnAck { code: 2, .. }]), "{packets:?}");
    assert_eq!(stored(&name).len(), 0);
}

#[test]
fn an_authentication_method_is_refused_and_auth_ends_the_connection() {
    let method = [&[0x15][..], &text(b"SCRAM-SHA-256")].concat();
    assert_refused(Version::V5, &connect(Version::V5, 0x02, &method, &[]), 0x8C, "a method");
    let data = [&method[..], &[0x16], &text(b"data")].concat();
    assert_refused(Version::V5, &connect(Version::V5, 0x02, &data, &[]), 0x8C, "a method with data");
    for body in [&[][..], &[0x18, 0], &[0x19, 0]] {
        assert_ends(Version::V5, &wire::packet(0xF0, body), PROTOCOL_ERROR, "AUTH without a method");
    }
    assert_ends(Version::V311, &[0xF0, 0], MALFORMED, "AUTH is no packet of 3.1.1");
}

#[test]
fn no_packet_is_larger_than_the_client_takes() {
    let sized = |bytes: u32| [&[MAXIMUM_PACKET_SIZE][..], &bytes.to_be_bytes()].concat();
    let open = |bytes: u32| {
        let mut raw = Raw::open_as(mqtt(), Version::V5);
        raw.send(&connect(Version::V5, 0x02, &sized(bytes), &[]));
        raw
    };
    for bytes in [20, 24, 40, 1_000] {
        let mut raw = open(bytes);
        let head = raw.bytes(2);
        assert!(head[0] == 0x20 && u32::from(head[1]) + 2 <= bytes, "CONNACK for {bytes}: {head:x?}");
        raw.bytes(usize::from(head[1]));
        raw.send(&Publish::new(Version::V5, TOPIC, b"x", 3).encode());
        let head = raw.bytes(2);
        assert!(head[0] == 0x40 && u32::from(head[1]) + 2 <= bytes, "PUBACK for {bytes}: {head:x?}");
    }
    for bytes in [5, 10] {
        let packets = open(bytes).packets_until_closed(ANSWER);
        assert!(matches!(packets[..], [Packet::ConnAck { code: 0x83, .. }]), "{bytes}: {packets:?}");
    }
    for bytes in [1, 4] {
        assert_eq!(open(bytes).packets_until_closed(ANSWER), [], "not even a refusal fits {bytes}");
    }
    let filters = text(b"a").iter().copied().chain([0]).collect::<Vec<_>>().repeat(30);
    for first in [0x82, 0xA2] {
        let filters = if first == 0x82 { filters.clone() } else { text(b"a").repeat(30) };
        let mut raw = open(24);
        assert!(matches!(raw.packet(), Packet::ConnAck { code: 0, .. }));
        raw.send(&wire::packet(first, &[&[0, 1, 0][..], &filters].concat()));
        assert_ended(&mut raw, Version::V5, 0x95, "an answer of 35 bytes");
    }
}

#[test]
fn what_a_client_can_do_without_is_left_out_of_a_connack_that_would_not_fit() {
    let sized = |bytes: u32| [&[MAXIMUM_PACKET_SIZE][..], &bytes.to_be_bytes()].concat();
    for (bytes, expected) in [(20, true), (15, false), (1_000, true)] {
        let mut raw = Raw::open_as(mqtt(), Version::V5);
        raw.send(&connect(Version::V5, 0x02, &sized(bytes), &[]));
        let packet = raw.packet();
        let Packet::ConnAck { code: 0, properties, .. } = packet else { panic!("{bytes}: {packet:?}") };
        assert_eq!(properties.number(TOPIC_ALIAS_MAXIMUM).is_some(), expected, "{bytes}: {properties:?}");
        assert!(properties.number(MAXIMUM_PACKET_SIZE).is_some(), "{bytes}: {properties:?}");
    }
}

#[test]
fn response_information_is_never_sent_and_another_keep_alive_only_where_there_is_a_longest() {
    for wanted in [0, 1] {
        let mut raw = Raw::open_as(mqtt(), Version::V5);
        raw.send(&connect(Version::V5, 0x02, &[0x19, wanted], &[]));
        let packet = raw.packet();
        let Packet::ConnAck { code: 0, properties, .. } = packet else { panic!("{packet:?}") };
        assert_eq!(properties.text(RESPONSE_INFORMATION), None);
        assert_eq!(properties.number(SERVER_KEEP_ALIVE), None, "the client's own holds");
    }
}

#[test]
fn a_client_is_silent_for_1_5_times_its_keep_alive_and_no_longer() {
    for version in BOTH {
        let mut connect = Connect::new(version, &client_id());
        connect.keep_alive = 1;
        let started = Instant::now();
        let (mut raw, _) = Raw::mqtt_with(mqtt(), &connect);
        // Any packet counts.
        let mut heard = started;
        for packet in [&wire::PINGREQ[..], &pubrel(1)] {
            assert_eq!(raw.next(Duration::from_secs(1)), Next::Nothing);
            raw.send(packet);
            heard = Instant::now();
            raw.packet();
        }
        assert_ended(&mut raw, version, 0x8D, "silence");
        let silent = heard.elapsed();
        assert!((Duration::from_millis(1_450)..Duration::from_secs(5)).contains(&silent), "{silent:?}");
    }
}

#[test]
fn a_keep_alive_of_0_lets_a_client_be_silent() {
    let mut connect = Connect::new(Version::V5, &client_id());
    connect.keep_alive = 0;
    let (mut raw, _) = Raw::mqtt_with(mqtt(), &connect);
    assert_eq!(raw.next(Duration::from_secs(4)), Next::Nothing);
    assert_serves(&mut raw, "after four seconds");
}

#[test]
fn a_will_topic_is_a_topic_name() {
    for version in BOTH {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        for topic in ["", "v1/+/d/telemetry", "v1/#"] {
            let rest = [none, &text(topic.as_bytes()), &text(b"w")].concat();
            assert_refused(version, &connect(version, 0x06, &[], &rest), 0x90, topic);
        }
    }
}

#[test]
fn a_client_that_comes_again_takes_the_place_of_its_connection() {
    for version in BOTH {
        let name = client_id();
        let mut first = Raw::mqtt(mqtt(), version, &name);
        let mut second = Raw::mqtt(mqtt(), version, &name);
        assert_ended(&mut first, version, 0x8E, "taken over");
        assert_serves(&mut second, "the new one");
        let mut other = client(version);
        assert_serves(&mut other, "another one");
    }
}

#[test]
fn a_client_need_not_wait_for_its_connack() {
    for version in BOTH {
        let name = client_id();
        let connect = Connect::new(version, &name).encode();
        // More than may be held before it is let in.
        let large = Publish::new(version, &topic_of(&name), &[b'x'; 100_000], 1).encode();
        let mut raw = Raw::open_as(mqtt(), version);
        raw.send(&[&connect[..], &large, &wire::PINGREQ].concat());
        assert!(matches!(raw.packet(), Packet::ConnAck { code: 0, .. }));
        let mut answers = [raw.packet(), raw.packet()];
        answers.sort_by_key(|packet| *packet == Packet::PingResp);
        assert!(matches!(answers[0], Packet::PubAck { id: 1, reason: 0, .. }), "{answers:?}");
        assert_eq!(stored(&name).len(), 1);
    }
}

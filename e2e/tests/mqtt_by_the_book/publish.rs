//! PUBLISH and its answers (§3.3, §3.4, §4.3, §4.7).

use penstock_e2e::load::wire::{self, Packet, Publish, Version, pubrel};
use penstock_e2e::raw::{ANSWER, Next};

use super::{
    BOTH, MALFORMED, PROTOCOL_ERROR, TOPIC, assert_ends, assert_serves, client, client_id, publish, stored,
    topic_of,
};

#[test]
fn flags_that_publish_cannot_have_end_the_connection() {
    for version in BOTH {
        let dup = Publish { qos: 0, dup: true, ..Publish::new(version, TOPIC, b"x", 0) };
        assert_ends(version, &dup.encode(), MALFORMED, "DUP at QoS 0");
        let three = Publish { qos: 3, ..Publish::new(version, TOPIC, b"x", 1) };
        assert_ends(version, &three.encode(), MALFORMED, "QoS 3");
    }
}

#[test]
fn a_topic_name_with_a_wildcard_or_without_a_character_ends_the_connection() {
    for version in BOTH {
        for topic in ["v1/+/d/telemetry", "v1/#", "v1/p+/d/telemetry", "#", "v1/p/d/telemetry#"] {
            for qos in [0, 1] {
                let bytes = Publish { qos, ..Publish::new(version, topic, b"x", 1) }.encode();
                assert_ends(version, &bytes, 0x90, topic);
            }
        }
        assert_ends(version, &Publish::new(version, "", b"x", 1).encode(), PROTOCOL_ERROR, "empty");
    }
}

#[test]
fn a_topic_alias_out_of_range_or_never_set_ends_the_connection() {
    let alias = |number: u16| [&[0x23][..], &number.to_be_bytes()].concat();
    assert_ends(Version::V5, &publish(TOPIC, &alias(0)), 0x94, "alias 0");
    assert_ends(Version::V5, &publish(TOPIC, &alias(33)), 0x94, "beyond Topic Alias Maximum");
    assert_ends(Version::V5, &publish("", &alias(33)), 0x94, "beyond it, and no topic");
    assert_ends(Version::V5, &publish("", &alias(1)), PROTOCOL_ERROR, "never set");
    assert_ends(Version::V5, &publish("", &[]), PROTOCOL_ERROR, "neither topic nor alias");
}

#[test]
fn every_topic_alias_up_to_the_maximum_is_taken_and_ends_with_its_connection() {
    let alias = |number: u16| [&[0x23][..], &number.to_be_bytes()].concat();
    let name = client_id();
    let mut raw = client(Version::V5);
    for number in 1..=32 {
        raw.send(&publish(&topic_of(&format!("{name}-{number}")), &alias(number)));
        assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }), "{number}");
        raw.send(&publish("", &alias(number)));
        assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }), "{number} again");
    }
    assert_eq!(stored(&format!("{name}-1")).len(), 2);
    assert_eq!(stored(&format!("{name}-32")).len(), 2);
    // [MQTT-3.3.2-7]
    assert_ends(Version::V5, &publish("", &alias(7)), PROTOCOL_ERROR, "set on another connection");
}

#[test]
fn an_identifier_that_was_acknowledged_names_a_new_message_whatever_dup_says() {
    for version in BOTH {
        let name = client_id();
        let topic = topic_of(&name);
        let mut raw = client(version);
        for dup in [false, true, false] {
            raw.send(&Publish { dup, ..Publish::new(version, &topic, b"same", 77) }.encode());
            let packet = raw.packet();
            assert!(matches!(packet, Packet::PubAck { id: 77, reason: 0, .. }), "{packet:?}");
        }
        assert_eq!(stored(&name).len(), 3);
    }
}

#[test]
fn each_qos_gets_its_answer() {
    for version in BOTH {
        let name = client_id();
        let topic = topic_of(&name);
        let mut raw = client(version);
        raw.send(&Publish { qos: 0, ..Publish::new(version, &topic, b"zero", 0) }.encode());
        raw.send(&Publish::new(version, &topic, b"one", 1).encode());
        // No answer to QoS 0, before or after.
        assert!(matches!(raw.packet(), Packet::PubAck { id: 1, reason: 0, .. }));
        assert_serves(&mut raw, "after both");
        assert_eq!(stored(&name).len(), 2);
    }
}

#[test]
fn topic_names_are_taken_byte_by_byte() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    for version in BOTH {
        let mut raw = client(version);
        for name in [composed, decomposed, "CAF\u{c9}", " caf\u{e9}"] {
            raw.send(&Publish::new(version, &topic_of(name), b"x", 1).encode());
            assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }), "{name}");
        }
    }
    assert_eq!((stored(composed).len(), stored(decomposed).len()), (2, 2));
    let mut five = client(Version::V5);
    for other in ["V1/p/d/telemetry", "/v1/p/d/telemetry", "v1/p/d/telemetry/", "v1/p/d//telemetry"] {
        five.send(&Publish::new(Version::V5, other, b"x", 1).encode());
        let packet = five.packet();
        assert!(matches!(packet, Packet::PubAck { reason: 0x90, .. }), "{other}: {packet:?}");
    }
}

#[test]
fn a_topic_name_may_take_all_the_bytes_that_a_string_has() {
    let name = "n".repeat(65_535 - "v1/p//telemetry".len());
    let mut raw = client(Version::V5);
    raw.send(&Publish::new(Version::V5, &topic_of(&name), b"x", 1).encode());
    let packet = raw.packet();
    assert!(matches!(packet, Packet::PubAck { reason: 0, .. }), "{packet:?}");
    assert_eq!(stored(&name).len(), 1);
}

#[test]
fn an_answer_to_what_was_never_sent_ends_the_connection() {
    for version in BOTH {
        for first in [0x40, 0x50, 0x70] {
            assert_ends(version, &wire::packet(first, &[0, 1]), PROTOCOL_ERROR, &format!("{first:#04x}"));
        }
    }
}

#[test]
fn a_pubrel_of_an_unknown_identifier_is_completed() {
    let expected = |version| if version == Version::V5 { 0x92 } else { 0 };
    for version in BOTH {
        let mut raw = client(version);
        raw.send(&pubrel(500));
        let packet = raw.packet();
        assert!(
            matches!(packet, Packet::PubComp { id: 500, reason, .. } if reason == expected(version)),
            "{version:?}: {packet:?}"
        );
        assert_serves(&mut raw, "after it");
    }
    let mut raw = client(Version::V5);
    for body in [&[1, 0, 0][..], &[1, 0, 0x92], &[1, 0, 0x92, 0]] {
        raw.send(&wire::packet(0x62, body));
        assert!(matches!(raw.packet(), Packet::PubComp { id: 256, reason: 0x92, .. }), "{body:x?}");
    }
    raw.send(&wire::packet(0x62, &[1, 0, 0x80]));
    let packets = raw.packets_until_closed(ANSWER);
    assert!(matches!(packets[..], [Packet::Disconnect { reason: PROTOCOL_ERROR, .. }]), "{packets:?}");
}

#[test]
fn an_answer_has_the_identifier_of_its_publish_and_a_code_of_its_own() {
    let mut raw = client(Version::V5);
    for (id, topic, expected) in
        [(1, TOPIC, 0), (65_535, TOPIC, 0), (256, "nobody/asked", 0x90), (2, TOPIC, 0)]
    {
        raw.send(&Publish::new(Version::V5, topic, b"x", id).encode());
        let packet = raw.packet();
        assert!(
            matches!(packet, Packet::PubAck { id: found, reason, .. } if found == id && reason == expected),
            "{packet:?}"
        );
    }
    assert_eq!(raw.next(std::time::Duration::from_millis(200)), Next::Nothing);
}

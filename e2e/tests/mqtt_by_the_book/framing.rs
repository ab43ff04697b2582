//! How bytes become packets: data representation (§1.5) and the fixed header (§2.1).

use penstock_e2e::load::wire::{self, Packet, Publish, Version, pubrel, subscribe, user_property};
use penstock_e2e::raw::{ANSWER, Raw};

use super::{
    BOTH, MALFORMED, PROTOCOL_ERROR, TOPIC, assert_ended, assert_ends, assert_refused, assert_serves, client,
    connect, mqtt, publish, stored, text, topic_of, with_properties,
};

/// What no UTF-8 Encoded String may contain.
const ILL_FORMED: [(&str, &[u8]); 5] = [
    ("a byte that begins nothing", b"a\xffb"),
    ("a sequence cut short", b"a\xc3"),
    ("an overlong encoding", b"a\xc0\xafb"),
    ("a surrogate", b"a\xed\xa0\x80b"),
    ("U+0000", b"a\x00b"),
];

#[test]
fn a_string_that_is_not_utf_8_ends_the_connection() {
    for (what, bytes) in ILL_FORMED {
        let string = text(bytes);
        let topic = [&string[..], &[0, 1]].concat();
        assert_ends(Version::V311, &wire::packet(0x32, &topic), MALFORMED, what);
        assert_ends(Version::V5, &with_properties(0x32, &topic, &[], b"x"), MALFORMED, what);
        for version in BOTH {
            let head: &[u8] = if version == Version::V5 { &[0, 1, 0] } else { &[0, 1] };
            let filter = [head, &string].concat();
            let with_options = [&filter[..], &[1]].concat();
            assert_ends(version, &wire::packet(0x82, &with_options), MALFORMED, what);
            assert_ends(version, &wire::packet(0xA2, &filter), MALFORMED, what);
        }
        for property in [
            [&[0x03][..], &string].concat(),
            [&[0x08][..], &string].concat(),
            [&[0x26][..], &string, &text(b"value")].concat(),
            [&[0x26][..], &text(b"name"), &string].concat(),
        ] {
            assert_ends(Version::V5, &publish(TOPIC, &property), MALFORMED, what);
        }
    }
}

#[test]
fn a_connect_with_a_string_that_is_not_utf_8_is_refused() {
    for (what, bytes) in ILL_FORMED {
        let string = text(bytes);
        for version in BOTH {
            let (level, none): (u8, &[u8]) = if version == Version::V5 { (5, &[0]) } else { (4, &[]) };
            let head = [b"\x00\x04MQTT", &[level, 2, 0, 60][..], none].concat();
            assert_refused(version, &wire::packet(0x10, &[&head[..], &string].concat()), MALFORMED, what);
            let will = [none, &string, &text(b"payload")].concat();
            assert_refused(version, &connect(version, 0x06, &[], &will), MALFORMED, what);
            assert_refused(version, &connect(version, 0x82, &[], &string), MALFORMED, what);
        }
    }
}

#[test]
fn a_byte_order_mark_stays_in_its_string() {
    let device = "\u{feff}mark";
    for version in BOTH {
        let mut raw = client(version);
        raw.send(&Publish::new(version, &topic_of(device), b"x", 1).encode());
        assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }));
    }
    assert_eq!(stored(device).len(), 2);
    assert_eq!(stored("mark").len(), 0);
}

#[test]
fn a_length_takes_as_few_bytes_as_it_needs() {
    assert_ends(Version::V5, &[0xC0, 0x80, 0x00], MALFORMED, "Remaining Length 0 in two bytes");
    let long = [&text(TOPIC.as_bytes())[..], &[0, 1, 0x80, 0x00], b"x"].concat();
    assert_ends(Version::V5, &wire::packet(0x32, &long), MALFORMED, "Property Length 0 in two bytes");
    let mut three = client(Version::V311);
    three.send(&[0xC0, 0x80, 0x00]);
    assert_eq!(three.packet(), Packet::PingResp, "3.1.1 does not ask for it");
}

#[test]
fn a_length_of_more_than_four_bytes_ends_the_connection() {
    for version in BOTH {
        assert_ends(version, &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], MALFORMED, "Remaining Length");
    }
    let long = [&text(TOPIC.as_bytes())[..], &[0, 1, 0x80, 0x80, 0x80, 0x80, 0x01], b"x"].concat();
    assert_ends(Version::V5, &wire::packet(0x32, &long), MALFORMED, "Property Length");
}

#[test]
fn reserved_flags_end_the_connection() {
    let filter = [&[0, 1, 0][..], &text(b"a"), &[1]].concat();
    for version in BOTH {
        for (first, body) in [
            (0x60, &[0, 1][..]),
            (0x66, &[0, 1]),
            (0x80, &filter),
            (0x8F, &filter),
            (0xA0, &filter),
            (0xC1, &[]),
            (0xE2, &[]),
            (0xF8, &[]),
            (0x41, &[0, 1]),
            (0x52, &[0, 1]),
            (0x78, &[0, 1]),
            (0x11, &[]),
        ] {
            assert_ends(version, &wire::packet(first, body), MALFORMED, &format!("first byte {first:#04x}"));
        }
    }
}

#[test]
fn a_type_that_no_client_sends_ends_the_connection() {
    for version in BOTH {
        assert_ends(version, &[0x00, 0x00], MALFORMED, "the forbidden type 0");
        for first in [0x20, 0x90, 0xB0, 0xD0] {
            assert_ends(version, &wire::packet(first, &[0, 1, 0]), PROTOCOL_ERROR, &format!("{first:#04x}"));
        }
    }
}

#[test]
fn a_packet_that_is_shorter_than_its_parts_ends_the_connection() {
    let properties = [&[0x03][..], &text(b"text/plain"), &user_property("n", "v")].concat();
    let head = [&text(TOPIC.as_bytes())[..], &[0, 1]].concat();
    let publish = with_properties(0x32, &head, &properties, &[]);
    let subscribe =
        with_properties(0x82, &[0, 1], &user_property("n", "v"), &[&text(b"a")[..], &[1]].concat());
    let unsubscribe = with_properties(0xA2, &[0, 1], &user_property("n", "v"), &text(b"a"));
    let released = with_properties(0x62, &[0, 1, 0], &user_property("n", "v"), &[]);
    let disconnect = with_properties(0xE0, &[0], &user_property("n", "v"), &[]);
    for whole in [publish, subscribe, unsubscribe, released, disconnect] {
        // The fixed header of each is two bytes long.
        for cut in 0..whole.len() - 2 {
            let bytes = wire::packet(whole[0], &whole[2..2 + cut]);
            let mut raw = client(Version::V5);
            raw.send(&bytes);
            // These forms are complete: PUBREL without reason or properties, DISCONNECT likewise.
            match (whole[0], cut) {
                (0x62, 2 | 3) => {
                    assert!(matches!(raw.packet(), Packet::PubComp { id: 1, .. }), "cut after {cut}");
                }
                (0xE0, 0 | 1) => assert_eq!(raw.packets_until_closed(ANSWER), [], "cut after {cut}"),
                _ => {
                    let packets = raw.packets_until_closed(ANSWER);
                    let ended = matches!(packets[..], [Packet::Disconnect { reason: 0x81 | 0x82, .. }]);
                    assert!(ended, "{:#04x} cut after {cut}: {packets:x?}", whole[0]);
                }
            }
        }
    }
}

#[test]
fn a_packet_that_is_longer_than_its_parts_ends_the_connection() {
    for version in BOTH {
        assert_ends(version, &wire::packet(0xC0, b"x"), MALFORMED, "PINGREQ");
        let released: &[u8] = if version == Version::V5 { &[0, 1, 0, 0, 9] } else { &[0, 1, 0] };
        assert_ends(version, &wire::packet(0x62, released), MALFORMED, "PUBREL");
        let disconnect: &[u8] = if version == Version::V5 { &[0, 0, 9] } else { &[0] };
        assert_ends(version, &wire::packet(0xE0, disconnect), MALFORMED, "DISCONNECT");
        assert_refused(version, &connect(version, 0x02, &[], b"more"), MALFORMED, "CONNECT");
    }
}

#[test]
fn a_packet_split_anywhere_is_the_same_packet() {
    for version in BOTH {
        let mut raw = client(version);
        let stream = [
            Publish::new(version, TOPIC, b"split", 7).encode(),
            subscribe(version, 8, "a"),
            wire::PINGREQ.to_vec(),
            pubrel(9).to_vec(),
        ]
        .concat();
        for cut in 1..stream.len() {
            raw.send(&stream[..cut]);
            std::thread::yield_now();
            raw.send(&stream[cut..]);
            let mut answers: Vec<_> = (0..4).map(|_| raw.packet()).collect();
            // The PUBACK comes when Kafka has it.
            let puback = answers.iter().position(|packet| matches!(packet, Packet::PubAck { id: 7, .. }));
            answers.remove(puback.expect("a PUBACK"));
            assert!(matches!(answers[0], Packet::SubAck { id: 8, .. }), "{answers:?}");
            assert!(matches!(answers[1], Packet::PingResp), "{answers:?}");
            assert!(matches!(answers[2], Packet::PubComp { id: 9, .. }), "{answers:?}");
        }
        for byte in &stream {
            raw.send(&[*byte]);
        }
        assert_eq!((0..4).filter(|_| matches!(raw.packet(), Packet::PubAck { id: 7, .. })).count(), 1);
    }
}

#[test]
fn a_packet_identifier_of_0_ends_the_connection() {
    for version in BOTH {
        for qos in [1, 2] {
            let bytes = Publish { qos, ..Publish::new(version, TOPIC, b"x", 0) }.encode();
            assert_ends(version, &bytes, PROTOCOL_ERROR, "PUBLISH");
        }
        assert_ends(version, &subscribe(version, 0, "a"), PROTOCOL_ERROR, "SUBSCRIBE");
        assert_ends(version, &pubrel(0), PROTOCOL_ERROR, "PUBREL");
        let head: &[u8] = if version == Version::V5 { &[0, 0, 0] } else { &[0, 0] };
        let unsubscribe = [head, &text(b"a")].concat();
        assert_ends(version, &wire::packet(0xA2, &unsubscribe), PROTOCOL_ERROR, "UNSUBSCRIBE");
    }
}

#[test]
fn a_packet_larger_than_maximum_packet_size_ends_the_connection_before_it_is_read() {
    for version in BOTH {
        let mut raw = client(version);
        // The announcement alone.
        raw.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        assert_ended(&mut raw, version, 0x95, "256 MiB");
    }
    let mut before = Raw::open(mqtt());
    before.send(&[0x10, 0xff, 0xff, 0x7f]);
    assert_eq!(before.packets_until_closed(ANSWER), [], "before CONNECT nobody can be told");
    assert_serves(&mut client(Version::V5), "others are served");
}

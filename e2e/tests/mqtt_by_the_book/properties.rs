//! Properties (§2.2.2): where they may stand, how often, and with which values.

use penstock_e2e::load::wire::{self, Packet, Version, user_property};

use super::{
    MALFORMED, PROTOCOL_ERROR, TOPIC, assert_ends, assert_refused, assert_serves, client, connect, publish,
    text, with_properties,
};

/// One of each property of the standard, well-formed.
fn every_property() -> Vec<(u8, Vec<u8>)> {
    let encoded = |identifier: u8, value: &[u8]| (identifier, [&[identifier][..], value].concat());
    let string = text(b"text");
    let mut all = vec![
        encoded(0x01, &[1]),
        encoded(0x02, &[0, 0, 0, 60]),
        encoded(0x03, &string),
        encoded(0x08, &string),
        encoded(0x09, &string),
        encoded(0x0B, &[7]),
        encoded(0x11, &[0, 0, 0, 60]),
        encoded(0x12, &string),
        encoded(0x13, &[0, 60]),
        encoded(0x15, &string),
        encoded(0x16, &string),
        encoded(0x17, &[1]),
        encoded(0x18, &[0, 0, 0, 1]),
        encoded(0x19, &[1]),
        encoded(0x1A, &string),
        encoded(0x1C, &string),
        encoded(0x1F, &string),
        encoded(0x21, &[0, 10]),
        encoded(0x22, &[0, 10]),
        encoded(0x23, &[0, 1]),
        encoded(0x24, &[1]),
        encoded(0x25, &[1]),
        encoded(0x27, &[0, 1, 0, 0]),
        encoded(0x28, &[1]),
        encoded(0x29, &[1]),
        encoded(0x2A, &[1]),
    ];
    all.push((0x26, user_property("name", "value")));
    all
}

/// What a client may write where, by table 2-4.
const IN_CONNECT: &[u8] = &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
const IN_WILL: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
const IN_PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26];
const IN_PUBREL: &[u8] = &[0x1F, 0x26];
const IN_SUBSCRIBE: &[u8] = &[0x0B, 0x26];
const IN_UNSUBSCRIBE: &[u8] = &[0x26];
const IN_DISCONNECT: &[u8] = &[0x11, 0x1F, 0x26];

fn in_will(properties: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    wire::put_length(&mut rest, properties.len());
    rest.extend_from_slice(properties);
    rest.extend(text(TOPIC.as_bytes()));
    rest.extend(text(b"will"));
    connect(Version::V5, 0x06, &[], &rest)
}

/// A packet with these properties.
type Make = fn(&[u8]) -> Vec<u8>;

/// Packets after CONNECT that carry properties, and what they may carry.
const AFTER_CONNECT: [(&str, &[u8], Make); 5] = [
    ("PUBLISH", IN_PUBLISH, |properties| publish(TOPIC, properties)),
    ("PUBREL", IN_PUBREL, |properties| with_properties(0x62, &[0, 1, 0], properties, &[])),
    ("SUBSCRIBE", IN_SUBSCRIBE, |properties| with_properties(0x82, &[0, 1], properties, b"\x00\x01a\x01")),
    ("UNSUBSCRIBE", IN_UNSUBSCRIBE, |properties| with_properties(0xA2, &[0, 1], properties, b"\x00\x01a")),
    ("DISCONNECT", IN_DISCONNECT, |properties| with_properties(0xE0, &[0], properties, &[])),
];

#[test]
fn a_property_on_a_packet_that_cannot_have_it_ends_the_connection() {
    for (packet, allowed, make) in AFTER_CONNECT {
        for (identifier, property) in every_property() {
            if allowed.contains(&identifier) {
                continue;
            }
            // PUBLISH has a Subscription Identifier when a server sends it: that is an error of the protocol, not of the
            // form.
            let reason = if (packet, identifier) == ("PUBLISH", 0x0B) { PROTOCOL_ERROR } else { MALFORMED };
            assert_ends(Version::V5, &make(&property), reason, &format!("{identifier:#04x} in {packet}"));
        }
        assert_ends(Version::V5, &make(&[0x7F, 0]), MALFORMED, &format!("an unknown one in {packet}"));
    }
}

#[test]
fn a_property_that_connect_or_will_cannot_have_is_refused() {
    for (identifier, property) in every_property() {
        if !IN_CONNECT.contains(&identifier) {
            let what = format!("{identifier:#04x} in CONNECT");
            assert_refused(Version::V5, &connect(Version::V5, 0x02, &property, &[]), MALFORMED, &what);
        }
        if !IN_WILL.contains(&identifier) {
            let what = format!("{identifier:#04x} in a Will");
            assert_refused(Version::V5, &in_will(&property), MALFORMED, &what);
        }
    }
}

#[test]
fn a_property_that_comes_twice_ends_the_connection() {
    for (identifier, property) in every_property() {
        let twice = [&property[..], &property].concat();
        for (packet, allowed, make) in AFTER_CONNECT {
            if !allowed.contains(&identifier) || (packet == "DISCONNECT" && identifier == 0x11) {
                continue;
            }
            let what = format!("{identifier:#04x} twice in {packet}");
            if identifier != 0x26 {
                assert_ends(Version::V5, &make(&twice), PROTOCOL_ERROR, &what);
            } else if packet != "DISCONNECT" {
                let mut raw = client(Version::V5);
                raw.send(&make(&twice));
                let answer = raw.packet();
                assert!(!matches!(answer, Packet::Disconnect { .. }), "user properties may: {answer:?}");
            }
        }
        if identifier != 0x26 && IN_CONNECT.contains(&identifier) {
            let what = format!("{identifier:#04x} twice in CONNECT");
            assert_refused(Version::V5, &connect(Version::V5, 0x02, &twice, &[]), PROTOCOL_ERROR, &what);
        }
        if identifier != 0x26 && IN_WILL.contains(&identifier) {
            let what = format!("{identifier:#04x} twice in a Will");
            assert_refused(Version::V5, &in_will(&twice), PROTOCOL_ERROR, &what);
        }
    }
    // A session that CONNECT kept may be given another interval, once.
    let interval = [0x11, 0, 0, 0, 60];
    let mut raw = penstock_e2e::raw::Raw::open_as(super::mqtt(), Version::V5);
    raw.send(&connect(Version::V5, 0x02, &interval, &[]));
    assert!(matches!(raw.packet(), Packet::ConnAck { code: 0, .. }));
    raw.send(&with_properties(0xE0, &[0], &interval.repeat(2), &[]));
    super::assert_ended(&mut raw, Version::V5, PROTOCOL_ERROR, "0x11 twice in DISCONNECT");
}

#[test]
fn a_property_value_out_of_its_range_ends_the_connection() {
    for (what, property) in [
        ("Payload Format Indicator 2", vec![0x01, 2]),
        ("a Response Topic with a wildcard", [&[0x08][..], &text(b"a/+")].concat()),
        ("an empty Response Topic", [&[0x08][..], &text(b"")].concat()),
    ] {
        assert_ends(Version::V5, &publish(TOPIC, &property), PROTOCOL_ERROR, what);
        assert_refused(Version::V5, &in_will(&property), PROTOCOL_ERROR, what);
    }
    let subscribe = with_properties(0x82, &[0, 1], &[0x0B, 0], b"\x00\x01a\x01");
    assert_ends(Version::V5, &subscribe, PROTOCOL_ERROR, "Subscription Identifier 0");
    for (what, property) in [
        ("Receive Maximum 0", &[0x21, 0, 0][..]),
        ("Maximum Packet Size 0", &[0x27, 0, 0, 0, 0]),
        ("Request Problem Information 2", &[0x17, 2]),
        ("Request Response Information 2", &[0x19, 2]),
        ("Authentication Data without a method", &[0x16, 0, 1, 9]),
    ] {
        assert_refused(Version::V5, &connect(Version::V5, 0x02, property, &[]), PROTOCOL_ERROR, what);
    }
}

#[test]
fn properties_longer_than_their_packet_end_the_connection() {
    for (_, _, make) in AFTER_CONNECT {
        let mut bytes = make(&user_property("name", "value"));
        let place = bytes.iter().position(|&byte| byte == 0x26).expect("the user property") - 1;
        bytes[place] = 0x7F;
        assert_ends(Version::V5, &bytes, MALFORMED, &format!("{:#04x}", bytes[0]));
    }
    assert_serves(&mut client(Version::V5), "others are served");
}

//! SUBSCRIBE, UNSUBSCRIBE and PINGREQ (§3.8 to §3.12): nothing is delivered, and each is answered by the book.

use penstock_e2e::load::wire::{self, Packet, Version};

use super::{BOTH, MALFORMED, PROTOCOL_ERROR, assert_ends, assert_serves, client, text, with_properties};

/// A SUBSCRIBE to filters with options.
fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend(text(filter.as_bytes()));
        body.push(*options);
    }
    wire::packet(0x82, &body)
}

fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(text(filter.as_bytes()));
    }
    wire::packet(0xA2, &body)
}

#[test]
fn each_subscription_gets_its_failure_code_in_order() {
    let filters =
        [("a/b", 2), ("a/#", 1), ("$share/g/a", 0), ("a#", 1), ("+", 0), ("a/b", 0), ("$share/g", 0)];
    let mut five = client(Version::V5);
    five.send(&subscribe(Version::V5, 300, &filters));
    let codes = vec![0x83, 0xA2, 0x9E, 0x8F, 0xA2, 0x83, 0x8F];
    assert_eq!(five.packet(), Packet::SubAck { id: 300, codes });
    five.send(&with_properties(0x82, &[0, 7], &[0x0B, 1], &[&text(b"a")[..], &[0]].concat()));
    assert_eq!(five.packet(), Packet::SubAck { id: 7, codes: vec![0xA1] }, "with an identifier");
    assert_serves(&mut five, "a refused subscription is no end");
    let mut three = client(Version::V311);
    three.send(&subscribe(Version::V311, 300, &filters));
    assert_eq!(three.packet(), Packet::SubAck { id: 300, codes: vec![0x80; 7] });
    assert_serves(&mut three, "a refused subscription is no end");
}

#[test]
fn subscription_options_that_do_not_exist_end_the_connection() {
    for (what, options, reason) in [
        ("QoS 3", 0x03, PROTOCOL_ERROR),
        ("Retain Handling 3", 0x30, PROTOCOL_ERROR),
        ("a reserved bit", 0x40, MALFORMED),
        ("the other", 0x80, MALFORMED),
    ] {
        assert_ends(Version::V5, &subscribe(Version::V5, 1, &[("a", options)]), reason, what);
    }
    let local = subscribe(Version::V5, 1, &[("$share/g/a", 0x04)]);
    assert_ends(Version::V5, &local, PROTOCOL_ERROR, "No Local on a shared subscription");
    let mut five = client(Version::V5);
    five.send(&subscribe(Version::V5, 1, &[("a", 0x2D)]));
    assert_eq!(five.packet(), Packet::SubAck { id: 1, codes: vec![0x83] }, "all that MQTT 5 knows");
    for options in [0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        let bytes = subscribe(Version::V311, 1, &[("a", options)]);
        assert_ends(Version::V311, &bytes, MALFORMED, &format!("{options:#04x}"));
    }
}

#[test]
fn a_subscribe_or_unsubscribe_without_a_filter_ends_the_connection() {
    for version in BOTH {
        assert_ends(version, &subscribe(version, 1, &[]), PROTOCOL_ERROR, "SUBSCRIBE");
        assert_ends(version, &unsubscribe(version, 1, &[]), PROTOCOL_ERROR, "UNSUBSCRIBE");
        assert_ends(version, &subscribe(version, 1, &[("", 0)]), MALFORMED, "SUBSCRIBE to nothing");
        assert_ends(version, &unsubscribe(version, 1, &[""]), MALFORMED, "UNSUBSCRIBE from nothing");
    }
}

#[test]
fn an_unsubscribe_is_answered_though_there_is_no_subscription() {
    for version in BOTH {
        let mut raw = client(version);
        raw.send(&unsubscribe(version, 9, &["a/b", "a/#"]));
        let expected: &[u8] =
            if version == Version::V5 { &[0xB0, 5, 0, 9, 0, 0x11, 0x11] } else { &[0xB0, 2, 0, 9] };
        assert_eq!(raw.bytes(expected.len()), expected);
        assert_serves(&mut raw, "after it");
    }
}

#[test]
fn a_pingreq_is_answered() {
    for version in BOTH {
        let mut raw = client(version);
        raw.send(&wire::PINGREQ.repeat(3));
        assert_eq!(raw.bytes(6), [0xD0, 0, 0xD0, 0, 0xD0, 0]);
    }
}

//! DISCONNECT (§3.14), and what becomes of a Will.

use penstock_e2e::load::wire::{self, Connect, Packet, Publish, Version};
use penstock_e2e::raw::{ANSWER, Raw};
use penstock_e2e::until::{SOON, until};

use super::{
    BOTH, MALFORMED, PROTOCOL_ERROR, assert_ended, assert_ends, client, client_id, mqtt, stored, topic_of,
    with_properties,
};

/// A client whose Will goes to the key of its name.
fn with_will(version: Version, properties: &[u8]) -> (Raw, String) {
    let name = client_id();
    let mut connect = Connect::new(version, &name);
    connect.properties = properties.to_vec();
    connect.will = Some((topic_of(&name), b"will".to_vec(), 1));
    let (raw, packet) = Raw::mqtt_with(mqtt(), &connect);
    assert!(matches!(packet, Packet::ConnAck { code: 0, .. }), "{packet:?}");
    (raw, name)
}

#[track_caller]
fn assert_will_comes(name: &str, what: &str) {
    until(&format!("the Will ({what})"), SOON, || (stored(name).len() == 1).then_some(()));
}

/// Nothing comes though another client's Will, lost later, has come.
#[track_caller]
fn assert_will_does_not_come(name: &str, what: &str) {
    let (raw, other) = with_will(Version::V5, &[]);
    drop(raw);
    assert_will_comes(&other, "the one to compare with");
    assert_eq!(stored(name).len(), 0, "{what}");
}

#[test]
fn a_normal_disconnect_takes_the_will_back() {
    for version in BOTH {
        let (mut raw, name) = with_will(version, &[]);
        raw.send(&wire::DISCONNECT);
        assert_eq!(raw.packets_until_closed(ANSWER), [], "the server closes, without an answer");
        assert_will_does_not_come(&name, "normal");
    }
    let (mut raw, name) = with_will(Version::V5, &[]);
    raw.send(&wire::packet(0xE0, &[0x00]));
    assert_eq!(raw.packets_until_closed(ANSWER), []);
    assert_will_does_not_come(&name, "normal, spelled out");
}

#[test]
fn any_other_disconnect_leaves_the_will() {
    for reason in [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let (mut raw, name) = with_will(Version::V5, &[]);
        raw.send(&wire::packet(0xE0, &[reason]));
        assert_eq!(raw.packets_until_closed(ANSWER), [], "{reason:#04x}");
        assert_will_comes(&name, &format!("{reason:#04x}"));
    }
}

#[test]
fn a_will_comes_when_the_connection_is_lost_in_any_other_way() {
    for version in BOTH {
        let (raw, name) = with_will(version, &[]);
        drop(raw);
        assert_will_comes(&name, "closed by the client");
        let (mut raw, name) = with_will(version, &[]);
        raw.send(&wire::packet(0x36, &[]));
        assert_ended(&mut raw, version, MALFORMED, "malformed");
        assert_will_comes(&name, "closed for an error");
        let (_first, name) = with_will(version, &[]);
        let _second = Raw::mqtt(mqtt(), version, &name);
        assert_will_comes(&name, "taken over");
    }
}

#[test]
fn a_disconnect_reason_that_no_client_has_ends_the_connection() {
    for reason in [0x01, 0x02, 0x03, 0x05, 0x7F, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x9A, 0xA2, 0xFF] {
        let bytes = wire::packet(0xE0, &[reason]);
        assert_ends(Version::V5, &bytes, PROTOCOL_ERROR, &format!("{reason:#04x}"));
    }
}

#[test]
fn a_session_that_connect_did_not_keep_cannot_be_kept_by_disconnect() {
    let interval = |seconds: u32| [&[0x11][..], &seconds.to_be_bytes()].concat();
    let disconnect = |seconds| with_properties(0xE0, &[0], &interval(seconds), &[]);
    for connect in [vec![], interval(0)] {
        let (mut raw, name) = with_will(Version::V5, &connect);
        raw.send(&disconnect(60));
        assert_ended(&mut raw, Version::V5, PROTOCOL_ERROR, "0, then 60");
        assert_will_comes(&name, "it was no DISCONNECT");
        let (mut raw, _) = with_will(Version::V5, &connect);
        raw.send(&disconnect(0));
        assert_eq!(raw.packets_until_closed(ANSWER), [], "0, then 0");
    }
    for seconds in [0, 30, 7_200] {
        let (mut raw, name) = with_will(Version::V5, &interval(3_600));
        raw.send(&disconnect(seconds));
        assert_eq!(raw.packets_until_closed(ANSWER), [], "3600, then {seconds}");
        assert_will_does_not_come(&name, "a normal end");
    }
}

#[test]
fn nothing_after_a_disconnect_is_taken() {
    for version in BOTH {
        let name = client_id();
        let mut raw = client(version);
        let publish = Publish::new(version, &topic_of(&name), b"late", 1).encode();
        raw.send(&[&wire::DISCONNECT[..], &publish, &wire::PINGREQ].concat());
        assert_eq!(raw.packets_until_closed(ANSWER), []);
        // What comes later to the same key is the first there.
        let mut other = client(version);
        other.send(&Publish::new(version, &topic_of(&name), b"other", 1).encode());
        assert!(matches!(other.packet(), Packet::PubAck { reason: 0, .. }));
        assert_eq!(stored(&name).iter().map(|record| record.text()).collect::<Vec<_>>(), ["other"]);
    }
}

#[test]
fn the_servers_disconnect_is_its_last_packet_and_has_no_session_expiry() {
    let mut raw = client(Version::V5);
    raw.send(&[&wire::PINGREQ[..], &[0x00, 0x00], &wire::PINGREQ].concat());
    assert_eq!(raw.bytes(6), [0xD0, 0, 0xE0, 2, MALFORMED, 0], "no properties");
    assert!(raw.is_closed_within(ANSWER));
}

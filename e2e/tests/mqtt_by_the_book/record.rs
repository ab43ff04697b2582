//! What MQTT 5 says of a message is on its record, unaltered (§3.3.2.3), and a Will's likewise.

use penstock_e2e::kafka::Record;
use penstock_e2e::load::wire::{self, Packet, Publish, Version, user_property};
use penstock_e2e::raw::Raw;
use penstock_e2e::until::{SOON, until};

use super::{BOOK, BOTH, assert_refused, client, client_id, connect, mqtt, stored, text, topic_of};

/// Everything that can be said of a message.
fn everything() -> Vec<u8> {
    [
        vec![0x01, 1],
        vec![0x02, 0, 0, 0x0E, 0x10],
        [&[0x03][..], &text(b"text/plain; charset=utf-8")].concat(),
        [&[0x08][..], &text("answers/\u{e4}".as_bytes())].concat(),
        [&[0x09][..], &text(b"\x00\xff\x7f")].concat(),
        user_property("site", "north"),
        user_property("ce-id", "reading-7"),
        user_property("site", "south"),
        user_property("", ""),
        user_property("mqtt-retain", "forged"),
        user_property("ce-partitionkey", "k"),
    ]
    .concat()
}

#[track_caller]
fn assert_everything(record: &Record, expiry: std::ops::RangeInclusive<u32>) {
    for (name, value) in [
        ("mqtt-payload-format-indicator", "1"),
        ("content-type", "text/plain; charset=utf-8"),
        ("mqtt-response-topic", "answers/\u{e4}"),
        ("ce_id", "reading-7"),
        ("ce_partitionkey", "k"),
    ] {
        assert_eq!(record.header(name), Some(value), "{name} in {record:?}");
    }
    let left: u32 = record.header("mqtt-message-expiry-interval").expect("an expiry").parse().unwrap();
    assert!(expiry.contains(&left), "{left} seconds are left");
    let values = |name: &str| -> Vec<&[u8]> {
        record.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| &value[..]).collect()
    };
    assert_eq!(values("mqtt-correlation-data"), [b"\x00\xff\x7f"]);
    assert_eq!(values("site"), [&b"north"[..], b"south"], "in their order");
    assert_eq!(values(""), [b""]);
    assert_eq!(values("mqtt-retain"), [&b"1"[..]], "ours alone");
}

#[test]
fn everything_that_a_publish_says_is_on_its_record() {
    let name = client_id();
    let properties = everything();
    let mut bytes =
        Publish { properties: &properties, ..Publish::new(Version::V5, &topic_of(&name), b"text", 1) }
            .encode();
    bytes[0] |= 0x01;
    let mut raw = client(Version::V5);
    raw.send(&bytes);
    assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }));
    let records = stored(&name);
    assert_eq!(records.len(), 1);
    assert_everything(&records[0], 3_598..=3_600);
}

#[test]
fn everything_that_a_will_says_is_on_its_record() {
    let name = client_id();
    let properties = everything();
    let mut rest = Vec::new();
    wire::put_length(&mut rest, properties.len());
    rest.extend([&properties[..], &text(topic_of(&name).as_bytes()), &text(b"will")].concat());
    let mut raw = Raw::open_as(mqtt(), Version::V5);
    raw.send(&connect(Version::V5, 0x2E, &[], &rest));
    assert!(matches!(raw.packet(), Packet::ConnAck { code: 0, .. }));
    drop(raw);
    let records = until("the Will", SOON, || Some(stored(&name)).filter(|records| !records.is_empty()));
    assert_everything(&records[0], 3_600..=3_600);
    assert_eq!(records[0].text(), "will");
}

#[test]
fn retain_is_kept_as_a_header_and_has_no_other_effect() {
    for version in BOTH {
        let name = client_id();
        let mut raw = client(version);
        for (retain, payload) in [(1, &b"state"[..]), (0, b"event"), (1, b"")] {
            let mut bytes = Publish::new(version, &topic_of(&name), payload, 1).encode();
            bytes[0] |= retain;
            raw.send(&bytes);
            assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }));
        }
        let records = stored(&name);
        let kept: Vec<_> = records.iter().map(|record| record.header("mqtt-retain")).collect();
        assert_eq!(kept, [Some("1"), None, Some("1")]);
    }
}

#[test]
fn a_payload_that_is_not_the_text_that_it_says_it_is_is_refused() {
    let name = client_id();
    let send = |raw: &mut Raw, qos, format, payload| {
        let topic = topic_of(&name);
        let properties = [0x01, format];
        let publish =
            Publish { qos, properties: &properties, ..Publish::new(Version::V5, &topic, payload, 1) };
        raw.send(&publish.encode());
    };
    let mut raw = client(Version::V5);
    let not_text = b"caf\xe9";
    send(&mut raw, 1, 1, not_text);
    assert!(matches!(raw.packet(), Packet::PubAck { reason: 0x99, .. }));
    let dropped = BOOK.sidecar.total("dropped");
    send(&mut raw, 0, 1, not_text);
    send(&mut raw, 1, 0, not_text);
    assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }), "bytes are bytes");
    send(&mut raw, 1, 1, "caf\u{e9}\0".as_bytes());
    assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }), "U+0000 may be in a payload");
    assert_eq!(BOOK.sidecar.total("dropped"), dropped + 1);
    let records = stored(&name);
    assert_eq!(
        records.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(),
        [&not_text[..], "caf\u{e9}\0".as_bytes()]
    );
    let will = [&[2, 0x01, 1][..], &text(topic_of(&name).as_bytes()), &text(not_text)].concat();
    assert_refused(Version::V5, &connect(Version::V5, 0x06, &[], &will), 0x99, "a Will");
}

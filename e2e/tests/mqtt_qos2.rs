//! QoS 2 on one connection: PUBREC after Kafka has the message, one record for every identifier until its PUBREL, and an
//! identifier that is free again after PUBCOMP ([MQTT-4.3.3-8] to [MQTT-4.3.3-13]).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use penstock_e2e::device::{self, Device, unknown};
use penstock_e2e::load::wire::{Connect, Packet, Properties, Publish, Version, pubrel, user_property};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::process::shared;
use penstock_e2e::raw::ANSWER;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline};
use serde_json::json;

const BOTH: [Version; 2] = [Version::V311, Version::V5];

/// One pod for all tests that only talk to it.
static POD: LazyLock<Pods<'static>> =
    LazyLock::new(|| shared(|| Pods::one(Kafka::shared(), |pipeline| pipeline)));

fn device(version: Version) -> (Device, String) {
    let name = client_id("two");
    (Device::clean(POD[0].mqtt(), version, &name), name)
}

/// The incarnation and the number of an id.
#[track_caller]
fn parts(id: &str) -> (String, u64) {
    let (incarnation, number) = id.split_once('-').unwrap_or_else(|| panic!("not of a session: {id}"));
    let digits = incarnation.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert!(incarnation.len() == 16 && digits, "{id}");
    (incarnation.to_owned(), number.parse().unwrap())
}

#[test]
fn pubrec_comes_after_the_record_is_stored_and_carries_its_receipt() {
    for version in BOTH {
        let (mut device, name) = device(version);
        for number in 1..=3 {
            let receipt = device.publish(7, &format!("message {number}"));
            let records = POD.stored(&name);
            assert_eq!(records.len(), number, "{version:?}: stored before PUBREC");
            let record = &records[number - 1];
            assert_eq!(record.text(), format!("message {number}"));
            if let Some(receipt) = receipt {
                assert_eq!(record.header("ce_id"), Some(&*receipt.id));
                assert_eq!((&*record.topic, record.partition), (&*receipt.topic, receipt.partition));
                assert_eq!(receipt.offset, Some(record.offset));
            }
            assert_eq!(device.release(7), 0, "{version:?}");
        }
        device.assert_quiet();
    }
}

#[test]
fn connack_names_no_maximum_where_qos_2_is_served() {
    // §3.2.2.3.4: absent means 2.
    let (device, _) = device(Version::V5);
    assert_eq!(device.connack.number(0x24), None);
}

#[test]
fn a_receipt_is_left_out_of_pubrec_when_it_is_not_wanted_or_does_not_fit() {
    let request_problem_information_0 = vec![0x17, 0];
    let maximum_packet_size_20 = [&[0x27][..], &20_u32.to_be_bytes()].concat();
    for properties in [request_problem_information_0, maximum_packet_size_20] {
        let name = client_id("terse");
        let connect = Connect { properties, ..Connect::new(Version::V5, &name) };
        let mut device = Device::connect(POD[0].mqtt(), &connect);
        for dup in [false, true] {
            let publish = Publish { qos: 2, dup, ..Publish::new(Version::V5, "v1/p/d/telemetry", b"x", 5) };
            device.raw.send(&publish.encode());
            let packet = device.raw.packet();
            let expected = Packet::PubRec { id: 5, reason: 0, properties: Properties::default() };
            assert_eq!(packet, expected);
        }
        assert_eq!(device.release(5), 0);
    }
}

#[test]
fn a_handshake_goes_on_when_its_message_has_expired() {
    let (mut device, name) = device(Version::V5);
    let topic = device::topic(&name);
    let mut send = |dup, left: u32| {
        let properties = [&[0x02][..], &left.to_be_bytes()].concat();
        let publish =
            Publish { qos: 2, dup, properties: &properties, ..Publish::new(Version::V5, &topic, b"x", 1) };
        device.raw.send(&publish.encode());
        device.pubrec(1)
    };
    let first = send(false, 1);
    let sent = Instant::now();
    until("it has expired", SOON, || (sent.elapsed() > Duration::from_millis(1_500)).then_some(()));
    // What is left of its time is not what it says.
    assert_eq!(send(true, 1), first);
    assert_eq!(send(true, 7), first);
    assert_eq!(device.release(1), 0);
    assert_eq!(POD.ids(&name).len(), 1);
}

#[test]
fn ids_are_the_incarnation_of_the_session_and_a_number_that_counts() {
    let mut incarnations = HashSet::new();
    for version in BOTH {
        for _ in 0..2 {
            let (mut device, name) = device(version);
            for id in [1, 9, 65_535] {
                device.publish(id, &format!("message {id}"));
                device.release(id);
            }
            let ids: Vec<_> = POD.ids(&name).iter().map(|id| parts(id)).collect();
            assert_eq!(ids.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 2, 3]);
            let own: HashSet<_> = ids.into_iter().map(|(incarnation, _)| incarnation).collect();
            assert_eq!(own.len(), 1);
            assert!(own.into_iter().all(|incarnation| incarnations.insert(incarnation)), "one each");
        }
    }
}

#[test]
fn an_id_that_the_sender_gives_is_kept_through_repetitions() {
    let (mut device, name) = device(Version::V5);
    let properties = user_property("ce-id", "reading-7");
    let topic = device::topic(&name);
    for dup in [false, true] {
        let publish =
            Publish { qos: 2, dup, properties: &properties, ..Publish::new(Version::V5, &topic, b"x", 1) };
        device.raw.send(&publish.encode());
        assert_eq!(device.pubrec(1).unwrap().id, "reading-7");
    }
    assert_eq!(POD.ids(&name), ["reading-7"]);
}

#[test]
fn a_repetition_is_answered_from_its_receipt_and_stored_once() {
    let pods = Pods::one(Kafka::shared(), |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("again");
        let mut device = Device::clean(pods[0].mqtt(), version, &name);
        let first = device.publish(5, "same");
        for _ in 0..3 {
            assert_eq!(device.publish_again(5, "same"), first);
        }
        assert_eq!(device.release(5), 0);
        device.assert_quiet();
        assert_eq!(pods.stored(&name).len(), 1, "{version:?}");
    }
    let ledger = pods[0].assert_ledger_balances();
    let total = &ledger["total"];
    assert_eq!((total["acknowledged"].as_u64(), total["duplicate"].as_u64()), (Some(2), Some(6)), "{total}");
}

#[test]
fn another_message_under_an_unreleased_identifier_is_stored_on_its_own() {
    let pods = Pods::one(Kafka::shared(), |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("lost");
        let mut device = Device::clean(pods[0].mqtt(), version, &name);
        let before = pods[0].metric_sum("penstock_qos2_replaced_total");
        device.publish(9, "one");
        // A device that lost its state: without DUP it is never the same message, and with DUP only if it looks the same.
        device.publish(9, "one");
        device.publish_again(9, "two");
        device.publish(9, "three");
        device.publish_again(9, "three");
        assert_eq!(device.release(9), 0);
        assert_eq!(device.release(9), unknown(version));
        let texts: Vec<_> = pods.stored(&name).iter().map(|record| record.text().to_owned()).collect();
        assert_eq!(texts, ["one", "one", "two", "three"], "{version:?}");
        let ids: HashSet<_> = pods.ids(&name).into_iter().collect();
        assert_eq!(ids.len(), 4, "never two messages under one id: {ids:?}");
        let replaced = pods[0].metric_sum("penstock_qos2_replaced_total") - before;
        assert!((replaced - 3.0).abs() < 0.5, "{replaced}");
    }
}

#[test]
fn another_topic_or_property_is_another_message_and_an_alias_is_not() {
    let (mut device, name) = device(Version::V5);
    let topic = device::topic(&name);
    let content_type = [&[0x03][..], b"\x00\x04text"].concat();
    let alias = [0x23, 0, 1];
    let mut send = |topic: &str, properties: &[u8]| {
        let publish = Publish { qos: 2, dup: true, properties, ..Publish::new(Version::V5, topic, b"x", 3) };
        device.raw.send(&publish.encode());
        device.pubrec(3).unwrap().id
    };
    let plain = send(&topic, &[]);
    assert_eq!(send(&topic, &alias), plain, "an alias is set and used");
    assert_eq!(send("", &alias), plain);
    let typed = send(&topic, &content_type);
    assert_ne!(typed, plain);
    let elsewhere = send("v1/q/other/telemetry", &content_type);
    assert_ne!(elsewhere, typed);
    assert_eq!(POD.ids(&name), [plain, typed]);
}

#[test]
fn a_pubrel_ends_the_handshake_and_a_second_one_finds_none() {
    for version in BOTH {
        let (mut device, name) = device(version);
        assert_eq!(device.release(4), unknown(version), "never published");
        device.publish(4, "x");
        assert_eq!(device.release(4), 0);
        assert_eq!(device.release(4), unknown(version));
        // [MQTT-4.3.3-12]: after PUBCOMP it is a new message, whatever DUP says.
        device.publish_again(4, "x");
        assert_eq!(device.release(4), 0);
        assert_eq!(POD.ids(&name).iter().collect::<HashSet<_>>().len(), 2, "{version:?}");
    }
}

#[test]
fn handshakes_that_no_session_keeps_end_with_their_connection() {
    for version in BOTH {
        let (mut before, name) = device(version);
        assert!(!before.session_present);
        before.publish(1, "x");
        drop(before);
        let mut after = Device::clean(POD[0].mqtt(), version, &name);
        assert!(!after.session_present);
        assert_eq!(after.release(1), unknown(version));
        after.publish_again(1, "x");
        let incarnations: HashSet<_> = POD.ids(&name).iter().map(|id| parts(id).0).collect();
        assert_eq!(incarnations.len(), 2, "{version:?}: a new message of a new session");
    }
}

/// A pod with a schema, which refuses what it does not allow, and where wanted keeps it as a dead letter.
fn strict(dead_letters: Option<&str>) -> Pods<'static> {
    let schema = ("configmaps/schemas/telemetry.json", r#"{"type": "number"}"#.to_owned());
    Pods::start(Kafka::shared(), 1, &[schema], |pipeline| {
        let reference = json!({"name": "schemas", "key": "telemetry.json"});
        let pipeline = pipeline.set("/spec/routes/0/validation/jsonSchema/configMap", reference);
        dead_letters.into_iter().fold(pipeline, Pipeline::dead_letter)
    })
}

#[test]
fn an_error_pubrec_frees_its_identifier_on_5_and_3_is_closed() {
    let pods = strict(None);
    let name = client_id("refused");
    let mut five = Device::clean(pods[0].mqtt(), Version::V5, &name);
    for (topic, payload, expected) in
        [("nobody/asked", "1", 0x90), ("v1//d/telemetry", "1", 0x90), (&device::topic(&name), "{", 0x99)]
    {
        for _ in 0..2 {
            let publish = Publish { qos: 2, ..Publish::new(Version::V5, topic, payload.as_bytes(), 8) };
            five.raw.send(&publish.encode());
            let packet = five.raw.packet();
            assert!(
                matches!(&packet, Packet::PubRec { id: 8, reason, .. } if *reason == expected),
                "{topic}: {packet:?}"
            );
        }
        assert_eq!(five.release(8), 0x92, "an error PUBREC is the end of it");
    }
    five.publish_again(8, "1");
    assert_eq!(five.release(8), 0);
    let mut three = Device::clean(pods[0].mqtt(), Version::V311, "three");
    let publish = Publish { qos: 2, ..Publish::new(Version::V311, "nobody/asked", b"1", 1) };
    three.raw.send(&publish.encode());
    assert_eq!(three.raw.packets_until_closed(ANSWER), [], "3.1.1 has no negative PUBREC");
    // A message is counted when its answer has been written, which a client may see before.
    until("nothing is in flight", SOON, || (pods[0].total("inFlight") == 0).then_some(()));
    let ledger = pods[0].assert_ledger_balances();
    let total = &ledger["total"];
    assert_eq!((total["acknowledged"].as_u64(), total["refused"].as_u64()), (Some(1), Some(7)), "{total}");
    assert_eq!(pods.stored(&name).len(), 1);
}

#[test]
fn a_dead_letter_is_stored_once_and_answered_with_pubrec() {
    let dead = Kafka::shared().create_topic("dead", 1);
    let pods = strict(Some(&dead));
    for version in BOTH {
        let name = client_id("letter");
        let mut device = Device::clean(pods[0].mqtt(), version, &name);
        let receipt = device.publish(2, "{");
        assert!(receipt.is_none_or(|receipt| receipt.topic == dead));
        device.publish_again(2, "{");
        assert_eq!(device.release(2), 0);
        let letters = Kafka::shared().read(&dead);
        let subject = device::topic(&name);
        let own = letters.iter().filter(|letter| letter.header("ce_subject") == Some(&subject));
        assert_eq!(own.count(), 1, "{version:?}");
    }
}

#[test]
fn answers_leave_in_the_order_of_arrival_whatever_their_qos() {
    for version in BOTH {
        let (mut device, name) = device(version);
        let mut bytes = Vec::new();
        for id in 1..=600_u16 {
            let topic = format!("v1/{name}/d{}/telemetry", id % 37);
            let qos = u8::try_from(id % 3).unwrap();
            bytes.extend(Publish { qos, ..Publish::new(version, &topic, b"x", id) }.encode());
        }
        device.raw.send(&bytes);
        for expected in (1..=600_u16).filter(|id| id % 3 != 0) {
            let packet = device.raw.packet();
            let answered = match &packet {
                Packet::PubAck { id, reason: 0, .. } if expected % 3 == 1 => *id,
                Packet::PubRec { id, reason: 0, .. } if expected % 3 == 2 => *id,
                _ => panic!("{packet:?} at {expected}"),
            };
            assert_eq!(answered, expected);
        }
        let releases: Vec<u8> = (1..=600_u16).filter(|id| id % 3 == 2).flat_map(pubrel).collect();
        device.raw.send(&releases);
        for expected in (1..=600_u16).filter(|id| id % 3 == 2) {
            let packet = device.raw.packet();
            assert!(matches!(packet, Packet::PubComp { id, reason: 0, .. } if id == expected), "{packet:?}");
        }
        let mut records = Kafka::shared().read(&POD.topic);
        records.retain(|record| record.key().is_some_and(|key| key.starts_with(&name)));
        assert_eq!(records.len(), 600, "{version:?}");
    }
}

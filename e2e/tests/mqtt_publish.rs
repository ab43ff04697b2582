//! What a PUBLISH gets: its acknowledgement after Kafka has it, in order, with the place where it was stored.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::HashSet;
use std::time::Duration;

use penstock_e2e::clients::{mosquitto_pub, paho_publish};
use penstock_e2e::load::wire::{Connect, PINGREQ, Packet, Publish, Version, user_property};
use penstock_e2e::raw::{ANSWER, Next, Raw};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const TOPIC: &str = "v1/p/d/telemetry";

fn sidecar(purpose: &str) -> (Sidecar, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 6);
    (Sidecar::run(&Pipeline::telemetry(kafka, &topic)).start(), topic)
}

#[test]
fn real_clients_get_their_acknowledgements_and_receipts() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("clients");
    for version in [Version::V311, Version::V5] {
        let output = mosquitto_pub(sidecar.mqtt(), version, TOPIC, &["-m", "from mosquitto_pub"]);
        assert!(output.status.success(), "{output:?}");
        let answers = paho_publish(sidecar.mqtt(), version, TOPIC, &format!("{version:?}"), 200);
        assert_eq!(answers["acknowledged"].as_array().unwrap().len(), 200, "{answers}");
        if version == Version::V5 {
            for acknowledged in answers["acknowledged"].as_array().unwrap() {
                assert_eq!(acknowledged["receipt"]["topic"], topic.as_str(), "{acknowledged}");
            }
        }
    }
    let records = kafka.read(&topic);
    assert_eq!(records.len(), 402);
    assert!(records.iter().all(|record| record.key() == Some("p/d")));
    assert_eq!(sidecar.assert_ledger_balances()["total"]["acknowledged"], 402);
}

#[test]
fn pubacks_come_in_the_order_of_publishes_whatever_their_partitions() {
    let (sidecar, topic) = sidecar("order");
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V5, "pipelined");
    let mut bytes = Vec::new();
    for id in 1..=500_u16 {
        let address = format!("v1/p/d{}/telemetry", id % 37);
        bytes.extend(Publish::new(Version::V5, &address, format!("{id}").as_bytes(), id).encode());
    }
    raw.send(&bytes);
    let mut places = HashSet::new();
    let mut partitions = HashSet::new();
    for expected in 1..=500_u16 {
        let packet = raw.packet();
        let Packet::PubAck { id, reason: 0, properties } = packet else { panic!("{packet:?}") };
        assert_eq!(id, expected);
        assert_eq!(properties.user("topic"), Some(topic.as_str()));
        let partition = properties.user("partition").unwrap().to_owned();
        partitions.insert(partition.clone());
        assert!(
            places.insert((partition, properties.user("offset").unwrap().to_owned())),
            "a place given twice"
        );
    }
    assert!(partitions.len() > 2, "{partitions:?}");
}

#[test]
fn a_receipt_is_left_out_when_it_is_not_wanted_or_does_not_fit() {
    let (sidecar, _) = sidecar("receipt");
    let request_problem_information_0 = vec![0x17, 0];
    let maximum_packet_size_20 = [&[0x27][..], &20_u32.to_be_bytes()].concat();
    for (properties, expected) in
        [(vec![], true), (request_problem_information_0, false), (maximum_packet_size_20, false)]
    {
        let mut connect = Connect::new(Version::V5, "receipts");
        connect.properties = properties;
        let (mut raw, _) = Raw::mqtt_with(sidecar.mqtt(), &connect);
        raw.send(&Publish::new(Version::V5, TOPIC, b"x", 5).encode());
        let packet = raw.packet();
        let Packet::PubAck { id: 5, reason: 0, properties } = packet else { panic!("{packet:?}") };
        assert_eq!(properties.user("offset").is_some(), expected);
    }
}

#[test]
fn user_properties_become_headers_and_reserved_ones_stay_ours() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("headers");
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V5, "headers");
    let properties = [
        user_property("site", "north"),
        user_property("ce-id", "reading-7"),
        user_property("ce_type", "forged"),
        user_property("ce-source", "/meters"),
        user_property("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        [&[0x03][..], b"\x00\x10application/json"].concat(),
    ]
    .concat();
    raw.send(
        &Publish { properties: &properties, ..Publish::new(Version::V5, TOPIC, b"\x00\xff{", 1) }.encode(),
    );
    let packet = raw.packet();
    let Packet::PubAck { reason: 0, properties, .. } = packet else { panic!("{packet:?}") };
    assert_eq!(properties.user("id"), Some("reading-7"));
    let records = kafka.read(&topic);
    let record = &records[0];
    assert_eq!(record.payload, b"\x00\xff{", "payloads are bytes");
    for (name, value) in [
        ("site", "north"),
        ("ce_id", "reading-7"),
        ("ce_type", "dev.penstock.message"),
        ("ce_subject", TOPIC),
        ("ce_source", "/e2e/telemetry/mqtt"),
        ("ce_sendersource", "/meters"),
        ("ce_specversion", "1.0"),
        ("content-type", "application/json"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(record.header(name), Some(value), "{name}");
    }
    assert_eq!(record.headers.iter().filter(|(name, _)| name == "ce_type").count(), 1);
}

#[test]
fn a_topic_alias_stands_for_its_topic() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("alias");
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V5, "alias");
    let alias = [0x23, 0, 2];
    for (id, topic) in [(1, "v1/p/a/telemetry"), (2, ""), (3, "v1/p/b/telemetry"), (4, "")] {
        raw.send(&Publish { properties: &alias, ..Publish::new(Version::V5, topic, b"x", id) }.encode());
        assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }));
    }
    let mut keys: Vec<_> = kafka.read(&topic).iter().map(|record| record.key().unwrap().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["p/a", "p/a", "p/b", "p/b"]);
}

#[test]
fn what_has_no_route_is_refused_or_closed() {
    let (sidecar, topic) = sidecar("noroute");
    let mut five = Raw::mqtt(sidecar.mqtt(), Version::V5, "five");
    for (id, address) in [(1, "elsewhere"), (2, "v1//d/telemetry"), (3, "v1/p/d/telemetry/more")] {
        five.send(&Publish::new(Version::V5, address, b"x", id).encode());
        let packet = five.packet();
        assert!(matches!(packet, Packet::PubAck { reason: 0x90, .. }), "{address}: {packet:?}");
    }
    five.send(&Publish::new(Version::V5, TOPIC, b"good", 4).encode());
    assert!(matches!(five.packet(), Packet::PubAck { id: 4, reason: 0, .. }), "the connection goes on");
    let mut three = Raw::mqtt(sidecar.mqtt(), Version::V311, "three");
    three.send(&Publish::new(Version::V311, "elsewhere", b"x", 1).encode());
    assert_eq!(three.next(ANSWER), Next::Closed, "3.1.1 has no negative PUBACK");
    assert_eq!(Kafka::shared().read(&topic).len(), 1);
    let total = sidecar.assert_ledger_balances()["total"].clone();
    assert_eq!((total["acknowledged"].as_u64(), total["refused"].as_u64()), (Some(1), Some(4)), "{total}");
}

#[test]
fn a_dead_letter_is_kept_with_its_reason_and_origin_and_then_acknowledged() {
    let kafka = Kafka::shared();
    let (topic, dead) = (kafka.create_topic("alive", 1), kafka.create_topic("dead", 1));
    let pipeline = Pipeline::telemetry(kafka, &topic).dead_letter(&dead).set(
        "/spec/routes/0/validation/jsonSchema/configMap",
        serde_json::json!({"name": "schemas", "key": "telemetry.json"}),
    );
    let schema = r#"{"type": "object", "required": ["t"], "properties": {"t": {"type": "number"}}}"#;
    let sidecar = Sidecar::run(&pipeline).reference("configmaps/schemas/telemetry.json", schema).start();
    for version in [Version::V311, Version::V5] {
        let mut raw = Raw::mqtt(sidecar.mqtt(), version, "letters");
        let wrong = br#"{"t": "warm"}"#;
        let right = br#"{ "t" : 21.50 }"#;
        for (id, address, payload) in [(1, "nobody/asked", &wrong[..]), (2, TOPIC, wrong), (3, TOPIC, right)]
        {
            raw.send(&Publish::new(version, address, payload, id).encode());
            let packet = raw.packet();
            assert!(matches!(packet, Packet::PubAck { reason: 0, .. }), "{packet:?}");
        }
    }
    let letters = kafka.read(&dead);
    let reasons: Vec<_> = letters.iter().map(|letter| letter.header("penstock_reason").unwrap()).collect();
    assert_eq!(reasons, ["no-route", "schema", "no-route", "schema"]);
    assert_eq!(letters[1].payload, br#"{"t": "warm"}"#);
    assert_eq!(letters[1].header("ce_subject"), Some(TOPIC));
    assert_eq!(letters[1].header("penstock_endpoint"), Some("mqtt"));
    assert!(letters[1].header("penstock_detail").unwrap().contains("/t"), "{:?}", letters[1]);
    let records = kafka.read(&topic);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].payload, br#"{ "t" : 21.50 }"#, "validation reads, it does not rewrite");
    let total = sidecar.assert_ledger_balances()["total"].clone();
    assert_eq!(
        (total["acknowledged"].as_u64(), total["deadLettered"].as_u64()),
        (Some(2), Some(4)),
        "{total}"
    );
}

#[test]
fn more_in_flight_than_receive_maximum_ends_a_5_and_slows_a_3() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("window", 1);
    let pipeline = Pipeline::telemetry(&kafka, &topic).set("/spec/endpoints/0/mqtt/receiveMaximum", 10);
    let sidecar = Sidecar::run(&pipeline).start();
    let publishes = |version| -> Vec<u8> {
        (1..=30).flat_map(|id| Publish::new(version, TOPIC, b"x", id).encode()).collect()
    };
    kafka.broker(0).stop();
    let mut five = Raw::mqtt(sidecar.mqtt(), Version::V5, "five");
    five.send(&publishes(Version::V5));
    let packets = five.packets_until_closed(ANSWER);
    assert!(matches!(packets[..], [Packet::Disconnect { reason: 0x93, .. }]), "{packets:?}");
    let mut three = Raw::mqtt(sidecar.mqtt(), Version::V311, "three");
    three.send(&publishes(Version::V311));
    kafka.broker(0).cont();
    for expected in 1..=30 {
        let packet = three.packet();
        assert!(matches!(packet, Packet::PubAck { id, .. } if id == expected), "{packet:?}");
    }
}

#[test]
fn a_ping_is_answered_while_acknowledgements_are_pending() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("ping", 1);
    let sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(60)).start();
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V311, "ping");
    kafka.broker(0).stop();
    raw.send(&Publish::new(Version::V311, TOPIC, b"x", 1).encode());
    raw.send(&PINGREQ);
    assert_eq!(raw.packet(), Packet::PingResp, "before the PUBACK, which waits for Kafka");
    assert_eq!(raw.next(Duration::from_secs(2)), Next::Nothing, "no PUBACK without Kafka");
    kafka.broker(0).cont();
    assert!(matches!(raw.packet(), Packet::PubAck { id: 1, .. }));
    assert_eq!(kafka.read(&topic).len(), 1);
}

#[test]
fn qos_0_is_stored_also_when_its_client_leaves_at_once() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("qos0");
    for version in [Version::V311, Version::V5] {
        let output = mosquitto_pub(sidecar.mqtt(), version, TOPIC, &["-q", "0", "-m", "fire and forget"]);
        assert!(output.status.success(), "{output:?}");
    }
    until("both messages in the topic", SOON, || (kafka.read(&topic).len() == 2).then_some(()));
    until("both messages in the books", SOON, || (sidecar.total("acknowledged") == 2).then_some(()));
    sidecar.assert_ledger_balances();
}

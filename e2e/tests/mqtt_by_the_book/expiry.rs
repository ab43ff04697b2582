//! Message Expiry Interval (§3.3.2.3.3): judged once, when a message is taken.

use std::time::Duration;

use penstock_e2e::load::wire::{Packet, Publish, Version};
use penstock_e2e::raw::{Next, Raw};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

use super::TOPIC;

#[test]
fn a_message_that_expired_while_it_waited_for_room_is_refused() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("expiry", 1);
    let limit = |name: &str| format!("/spec/endpoints/0/limits/{name}");
    let pipeline = Pipeline::telemetry(&kafka, &topic)
        .ack_timeout(60)
        .set(&limit("maxMessageBytes"), 8_192)
        .set(&limit("maxInFlightBytesPerConnection"), 24_576);
    let sidecar = Sidecar::run(&pipeline).start();
    let mut raw = Raw::mqtt(sidecar.mqtt(), Version::V5, "expiry");
    kafka.broker(0).stop();
    let publish = |id, seconds: Option<u32>, payload: &[u8]| {
        let properties = seconds.map_or(Vec::new(), |seconds| [&[0x02][..], &seconds.to_be_bytes()].concat());
        Publish { properties: &properties, ..Publish::new(Version::V5, TOPIC, payload, id) }.encode()
    };
    // The first three take all the room of the connection, so the others wait.
    for id in [1, 5, 6] {
        raw.send(&publish(id, None, &[b'1'; 8_000]));
    }
    raw.send(&[publish(2, Some(1), b"2"), publish(3, Some(600), b"3"), publish(4, Some(0), b"4")].concat());
    assert_eq!(raw.next(Duration::from_secs(3)), Next::Nothing);
    kafka.broker(0).cont();
    let mut answers = Vec::new();
    for _ in 1..=6 {
        let packet = raw.packet();
        let Packet::PubAck { id, reason, .. } = packet else { panic!("{packet:?}") };
        answers.push((id, reason));
    }
    assert_eq!(answers, [(1, 0), (5, 0), (6, 0), (2, 0x83), (3, 0), (4, 0x83)]);
    let records = kafka.read(&topic);
    assert_eq!(records.iter().map(|record| record.payload[0]).collect::<Vec<_>>(), b"1113");
    let left: u32 = records[3].header("mqtt-message-expiry-interval").unwrap().parse().unwrap();
    assert!((500..=597).contains(&left), "{left} of 600 seconds after three of waiting");
    let total = sidecar.assert_ledger_balances()["total"].clone();
    assert_eq!((total["acknowledged"].as_u64(), total["refused"].as_u64()), (Some(4), Some(2)), "{total}");
}

#[test]
fn a_message_that_does_not_wait_does_not_expire() {
    let name = super::client_id();
    let mut raw = super::client(Version::V5);
    for (id, seconds) in [(1, 0_u32), (2, 1), (3, u32::MAX)] {
        let properties = [&[0x02][..], &seconds.to_be_bytes()].concat();
        let topic = super::topic_of(&name);
        raw.send(
            &Publish { properties: &properties, ..Publish::new(Version::V5, &topic, b"x", id) }.encode(),
        );
        assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }), "{seconds}");
    }
    let left: Vec<_> = super::stored(&name)
        .iter()
        .map(|record| record.header("mqtt-message-expiry-interval").unwrap().to_owned())
        .collect();
    assert_eq!(left, ["0", "1", "4294967295"]);
}

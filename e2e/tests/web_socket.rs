//! MQTT over WebSocket, frame by frame, and the PROXY protocol in front of it and of TCP.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::clients::{curl, paho_publish_with};
use penstock_e2e::load::wire::{Connect, Packet, Publish, Version};
use penstock_e2e::raw::{ANSWER, Next, Raw};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar, ports};
use serde_json::{Value, json};

const TOPIC: &str = "v1/p/d/telemetry";
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const GOING_AWAY_NORMALLY: [u8; 2] = 1_000_u16.to_be_bytes();

fn sidecar(purpose: &str, endpoint: Value) -> (Sidecar, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    let mut ws = json!({"name": "ws", "port": ports::free(), "mqtt": {"webSocket": {"path": "/mqtt"}}});
    ws.as_object_mut().unwrap().extend(endpoint.as_object().unwrap().clone());
    let pipeline = Pipeline::telemetry(kafka, &topic).push("/spec/endpoints", ws).push(
        "/spec/routes/0/from",
        json!({"endpoint": "ws", "topicFilter": "v1/{project}/{device}/telemetry"}),
    );
    (Sidecar::run(&pipeline).start(), topic)
}

/// A frame as a client writes it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// An upgraded connection.
fn upgraded(sidecar: &Sidecar) -> Raw {
    let mut raw = Raw::open(sidecar.listener("ws"));
    raw.send(
        b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
    );
    let head = raw.bytes_until(b"\r\n\r\n");
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-protocol: mqtt"), "{head}");
    assert!(head.contains(&"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_ascii_lowercase()), "{head}");
    raw
}

/// A frame of the server: its first byte and payload.
fn next_frame(raw: &mut Raw) -> (u8, Vec<u8>) {
    let head = raw.bytes(2);
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(raw.bytes(2).try_into().unwrap())),
        short @ 0..=125 => usize::from(short),
        other => panic!("a length of {other}"),
    };
    (head[0], raw.bytes(length))
}

#[test]
fn packets_are_taken_however_frames_cut_them() {
    let (sidecar, topic) = sidecar("frames", json!({}));
    let mut raw = upgraded(&sidecar);
    let connect = Connect::new(Version::V311, "frames").encode();
    // In two fragments, with a ping between them.
    raw.send(&frame(0x02, &connect[..5]));
    raw.send(&frame(PING, b"there?"));
    raw.send(&frame(0x80, &connect[5..]));
    assert_eq!(next_frame(&mut raw), (PONG, b"there?".to_vec()));
    let (first, connack) = next_frame(&mut raw);
    assert_eq!((first, connack), (BINARY, vec![0x20, 2, 0, 0]));
    // Two packets and the half of a third in one frame, the rest in another; the second is large.
    let publish = |payload: &[u8], id| Publish::new(Version::V311, TOPIC, payload, id).encode();
    let all = [publish(b"one", 1), publish(&[7; 70_000], 2), publish(b"three", 3)].concat();
    let (head, tail) = all.split_at(all.len() - 9);
    raw.send(&frame(BINARY, head));
    raw.send(&frame(BINARY, tail));
    let mut acks = Vec::new();
    while acks.len() < 12 {
        let (first, payload) = next_frame(&mut raw);
        assert_eq!(first, BINARY);
        acks.extend(payload);
    }
    assert_eq!(acks, [[0x40, 2, 0, 1], [0x40, 2, 0, 2], [0x40, 2, 0, 3]].concat());
    assert_eq!(Kafka::shared().read(&topic).len(), 3);
    raw.send(&frame(CLOSE, &GOING_AWAY_NORMALLY));
    assert_eq!(next_frame(&mut raw), (CLOSE, GOING_AWAY_NORMALLY.to_vec()));
    assert!(raw.is_closed_within(ANSWER));
    sidecar.assert_ledger_balances();
}

#[test]
fn what_is_no_frame_of_mqtt_is_closed_with_its_code() {
    let (sidecar, _) = sidecar("violations", json!({}));
    for (sent, code) in [
        (frame(0x81, b"text"), 1_003_u16),
        (vec![0x82, 1, 0], 1_002),
        (frame(0xC2, b"compressed"), 1_002),
        (frame(0x80, b"continues nothing"), 1_002),
    ] {
        let mut raw = upgraded(&sidecar);
        raw.send(&sent);
        assert_eq!(next_frame(&mut raw), (CLOSE, code.to_be_bytes().to_vec()));
        assert!(raw.is_closed_within(ANSWER));
    }
}

#[test]
fn pings_without_end_take_no_room() {
    let (sidecar, _) = sidecar("pings", json!({}));
    let mut raw = upgraded(&sidecar);
    let ping = frame(PING, &[b'x'; 125]);
    // Nobody reads the answers.
    raw.send_until_full(&ping.repeat(100_000), Duration::from_secs(2));
    assert!(sidecar.metric("penstock_pod_held_bytes") < 65_536.0);
    assert!(sidecar.rss() < 256 << 20);
}

#[test]
fn a_request_that_is_no_upgrade_is_told_what_is_here() {
    let (sidecar, _) = sidecar("upgrades", json!({}));
    let at = sidecar.listener("ws");
    assert_eq!(curl(at, "/mqtt", &[]).status, 426);
    assert_eq!(curl(at, "/other", &[]).status, 404);
    let mut raw = Raw::open(at);
    raw.send(&Connect::new(Version::V5, "plain").encode());
    raw.send(b"\r\n\r\n");
    let text = raw.text_until_closed(ANSWER);
    assert!(text.contains("MQTT over WebSocket"), "{text}");
}

#[test]
fn paho_publishes_over_web_socket_behind_a_load_balancer_that_is_not_trusted() {
    let trusted = json!({"proxyProtocol": {"trustedSources": ["192.0.2.0/24"]}});
    let (sidecar, topic) = sidecar("ws-plain", trusted);
    let options = ["--web-socket", "/mqtt"];
    let seen = paho_publish_with(None, sidecar.listener("ws"), Version::V5, TOPIC, "ws", 300, &options);
    assert_eq!(seen["acknowledged"].as_array().unwrap().len(), 300);
    assert_eq!(Kafka::shared().read(&topic).len(), 300);
}

/// A header that says 192.0.2.7:49153.
fn proxy_header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C".to_vec();
    header.extend([192, 0, 2, 7, 10, 0, 0, 1, 0xC0, 0x01, 0x07, 0x5B]);
    header
}

#[test]
fn the_address_of_the_client_comes_through_a_trusted_load_balancer() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("proxied", 3);
    let trusted = json!({"trustedSources": ["127.0.0.0/8"]});
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/proxyProtocol", trusted.clone())
        .set("/spec/endpoints/1/proxyProtocol", trusted)
        .set("/spec/routes/0/key", "{source}");
    let sidecar = Sidecar::run(&pipeline).start();

    let mut raw = Raw::open(sidecar.mqtt());
    raw.send(&proxy_header());
    raw.send(&Connect::new(Version::V311, "proxied").encode());
    assert!(matches!(raw.packet(), Packet::ConnAck { code: 0, .. }));
    raw.send(&Publish::new(Version::V311, TOPIC, b"mqtt", 1).encode());
    assert!(matches!(raw.packet(), Packet::PubAck { id: 1, .. }));
    // curl speaks version 1, which is not taken.
    let mut raw = Raw::open(sidecar.http());
    raw.send(
        b"PROXY TCP4 192.0.2.8 10.0.0.1 1 2\r\nPOST /v1/p/d/telemetry HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(raw.is_closed_within(ANSWER));
    let keys: Vec<_> = kafka.read(&topic).iter().map(|record| record.key().unwrap().to_owned()).collect();
    assert_eq!(keys, ["192.0.2.7"]);
}

#[test]
fn a_trusted_load_balancer_without_a_header_is_closed() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("headless", 3);
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/proxyProtocol", json!({"trustedSources": ["127.0.0.1/32"]}));
    let sidecar = Sidecar::run(&pipeline).start();
    let mut raw = Raw::open(sidecar.mqtt());
    raw.send(&Connect::new(Version::V5, "headless").encode());
    assert!(raw.is_closed_within(ANSWER));
    sidecar.wait_log("sends no PROXY header");
}

#[test]
fn a_header_from_elsewhere_is_no_mqtt() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("untrusted", 3);
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/proxyProtocol", json!({"trustedSources": ["192.0.2.0/24"]}));
    let sidecar = Sidecar::run(&pipeline).start();
    let mut raw = Raw::open(sidecar.mqtt());
    raw.send(&proxy_header());
    assert!(raw.is_closed_within(ANSWER));
    // Without one it is let in.
    Raw::mqtt(sidecar.mqtt(), Version::V5, "direct");
}

#[test]
fn connections_beyond_the_rate_are_told_to_come_later() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("rate", 3);
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/limits", json!({"maxConnectionsPerSecond": 20}))
        .set("/spec/endpoints/1/limits", json!({"maxConnectionsPerSecond": 20}));
    let sidecar = Sidecar::run(&pipeline).start();
    let started = Instant::now();
    let mut codes = Vec::new();
    for number in 0..60 {
        let mut raw = Raw::open(sidecar.mqtt());
        raw.send(&Connect::new(Version::V5, &format!("rate-{number}")).encode());
        match raw.next_of(Version::V5, ANSWER) {
            Next::Packet(Packet::ConnAck { code, .. }) => codes.push(code),
            other => panic!("{other:?}"),
        }
    }
    let most = 20.0 + 20.0 * started.elapsed().as_secs_f64() + 1.0;
    let let_in = codes.iter().filter(|code| **code == 0).count();
    assert!(let_in >= 10 && let_in as f64 <= most, "{let_in} of at most {most}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 0x9F)), "{codes:?}");
    let (_, packet) = Raw::mqtt_with(sidecar.mqtt(), &Connect::new(Version::V311, "three"));
    assert!(matches!(packet, Packet::ConnAck { code: 0 | 3, .. }), "{packet:?}");
    let statuses: Vec<_> = (0..60)
        .map(|_| {
            let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]);
            (response.status, response.header("retry-after").map(str::to_owned))
        })
        .collect();
    assert!(
        statuses.iter().all(|(status, retry)| *status == 200 || (*status == 503 && retry.is_some())),
        "{statuses:?}"
    );
    until("somebody is let in again", SOON, || {
        let (_, packet) = Raw::mqtt_with(sidecar.mqtt(), &Connect::new(Version::V5, "later"));
        matches!(packet, Packet::ConnAck { code: 0, .. }).then_some(())
    });
}

//! MQTT 3.1.1 and 5 statement by statement, from raw sockets; `docs/reference/mqtt-conformance.md` is the table.
//!
//! MQTT 5 is answered with the reason code that the clause names; 3.1.1 can only be closed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod connect;
mod disconnect;
mod expiry;
mod framing;
mod properties;
mod publish;
mod record;
mod subscribe;

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use penstock_e2e::kafka::Record;
use penstock_e2e::load::wire::{self, Packet, Publish, Version};
use penstock_e2e::process::shared;
use penstock_e2e::raw::{ANSWER, Raw};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
const TOPIC: &str = "v1/p/d/telemetry";
const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// One sidecar for all tests that only talk to it.
struct Book {
    sidecar: Sidecar,
    topic: String,
}

static BOOK: LazyLock<Book> = LazyLock::new(|| {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("book", 3);
    Book { sidecar: shared(|| Sidecar::run(&Pipeline::telemetry(kafka, &topic)).start()), topic }
});

fn mqtt() -> SocketAddr {
    BOOK.sidecar.mqtt()
}

/// A client identifier that no other test has.
fn client_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("book{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A connected client.
#[track_caller]
fn client(version: Version) -> Raw {
    Raw::mqtt(mqtt(), version, &client_id())
}

/// A topic that routes to a key of its own, `p/NAME`.
fn topic_of(name: &str) -> String {
    format!("v1/p/{name}/telemetry")
}

/// What is stored under the key of [`topic_of`].
#[track_caller]
fn stored(name: &str) -> Vec<Record> {
    let key = format!("p/{name}");
    let mut records = Kafka::shared().read(&BOOK.topic);
    records.retain(|record| record.key() == Some(&key));
    records
}

/// A clean CONNECT with any flags and properties, and what follows the client identifier.
fn connect(version: Version, flags: u8, properties: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    wire::put_string(&mut body, b"MQTT");
    body.extend([if version == Version::V5 { 5 } else { 4 }, flags, 0, 60]);
    if version == Version::V5 {
        wire::put_length(&mut body, properties.len());
        body.extend_from_slice(properties);
    }
    wire::put_string(&mut body, client_id().as_bytes());
    body.extend_from_slice(rest);
    wire::packet(0x10, &body)
}

/// Text or binary data behind its length.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_string(&mut out, bytes);
    out
}

/// A packet of MQTT 5 whose properties come after `head`.
fn with_properties(first: u8, head: &[u8], properties: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut body = head.to_vec();
    wire::put_length(&mut body, properties.len());
    body.extend_from_slice(properties);
    body.extend_from_slice(tail);
    wire::packet(first, &body)
}

/// A QoS 1 PUBLISH of MQTT 5 with properties.
fn publish(topic: &str, properties: &[u8]) -> Vec<u8> {
    Publish { properties, ..Publish::new(Version::V5, topic, b"x", 1) }.encode()
}

/// Sends `bytes` to a server that has let us in, and demands that it answers with this end: the reason code in MQTT 5, and
/// nothing but a close in 3.1.1.
#[track_caller]
fn assert_ends(version: Version, bytes: &[u8], reason: u8, what: &str) {
    let mut raw = client(version);
    raw.send(bytes);
    assert_ended(&mut raw, version, reason, what);
}

/// Demands that the connection ends so, after nothing else.
#[track_caller]
fn assert_ended(raw: &mut Raw, version: Version, reason: u8, what: &str) {
    let packets = raw.packets_until_closed(ANSWER);
    match (version, &packets[..]) {
        (Version::V311, []) => {}
        (Version::V5, [Packet::Disconnect { reason: found, .. }]) if *found == reason => {}
        _ => panic!("{what}, {version:?}: {packets:x?}, not {reason:#04x}"),
    }
}

/// Sends a CONNECT and demands that it is refused: with this reason code in MQTT 5, without a word in 3.1.1.
#[track_caller]
fn assert_refused(version: Version, bytes: &[u8], reason: u8, what: &str) {
    let mut raw = Raw::open_as(mqtt(), version);
    raw.send(bytes);
    let packets = raw.packets_until_closed(ANSWER);
    match (version, &packets[..]) {
        (Version::V311, []) => {}
        (Version::V5, [Packet::ConnAck { code, session_present: false, .. }]) if *code == reason => {}
        _ => panic!("{what}, {version:?}: {packets:x?}, not {reason:#04x}"),
    }
}

/// Demands that the connection is as good as ever.
#[track_caller]
fn assert_serves(raw: &mut Raw, what: &str) {
    raw.send(&wire::PINGREQ);
    assert_eq!(raw.packet(), Packet::PingResp, "{what}");
}

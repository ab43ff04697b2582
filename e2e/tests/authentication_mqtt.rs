//! Who may send over MQTT: who it is is asked at CONNECT, and where it may send at each message.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::clients::{mosquitto_pub, paho_publish_with};
use penstock_e2e::credentials::{Issuer, argon2_line, bcrypt_line, sha256_line};
use penstock_e2e::load::wire::{Connect, Packet, Publish, Version};
use penstock_e2e::raw::ANSWER;
use penstock_e2e::raw::{Next, Raw};
use penstock_e2e::{Kafka, Pipeline, Sidecar};
use serde_json::{Value, json};

const USERS: &str = "secrets/devices/users";
const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// The pipeline with authentication on its MQTT endpoint, where a device may only send as itself.
fn pipeline(purpose: &str, authentication: Value, allow: Value) -> (Pipeline, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/authentication", authentication)
        .set(
            "/spec/routes/0/from",
            json!([{"endpoint": "mqtt", "topicFilter": "v1/{project}/{device}/telemetry"}]),
        )
        .set("/spec/routes/0/allow", allow);
    (pipeline, topic)
}

fn basic() -> Value {
    json!({"basic": {"usersSecret": {"name": "devices"}}})
}

fn as_itself() -> Value {
    json!({"device": "{identity}"})
}

/// The code of a CONNACK.
#[track_caller]
fn code(sidecar: &Sidecar, connect: &Connect) -> u8 {
    let (mut raw, packet) = Raw::mqtt_with(sidecar.mqtt(), connect);
    let Packet::ConnAck { code, .. } = packet else { panic!("{packet:?}") };
    assert!(code == 0 || raw.is_closed_within(ANSWER), "a client that is not let in is closed");
    code
}

#[test]
fn real_clients_log_in_with_any_kind_of_hash() {
    let (pipeline, topic) = pipeline("mqtt-hashes", basic(), as_itself());
    let users = [
        bcrypt_line("press-1", "b-secret", 8),
        argon2_line("press-2", "a-secret", 1_024, 2),
        sha256_line("press-3", "s-secret"),
    ];
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &users.concat()).start();
    for (number, password) in [(1, "b-secret"), (2, "a-secret"), (3, "s-secret")] {
        let (user, topic) = (format!("press-{number}"), format!("v1/p/press-{number}/telemetry"));
        for version in VERSIONS {
            let good = ["-u", &user, "-P", password, "-m", "x"];
            let output = mosquitto_pub(sidecar.mqtt(), version, &topic, &good);
            assert!(output.status.success(), "{output:?}");
            let output =
                mosquitto_pub(sidecar.mqtt(), version, &topic, &["-u", &user, "-P", "guess", "-m", "x"]);
            assert!(!output.status.success(), "{output:?}");
            let login = Some((user.as_str(), password));
            let seen = paho_publish_with(login, sidecar.mqtt(), version, &topic, &user, 3, &[]);
            assert_eq!(seen["acknowledged"].as_array().unwrap().len(), 3);
        }
    }
    assert_eq!(Kafka::shared().read(&topic).len(), 24);
    sidecar.assert_ledger_balances();
}

#[test]
fn connack_says_what_the_clause_names() {
    let mut authentication = basic();
    authentication["clientId"] = json!("{identity}-*");
    let (pipeline, _) = pipeline("connack", authentication, as_itself());
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &bcrypt_line("press-1", "secret", 6)).start();
    for (version, bad, not_allowed, identifier) in [(Version::V311, 4, 5, 2), (Version::V5, 0x86, 0x87, 0x85)]
    {
        let connect = |id: &str| Connect::new(version, id);
        assert_eq!(code(&sidecar, &connect("press-1-a").login("press-1", "secret")), 0);
        assert_eq!(code(&sidecar, &connect("press-1-a").login("press-1", "guess")), bad);
        assert_eq!(code(&sidecar, &connect("press-1-a").login("nobody", "secret")), bad);
        assert_eq!(code(&sidecar, &connect("press-1-a")), bad, "nothing shown");
        for id in ["press-2-a", "press-1", "", "press-10-a"] {
            assert_eq!(code(&sidecar, &connect(id).login("press-1", "secret")), identifier, "{id}");
        }
        let mut will = connect("press-1-w").login("press-1", "secret");
        will.will = Some(("v1/p/press-1/telemetry".to_owned(), b"w".to_vec(), 1));
        assert_eq!(code(&sidecar, &will), 0);
        will.will = Some(("v1/p/press-2/telemetry".to_owned(), b"w".to_vec(), 1));
        assert_eq!(code(&sidecar, &will), not_allowed, "its Will would be sent where it may not send");
    }
}

#[test]
fn what_is_not_allowed_is_refused_and_never_dead_lettered() {
    let (pipeline, topic) = pipeline("mqtt-allow", basic(), as_itself());
    let dead = Kafka::shared().create_topic("mqtt-allow-dead", 1);
    let sidecar = Sidecar::run(&pipeline.dead_letter(&dead))
        .reference(USERS, &sha256_line("press-1", "secret"))
        .start();
    let open =
        |version| Raw::mqtt_with(sidecar.mqtt(), &Connect::new(version, "a").login("press-1", "secret")).0;
    let mut five = open(Version::V5);
    for (id, address) in [(1, "v1/p/press-2/telemetry"), (2, "v1/p//telemetry")] {
        five.send(&Publish::new(Version::V5, address, b"x", id).encode());
        let packet = five.packet();
        assert!(matches!(packet, Packet::PubAck { reason: 0x87, .. }), "{address}: {packet:?}");
    }
    five.send(&Publish::new(Version::V5, "v1/p/press-1/telemetry", b"good", 4).encode());
    assert!(matches!(five.packet(), Packet::PubAck { id: 4, reason: 0, .. }), "the connection goes on");
    five.send(&Publish::new(Version::V5, "elsewhere", b"x", 5).encode());
    assert!(
        matches!(five.packet(), Packet::PubAck { id: 5, reason: 0, .. }),
        "what nobody asked for is kept"
    );
    let mut three = open(Version::V311);
    three.send(&Publish::new(Version::V311, "v1/p/press-2/telemetry", b"x", 1).encode());
    assert_eq!(three.next(ANSWER), Next::Closed, "3.1.1 has no negative PUBACK");
    assert_eq!(Kafka::shared().read(&topic).len(), 1);
    let letters = Kafka::shared().read(&dead);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let total = sidecar.assert_ledger_balances()["total"].clone();
    assert_eq!((total["acknowledged"].as_u64(), total["refused"].as_u64()), (Some(1), Some(3)), "{total}");
}

#[test]
fn a_connection_ends_when_its_user_is_removed_and_others_stay() {
    let (pipeline, _) = pipeline("removed", basic(), as_itself());
    let (one, two) = (sha256_line("press-1", "a"), bcrypt_line("press-2", "b", 6));
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &format!("{one}{two}")).start();
    let open = |version, user: &str, password: &str| {
        Raw::mqtt_with(sidecar.mqtt(), &Connect::new(version, user).login(user, password)).0
    };
    let (mut stays, mut five) = (open(Version::V5, "press-1", "a"), open(Version::V5, "press-2", "b"));
    let mut three =
        Raw::mqtt_with(sidecar.mqtt(), &Connect::new(Version::V311, "another").login("press-2", "b")).0;
    sidecar.change_reference(USERS, &one);
    let start = Instant::now();
    let last = five.packets_until_closed(Duration::from_secs(60));
    assert!(matches!(last[..], [Packet::Disconnect { reason: 0x87, .. }]), "{last:?}");
    assert!(three.is_closed_within(Duration::from_secs(60)) && start.elapsed() < Duration::from_secs(60));
    stays.send(&Publish::new(Version::V5, "v1/p/press-1/telemetry", b"x", 1).encode());
    assert!(matches!(stays.packet(), Packet::PubAck { reason: 0, .. }));
    assert_eq!(code(&sidecar, &Connect::new(Version::V5, "c").login("press-2", "b")), 0x86);
}

#[test]
fn a_connection_ends_with_its_token() {
    let issuer = Issuer::new();
    let settings = Issuer::settings(&json!({"secret": {"name": "issuer"}}));
    let (pipeline, _) = pipeline("expires", settings, json!({"project": "{claims.project}"}));
    let sidecar = Sidecar::run(&pipeline).reference("secrets/issuer/jwks.json", &issuer.jwks()).start();
    let token = issuer.token("press-1", 4, &json!({"project": "p"}));
    let start = Instant::now();
    let (mut raw, packet) =
        Raw::mqtt_with(sidecar.mqtt(), &Connect::new(Version::V5, "a").login("any", token.clone()));
    assert!(matches!(packet, Packet::ConnAck { code: 0, .. }), "{packet:?}");
    raw.send(&Publish::new(Version::V5, "v1/p/d/telemetry", b"x", 1).encode());
    assert!(matches!(raw.packet(), Packet::PubAck { reason: 0, .. }));
    raw.send(&Publish::new(Version::V5, "v1/q/d/telemetry", b"x", 2).encode());
    assert!(matches!(raw.packet(), Packet::PubAck { reason: 0x87, .. }));
    let last = raw.packets_until_closed(Duration::from_secs(30));
    assert!(matches!(last[..], [Packet::Disconnect { reason: 0x87, .. }]), "{last:?}");
    assert!((3..9).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(code(&sidecar, &Connect::new(Version::V5, "a").login("any", token)), 0x86);
}

#[test]
fn a_pod_that_is_too_busy_or_has_no_credentials_asks_to_come_back() {
    let (pipeline, _) = pipeline("mqtt-busy", basic(), as_itself());
    let sidecar = Sidecar::run(&pipeline).reference("secrets/devices/other", "x").not_ready().start();
    for (version, busy) in [(Version::V311, 3), (Version::V5, 0x89)] {
        assert_eq!(code(&sidecar, &Connect::new(version, "a").login("press-1", "secret")), busy);
    }
}

#[test]
fn a_hash_that_takes_its_time_keeps_nobody_waiting() {
    let (pipeline, _) = pipeline("slow-hash", basic(), as_itself());
    let users = [bcrypt_line("press-1", "slow", 12), sha256_line("press-2", "fast")].concat();
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &users).start();
    // Enough to keep the threads busy for seconds, each by another name.
    let slow: Vec<_> = (0..16)
        .map(|number| {
            let mut raw = Raw::open(sidecar.mqtt());
            let connect = Connect::new(Version::V5, &format!("slow-{number}"));
            raw.send(&connect.login("press-1", format!("guess {number}")).encode());
            raw
        })
        .collect();
    let start = Instant::now();
    assert_eq!(code(&sidecar, &Connect::new(Version::V5, "fast").login("press-2", "fast")), 0);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(slow);
}

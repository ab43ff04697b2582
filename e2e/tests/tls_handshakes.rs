//! Who gets through a TLS handshake, who does not, and what the others notice of those.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::clients::curl;
use penstock_e2e::load::wire::{Connect, Packet, Version};
use penstock_e2e::pki::Authority;
use penstock_e2e::raw::Raw;
use penstock_e2e::secure::{Identity, SecureClient, s_client};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};
use serde_json::{Value, json};

const TOPIC: &str = "v1/p/d/telemetry";
const LOCALHOST: [&str; 2] = ["DNS:localhost", "IP:127.0.0.1"];
/// Longer than the sidecar waits for a handshake.
const LAPSED: Duration = Duration::from_secs(20);

fn sidecar(purpose: &str, authority: &Authority, more: Value) -> Sidecar {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    authority.issue("server", "/CN=server", &LOCALHOST);
    let mut tls =
        json!({"certificateSecret": {"name": "edge-tls"}, "clientCaSecret": {"name": "devices-ca"}});
    tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/tls", tls.clone())
        .set("/spec/endpoints/1/tls", tls);
    Sidecar::run(&pipeline)
        .secret(
            "edge-tls",
            &[("tls.crt", &authority.read("server.crt")), ("tls.key", &authority.read("server.key"))],
        )
        .secret("devices-ca", &[("ca.crt", &authority.read("ca.crt"))])
        .start()
}

fn failed(sidecar: &Sidecar, reason: &str) -> f64 {
    sidecar.metric(&format!(r#"penstock_openings_failed_total{{endpoint="mqtt",reason="{reason}"}}"#))
}

/// Waits until so many connections were not opened for one of these reasons.
#[track_caller]
fn until_failed(sidecar: &Sidecar, reasons: &[&str], least: f64) {
    until("openings that failed", SOON, || {
        let count: f64 = reasons.iter().map(|reason| failed(sidecar, reason)).sum();
        (count >= least).then_some(())
    });
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_1_1_is_refused() {
    let authority = Authority::fresh();
    let sidecar = sidecar("versions", &authority, json!({}));
    let ca = authority.path("ca.crt");
    for (option, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let text = s_client(sidecar.mqtt(), &[option, "-CAfile", &ca, "-verify_return_error"], b"");
        assert!(text.contains(name) && text.contains("Verify return code: 0 (ok)"), "{text}");
    }
    let old = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0", "-CAfile", &ca];
    let text = s_client(sidecar.mqtt(), &old, b"");
    assert!(text.contains("alert protocol version") || text.contains("alert handshake failure"), "{text}");
    until_failed(&sidecar, &["incompatible"], 1.0);
}

#[test]
fn a_minimum_of_1_3_refuses_1_2() {
    let authority = Authority::fresh();
    let sidecar = sidecar("minimum", &authority, json!({"minimumVersion": "Tls13"}));
    let ca = authority.path("ca.crt");
    let text = s_client(sidecar.mqtt(), &["-tls1_2", "-CAfile", &ca], b"");
    assert!(text.contains("alert protocol version"), "{text}");
    assert!(s_client(sidecar.mqtt(), &["-tls1_3", "-CAfile", &ca], b"").contains("TLSv1.3"));
}

#[test]
fn openssl_resumes_a_session() {
    let authority = Authority::fresh();
    let sidecar = sidecar("resumption", &authority, json!({}));
    let ca = authority.path("ca.crt");
    for version in ["-tls1_2", "-tls1_3"] {
        let session = authority.path(&format!("session{version}"));
        let first = s_client(sidecar.mqtt(), &[version, "-CAfile", &ca, "-sess_out", &session], b"");
        assert!(first.contains("New, TLSv1."), "{first}");
        let second = s_client(sidecar.mqtt(), &[version, "-CAfile", &ca, "-sess_in", &session], b"");
        assert!(second.contains("Reused, TLSv1."), "{second}");
    }
    assert!(sidecar.metric(r#"penstock_tls_handshakes_total{endpoint="mqtt",kind="resumed"}"#) >= 2.0);
}

#[test]
fn a_message_that_comes_with_the_end_of_the_handshake_is_taken() {
    let authority = Authority::fresh();
    let sidecar = sidecar("early", &authority, json!({}));
    let identity = Identity::new(&authority, None);
    for number in 0..20 {
        let connect = Connect::new(Version::V5, &format!("early-{number}")).encode();
        let mut client = SecureClient::open_and_send(sidecar.mqtt(), &identity, &connect).unwrap();
        assert!(matches!(client.packet().unwrap(), Packet::ConnAck { code: 0, .. }));
    }
}

#[test]
fn a_client_without_a_certificate_of_the_ca_is_told_so() {
    let (authority, stranger) = (Authority::fresh(), Authority::fresh());
    let sidecar = sidecar("strangers", &authority, json!({"clientAuth": "Required"}));
    authority.issue("device", "/CN=device-7", &["URI:spiffe://example/device-7"]);
    stranger.issue("device", "/CN=device-7", &[]);
    authority.issue_for(0, "expired", "/CN=device-8", &[]);
    let issued = Instant::now();
    until("a certificate of no days has expired", SOON, || {
        (issued.elapsed() > Duration::from_millis(1_100)).then_some(())
    });
    let connect = |own| {
        let identity = Identity::of(&authority, own);
        SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, "d").map(|_| ())
    };
    assert_eq!(connect(Some((&authority, "device"))), Ok(()));
    let refused = |own, why: &str| {
        let error = connect(own).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(None, "CertificateRequired");
    refused(Some((&stranger, "device")), "UnknownCA");
    refused(Some((&authority, "expired")), "CertificateExpired");
    until_failed(&sidecar, &["client_certificate"], 3.0);
    sidecar.wait_log("a connection was not opened");
}

#[test]
fn clients_of_a_ca_that_is_removed_are_sent_away_within_a_minute_and_do_not_come_back() {
    let (authority, devices) = (Authority::fresh(), Authority::fresh());
    let sidecar = sidecar("removal", &authority, json!({"clientAuth": "Optional"}));
    devices.issue("device", "/CN=device-7", &[]);
    authority.issue("device", "/CN=device-8", &[]);
    let both = format!("{}{}", authority.read("ca.crt"), devices.read("ca.crt"));
    sidecar.change_secret("devices-ca", &[("ca.crt", &both)]);
    let removed = Identity::of(&authority, Some((&devices, "device")));
    let mut leaving = until("the second CA is known", LAPSED, || {
        SecureClient::connect(sidecar.mqtt(), &removed, Version::V5, "leaving").ok()
    });
    let stays = Identity::of(&authority, Some((&authority, "device")));
    let mut staying = SecureClient::connect(sidecar.mqtt(), &stays, Version::V5, "staying").unwrap();
    leaving.publish(TOPIC, b"before", 1).unwrap();
    staying.publish(TOPIC, b"before", 1).unwrap();
    let changed = Instant::now();
    sidecar.change_secret("devices-ca", &[("ca.crt", &authority.read("ca.crt"))]);
    leaving.patience(Duration::from_secs(60));
    let told = leaving.packet().unwrap();
    assert!(matches!(told, Packet::Disconnect { reason: 0x87, .. }), "{told:?}");
    assert!(changed.elapsed() < Duration::from_secs(60));
    staying.publish(TOPIC, b"after", 2).unwrap();
    // Nor with the ticket that it still has.
    let back = SecureClient::connect(sidecar.mqtt(), &removed, Version::V5, "leaving").map(|_| ());
    assert!(back.is_err());
    // And one that only renewed its certificate is not touched.
    SecureClient::connect(sidecar.mqtt(), &stays, Version::V5, "staying-too").unwrap();
}

#[test]
fn plain_text_on_a_tls_port_is_answered_where_it_can_be_and_logged() {
    let authority = Authority::fresh();
    let sidecar = sidecar("plain", &authority, json!({}));
    let mut raw = Raw::open(sidecar.mqtt());
    raw.send(&Connect::new(Version::V5, "plain").encode());
    assert!(raw.is_closed_within(Duration::from_secs(5)));
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "x"]);
    assert_eq!(
        (response.status, &response.json()["type"]),
        (400, &json!("https://penstock.dev/problems/tls-required"))
    );
    sidecar.wait_log("plain text on a port that speaks TLS");
    until_failed(&sidecar, &["not_tls"], 1.0);
    // Said once in a while, not once each.
    for _ in 0..200 {
        let mut raw = Raw::open(sidecar.mqtt());
        raw.send(b"GET / HTTP/1.1\r\n\r\n");
        assert!(raw.is_closed_within(Duration::from_secs(5)));
    }
    assert!(sidecar.log().matches("plain text on a port").count() < 10);
}

#[test]
fn handshakes_that_stall_end_in_time_and_stall_nobody_else() {
    let authority = Authority::fresh();
    let sidecar = sidecar("slow", &authority, json!({}));
    let identity = Identity::new(&authority, None);
    let mut established =
        SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, "established").unwrap();
    // A record that says it is 16 KiB long, and a part of it; and nothing at all.
    let stalled: Vec<_> = (0..300)
        .map(|number| {
            let mut raw = Raw::open(sidecar.mqtt());
            if number % 3 > 0 {
                raw.send(&[22, 3, 1, 0x40, 0]);
                raw.send(&vec![1; 1_000 * (number % 3)]);
            }
            raw
        })
        .collect();
    for (number, id) in (0..20).zip(1..) {
        let started = Instant::now();
        established.publish(TOPIC, b"meanwhile", id).unwrap();
        SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, &format!("new-{number}")).unwrap();
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    for mut raw in stalled {
        assert!(raw.is_closed_within(LAPSED));
    }
    until_failed(&sidecar, &["timeout", "malformed"], 300.0);
    let held = sidecar.metric("penstock_pod_held_bytes");
    established.publish(TOPIC, b"after", 99).unwrap();
    assert!(held < 65_536.0, "what stalled handshakes held is given back: {held}");
}

#[test]
fn a_storm_of_handshakes_leaves_established_clients_their_answers() {
    let authority = Authority::fresh();
    let sidecar = sidecar("storm", &authority, json!({}));
    let identity = Identity::new(&authority, None);
    let mut established =
        SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, "established").unwrap();
    let slowest = std::thread::scope(|scope| {
        for worker in 0..4 {
            let (address, authority) = (sidecar.mqtt(), &authority);
            scope.spawn(move || {
                for number in 0..150 {
                    // A fresh identity has no session to resume.
                    let identity = Identity::new(authority, None);
                    let id = format!("storm-{worker}-{number}");
                    SecureClient::connect(address, &identity, Version::V5, &id).unwrap();
                }
            });
        }
        (1..200)
            .map(|id| {
                let started = Instant::now();
                established.publish(TOPIC, b"x", id).unwrap();
                started.elapsed()
            })
            .max()
            .unwrap()
    });
    // Six hundred full handshakes, and the clients that make them, share two processors with it.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    sidecar.assert_ledger_balances();
}

//! Messages over TLS, from clients nobody here wrote, and through a renewal of the endpoint's certificate.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use penstock_e2e::clients::{curl_tls, mosquitto_pub, paho_publish_with};
use penstock_e2e::load::wire::Version;
use penstock_e2e::pki::Authority;
use penstock_e2e::secure::{Identity, SecureClient};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};
use serde_json::json;

const TOPIC: &str = "v1/p/d/telemetry";
const PATH: &str = "/v1/p/d/telemetry";
const LOCALHOST: [&str; 2] = ["DNS:localhost", "IP:127.0.0.1"];

/// A sidecar whose two endpoints have a certificate of `authority`, and that checks those of clients as `client_auth`
/// says.
fn sidecar(purpose: &str, authority: &Authority, client_auth: &str) -> (Sidecar, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    authority.issue("server", "/CN=server", &LOCALHOST);
    let tls = json!({
        "certificateSecret": {"name": "edge-tls"},
        "clientAuth": client_auth,
        "clientCaSecret": {"name": "devices-ca"},
    });
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/0/tls", tls.clone())
        .set("/spec/endpoints/1/tls", tls)
        .push(
            "/spec/endpoints",
            json!({
                "name": "ws", "port": penstock_e2e::ports::free(), "mqtt": {"webSocket": {}},
                "tls": {"certificateSecret": {"name": "edge-tls"}},
            }),
        )
        .push(
            "/spec/routes/0/from",
            json!({"endpoint": "ws", "topicFilter": "v1/{project}/{device}/telemetry"}),
        );
    let builder = Sidecar::run(&pipeline)
        .secret("edge-tls", &pair(authority, "server"))
        .secret("devices-ca", &[("ca.crt", &authority.read("ca.crt"))]);
    (builder.start(), topic)
}

#[track_caller]
fn pair(authority: &Authority, name: &str) -> [(&'static str, &'static str); 2] {
    let leak = |file: String| &*authority.read(&file).leak();
    [("tls.crt", leak(format!("{name}.crt"))), ("tls.key", leak(format!("{name}.key")))]
}

#[test]
fn mosquitto_publishes_with_and_without_a_certificate() {
    let authority = Authority::fresh();
    authority.issue("device", "/CN=device-7", &[]);
    let (ca, certificate, key) =
        (authority.path("ca.crt"), authority.path("device.crt"), authority.path("device.key"));
    let (sidecar, topic) = sidecar("mosquitto-tls", &authority, "Optional");
    for version in [Version::V311, Version::V5] {
        let plain = mosquitto_pub(sidecar.mqtt(), version, TOPIC, &["--cafile", &ca, "-m", "anonymous"]);
        assert!(plain.status.success(), "{plain:?}");
        let shown = ["--cafile", &ca, "--cert", &certificate, "--key", &key, "-m", "known"];
        let known = mosquitto_pub(sidecar.mqtt(), version, TOPIC, &shown);
        assert!(known.status.success(), "{known:?}");
    }
    assert_eq!(Kafka::shared().read(&topic).len(), 4);
    sidecar.assert_ledger_balances();
}

#[test]
fn curl_publishes_over_http_1_and_2_with_a_certificate() {
    let authority = Authority::fresh();
    authority.issue("device", "/CN=device-7", &[]);
    let (ca, certificate, key) =
        (authority.path("ca.crt"), authority.path("device.crt"), authority.path("device.key"));
    let (sidecar, topic) = sidecar("curl-tls", &authority, "Required");
    for (option, version) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        let shown = [option, "--cacert", &ca, "--cert", &certificate, "--key", &key, "-d", option];
        let output = curl_tls(sidecar.http(), PATH, &shown);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(version), "{output:?}");
    }
    let nothing_shown = curl_tls(sidecar.http(), PATH, &["--cacert", &ca, "-d", "anonymous"]);
    assert!(!nothing_shown.status.success(), "{nothing_shown:?}");
    let texts: Vec<_> = Kafka::shared().read(&topic).iter().map(|record| record.text().to_owned()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    sidecar.assert_ledger_balances();
}

#[test]
fn paho_publishes_over_web_socket_and_tls() {
    let authority = Authority::fresh();
    let ca = authority.path("ca.crt");
    let (sidecar, topic) = sidecar("paho-wss", &authority, "None");
    for version in [Version::V311, Version::V5] {
        let options = ["--ca", &ca, "--web-socket", "/mqtt"];
        let seen = paho_publish_with(None, sidecar.listener("ws"), version, TOPIC, "wss", 300, &options);
        assert_eq!(seen["acknowledged"].as_array().unwrap().len(), 300);
    }
    let over_tls = paho_publish_with(None, sidecar.mqtt(), Version::V5, TOPIC, "tls", 300, &["--ca", &ca]);
    assert_eq!(over_tls["acknowledged"].as_array().unwrap().len(), 300);
    assert_eq!(Kafka::shared().read(&topic).len(), 900);
    sidecar.assert_ledger_balances();
}

#[test]
fn messages_of_every_size_come_out_as_they_went_in() {
    let authority = Authority::fresh();
    let (sidecar, topic) = sidecar("sizes-tls", &authority, "None");
    let identity = Identity::new(&authority, None);
    let mut client = SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, "sizes").unwrap();
    // Around the borders of reads and records.
    let sizes = [0, 1, 100, 16_000, 16_384, 16_385, 18_437, 40_000, 200_000];
    let payload = |size: usize| (0..size).map(|index| (index * 31 + size) as u8).collect::<Vec<_>>();
    for (size, id) in sizes.into_iter().zip(1..) {
        client.publish(TOPIC, &payload(size), id).unwrap();
    }
    let records = Kafka::shared().read(&topic);
    for size in sizes {
        assert!(records.iter().any(|record| record.payload == payload(size)), "{size}");
    }
    assert_eq!(records.len(), sizes.len());
}

#[test]
fn a_renewed_certificate_is_taken_over_while_fifty_clients_publish() {
    let authority = Authority::fresh();
    let (sidecar, topic) = sidecar("renewal", &authority, "None");
    let identity = Identity::new(&authority, None);
    let before = SecureClient::open(sidecar.mqtt(), &identity).unwrap().server_certificate();
    let (stop, published) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more = |what: &str| {
        let goal = published.load(Ordering::Relaxed) + 1_000;
        until(what, SOON, || (published.load(Ordering::Relaxed) >= goal).then_some(()));
    };
    let sent: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|number| {
                let (identity, stop, published, address) = (&identity, &stop, &published, sidecar.mqtt());
                scope.spawn(move || {
                    let id = format!("renewal-{number}");
                    let mut client = SecureClient::connect(address, identity, Version::V311, &id).unwrap();
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        count += 1;
                        let packet_id = (count % 60_000 + 1) as u16;
                        client.publish(TOPIC, format!("{id}-{count}").as_bytes(), packet_id).unwrap();
                        published.fetch_add(1, Ordering::Relaxed);
                    }
                    count
                })
            })
            .collect();
        more("they publish");
        authority.issue("renewed", "/CN=server", &LOCALHOST);
        sidecar.change_secret("edge-tls", &pair(&authority, "renewed"));
        let renewed = until("a handshake with the renewed certificate", SOON, || {
            let now = SecureClient::open(sidecar.mqtt(), &Identity::new(&authority, None));
            now.map(|client| client.server_certificate()).ok().filter(|now| *now != before)
        });
        assert_ne!(renewed, before);
        more("those that were there before go on");
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no client was dropped")).sum()
    });
    assert!(sent > 1_000, "{sent}");
    assert_eq!(Kafka::shared().read(&topic).len(), sent);
    sidecar.assert_ledger_balances();
}

#[test]
fn a_pair_that_cannot_be_used_leaves_the_one_before() {
    let authority = Authority::fresh();
    let (sidecar, _) = sidecar("broken-pair", &authority, "None");
    let current = r#"penstock_endpoint_certificate_current{endpoint="mqtt"}"#;
    assert!(sidecar.metric(current) > 0.0);
    authority.issue("other", "/CN=server", &LOCALHOST);
    let [(_, certificate), _] = pair(&authority, "server");
    let [_, (_, key)] = pair(&authority, "other");
    sidecar.change_secret("edge-tls", &[("tls.crt", certificate), ("tls.key", key)]);
    sidecar.wait_log("is not the key of the certificate");
    assert!(sidecar.metric(current) < 1.0);
    let identity = Identity::new(&authority, None);
    SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, "still").unwrap();
    sidecar.change_secret("edge-tls", &pair(&authority, "other"));
    until("the next pair is taken", SOON, || (sidecar.metric(current) > 0.0).then_some(()));
    SecureClient::connect(sidecar.mqtt(), &identity, Version::V5, "again").unwrap();
    assert!(!sidecar.log().contains("PRIVATE KEY"), "no key in the log");
}

//! No password, token, hash, claim or payload is in anything that Penstock writes, whatever goes wrong.
//!
//! Each secret is a marker that occurs nowhere else. All failures that there are with them are provoked; then logs at
//! debug level, metrics, ledger, status, Events, ConfigMaps and every other object but the Secrets are searched.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use penstock_e2e::clients::{curl, mosquitto_pub};
use penstock_e2e::credentials::{Issuer, argon2_line, bcrypt_line, sha256_line};
use penstock_e2e::load::wire::{Connect, Publish, Version, packet};
use penstock_e2e::raw::Raw;
use penstock_e2e::until::{SOON, START};
use penstock_e2e::{Kafka, Operator, Pipeline, Playground, Process, folder, ports, sidecar, until};
use serde_json::{Value, json};

const PASSWORD: &str = "marker-password-5e1f";
const GUESS: &str = "marker-guess-77ab";
const TOKEN: &str = "marker-token-c0de";
const LINE: &str = "marker-line-90aa";
const PAYLOAD: &str = "marker-payload-d00d";
const CLAIM: &str = "marker-claim-1c1c";
const USER: &str = "marker-user-4321";

/// Fails for each marker that is in `text`.
#[track_caller]
fn search(what: &str, text: &str, more: &[String]) {
    assert!(!text.is_empty(), "{what} is empty");
    let markers = [PASSWORD, GUESS, TOKEN, LINE, PAYLOAD, CLAIM, USER].into_iter();
    for marker in markers.chain(more.iter().map(String::as_str)) {
        assert!(!text.contains(marker), "{what} has {marker}:\n{text}");
    }
}

/// The hash of a line, and the middle of it, should somebody cut it.
fn hash_of(line: &str) -> Vec<String> {
    let hash = line.trim().split_once(':').unwrap().1;
    let last = hash.rsplit(['$', ':']).next().unwrap();
    vec![hash.to_owned(), last[4..last.len() - 4].to_owned()]
}

#[test]
fn a_sidecar_writes_no_secret_whatever_goes_wrong() {
    let kafka = Kafka::shared();
    let (topic, dead) = (kafka.create_topic("secrets", 1), kafka.create_topic("secrets-dead", 1));
    let issuer = Issuer::new();
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .dead_letter(&dead)
        .set("/spec/endpoints/0/authentication", json!({"basic": {"usersSecret": {"name": "devices"}}}))
        .set("/spec/endpoints/1/authentication", Issuer::settings(&json!({"secret": {"name": "issuer"}})))
        .push(
            "/spec/endpoints",
            json!({"name": "tokens", "port": ports::free(), "http": {},
            "authentication": {"token": {"tokensSecret": {"name": "devices"}}}}),
        )
        .set("/spec/routes/0/allow", json!({"device": "{identity}"}))
        .set("/spec/routes/0/validation/jsonSchema/configMap", json!({"name": "schemas", "key": "t.json"}));
    let users = [
        bcrypt_line(USER, PASSWORD, 4),
        argon2_line("press-2", PASSWORD, 64, 1),
        sha256_line("press-3", PASSWORD),
    ];
    let tokens = sha256_line(USER, TOKEN);
    let folder = folder::fresh("secrets-");
    let write = |path: &str, contents: &str| {
        let file = folder.path().join("references").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, contents).unwrap();
    };
    write("secrets/devices/users", &users.concat());
    write("secrets/devices/tokens", &tokens);
    write("secrets/issuer/jwks.json", &issuer.jwks());
    write("configmaps/schemas/t.json", r#"{"type": "object", "required": ["t"]}"#);
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline.to_string()).unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let admin_text = admin.to_string();
    let arguments = ["run", "-f", "pipeline.yaml", "--admin", &admin_text, "--references", "references"];
    let environment = [("PENSTOCK_LOG", "debug")];
    let process = Process::start_with("sidecar", folder.path(), sidecar::binary(), arguments, &environment);
    let get = |path: &str| curl(admin, path, &[]);
    until("it listens", START, || std::net::TcpStream::connect(admin).ok());
    until("it is ready", START, || (get("/readyz").status == 200).then_some(()));
    let at = |index: usize| {
        let port = pipeline.value()["spec"]["endpoints"][index]["port"].as_u64().unwrap();
        SocketAddr::from(([127, 0, 0, 1], port as u16))
    };
    let (mqtt, rest, by_token) = (at(0), at(1), at(2));

    // What is right, and right credentials for what is not allowed, not valid, or not asked for.
    let own = format!("v1/p/{USER}/telemetry");
    for (topic, password) in
        [(own.as_str(), PASSWORD), (&own, GUESS), ("v1/p/other/telemetry", PASSWORD), ("no/route", PASSWORD)]
    {
        for version in [Version::V311, Version::V5] {
            mosquitto_pub(mqtt, version, topic, &["-u", USER, "-P", password, "-m", PAYLOAD]);
        }
    }
    for user in ["press-2", "press-3"] {
        let topic = format!("v1/p/{user}/telemetry");
        mosquitto_pub(mqtt, Version::V5, &topic, &["-u", user, "-P", PASSWORD, "-m", PAYLOAD]);
    }
    // A CONNECT that is broken behind its password, one that is too large, and a Will.
    let connect = Connect::new(Version::V5, "broken").login(USER, PASSWORD).encode();
    let mut body = connect[2..].to_vec();
    body.extend_from_slice(GUESS.as_bytes());
    let mut raw = Raw::open(mqtt);
    raw.send(&packet(0x10, &body));
    raw.is_closed_within(SOON);
    let large = Connect::new(Version::V5, "large").login(USER, PASSWORD.repeat(900)).encode();
    let mut raw = Raw::open(mqtt);
    raw.send(&large);
    raw.is_closed_within(SOON);
    let mut will = Connect::new(Version::V5, "will").login(USER, PASSWORD);
    will.will = Some(("v1/p/other/telemetry".to_owned(), PAYLOAD.as_bytes().to_vec(), 1));
    Raw::mqtt_with(mqtt, &will);
    let (mut raw, _) = Raw::mqtt_with(mqtt, &Connect::new(Version::V5, "long").login(USER, PASSWORD));
    raw.send(&Publish::new(Version::V5, &own, PAYLOAD.as_bytes(), 1).encode());
    raw.packet();

    let jwt = issuer.token(USER, 600, &json!({"project": CLAIM}));
    let old = issuer.token(USER, 0, &json!({"exp": 1, "project": CLAIM}));
    let other = Issuer::new().token(USER, 600, &json!({"project": CLAIM}));
    let path = format!("/v1/p/{USER}/telemetry");
    for (server, token) in [
        (rest, jwt.as_str()),
        (rest, &old),
        (rest, &other),
        (rest, GUESS),
        (by_token, TOKEN),
        (by_token, GUESS),
    ] {
        for path in [path.as_str(), "/v1/p/other/telemetry", "/no/route"] {
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                let header = format!("Authorization: Bearer {token}");
                curl(server, path, &[version, "-H", &header, "-d", PAYLOAD]);
            }
        }
    }
    for header in [
        format!("Authorization: Basic {TOKEN}"),
        format!("Authorization: {TOKEN}"),
        format!("Authorization:{GUESS} x"),
    ] {
        curl(by_token, &path, &["-H", &header, "-d", PAYLOAD]);
    }
    let mut raw = Raw::open(by_token);
    raw.send(
        format!("POST /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nbroken {GUESS}\r\n\r\n")
            .as_bytes(),
    );
    raw.is_closed_within(SOON);

    // Files that cannot be used, and a user that is taken away.
    write("secrets/devices/users", &format!("{LINE}:{LINE}\n"));
    write("secrets/devices/tokens", &format!("{LINE}\n"));
    write("secrets/issuer/jwks.json", &format!("{{\"keys\": [{{\"kty\": \"{LINE}\"}}, {LINE}]}}"));
    until("broken files are told", Duration::from_secs(30), || {
        (process.log().matches("credentials cannot be used").count() == 3).then_some(())
    });
    write("secrets/devices/users", &sha256_line("press-9", PASSWORD));
    until("the user is gone", Duration::from_secs(30), || {
        let connect = Connect::new(Version::V5, "gone").login(USER, PASSWORD);
        let (_, packet) = Raw::mqtt_with(mqtt, &connect);
        format!("{packet:?}").contains("code: 134").then_some(())
    });

    let mut more: Vec<String> = users.iter().chain([&tokens]).flat_map(|line| hash_of(line)).collect();
    for token in [&jwt, &old, &other] {
        more.extend(token.split('.').skip(1).map(str::to_owned));
    }
    search("the log", &process.log(), &more);
    for path in ["/metrics", "/ledger", "/readyz", "/livez"] {
        search(path, &get(path).body, &more);
    }
    assert!(process.log().contains("an MQTT connection ended"), "the log is at debug level");
    let stored = kafka.read(&dead);
    assert!(stored.iter().any(|record| record.text().contains(PAYLOAD)), "what is searched for can be found");
    for record in stored {
        let headers =
            format!("{:?} {:?}", record.header("penstock_detail"), record.header("penstock_reason"));
        search("headers of a dead letter", &headers, &more);
    }
}

#[test]
fn an_operator_writes_no_secret_whatever_goes_wrong() {
    let ground = Playground::start();
    let api = &ground.api;
    let operator = Operator::start_with(api, &[]);
    let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "devices", "namespace": "iot"}, "stringData": data});
    let pipeline = ground
        .pipeline("secrets")
        .set("/spec/endpoints/0/authentication", json!({"basic": {"usersSecret": {"name": "devices"}}}))
        .set("/spec/endpoints/1/authentication", Issuer::settings(&json!({"secret": {"name": "devices"}})));
    let users = bcrypt_line(USER, PASSWORD, 4);
    api.apply(&pipeline);
    api.wait_condition("secrets", "Reconciling", "True/ReferenceNotFound");
    api.apply(secret(json!({"users": format!("{users}{LINE}"), "jwks.json": LINE})));
    api.wait_condition("secrets", "Reconciling", "True/ReferenceUnusable");
    api.apply(secret(json!({"users": users, "jwks.json": format!("{{\"keys\": \"{LINE}\"}}")})));
    until("the keys are told of", SOON, || {
        api.object("ipl", "secrets")?.to_string().contains("JSON Web Key Set").then_some(())
    });
    api.apply(secret(json!({"users": users, "jwks.json": Issuer::new().jwks()})));
    api.wait_condition("secrets", "Ready", "True/Available");
    let more = hash_of(&users);
    search("the log", &operator.log(), &more);
    search("metrics", &operator.admin("/metrics").unwrap(), &more);
    for kind in ["ipl", "event", "configmap", "deployment", "service", "networkpolicy"] {
        search(kind, &json!(api.objects(kind)).to_string(), &more);
    }
    let secrets = json!(api.objects("secret")).to_string();
    assert!(secrets.contains(USER), "what is searched for can be found");
}

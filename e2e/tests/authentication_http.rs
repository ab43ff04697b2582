//! Who may send over HTTP: credentials come before everything else, and where they let somebody send is checked before
//! the body is read.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::clients::curl;
use penstock_e2e::credentials::{Issuer, argon2_line, bcrypt_line, sha256_line};
use penstock_e2e::raw::{Raw, Response};
use penstock_e2e::until::SOON;
use penstock_e2e::{Kafka, Pipeline, Sidecar, until};
use serde_json::json;

const PATH: &str = "/v1/p/press-1/telemetry";
const USERS: &str = "secrets/devices/users";

/// The pipeline with authentication on its HTTP endpoint, where a device may only send as itself.
fn pipeline(
    purpose: &str,
    authentication: serde_json::Value,
    allow: serde_json::Value,
) -> (Pipeline, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 3);
    let pipeline = Pipeline::telemetry(kafka, &topic)
        .set("/spec/endpoints/1/authentication", authentication)
        .set("/spec/routes/0/from", json!([{"endpoint": "rest", "path": "/v1/{project}/{device}/telemetry"}]))
        .set("/spec/routes/0/allow", allow);
    (pipeline, topic)
}

fn basic() -> serde_json::Value {
    json!({"basic": {"usersSecret": {"name": "devices"}}})
}

fn problem(response: &Response, status: u16, slug: &str) {
    let problem = response.assert_problem(status);
    assert_eq!(problem["type"], format!("https://penstock.dev/problems/{slug}"));
}

#[test]
fn a_user_sends_with_any_kind_of_hash_and_only_as_itself() {
    let (pipeline, topic) = pipeline("hashes", basic(), json!({"device": "{identity}"}));
    let users = [
        bcrypt_line("press-1", "b-secret", 6),
        argon2_line("press-2", "a-secret", 1_024, 2),
        sha256_line("press-3", "s-secret"),
    ];
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &users.concat()).start();
    for (number, password) in [(1, "b-secret"), (2, "a-secret"), (3, "s-secret")] {
        let path = format!("/v1/p/press-{number}/telemetry");
        let login = format!("press-{number}:{password}");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let response = curl(sidecar.http(), &path, &[version, "-u", &login, "-d", &login]);
            assert_eq!(response.status, 200, "{response:?}");
            let response =
                curl(sidecar.http(), "/v1/p/press-9/telemetry", &[version, "-u", &login, "-d", "x"]);
            problem(&response, 403, "not-allowed");
        }
        let wrong = format!("press-{number}:guess");
        let response = curl(sidecar.http(), &path, &["-u", &wrong, "-d", "x"]);
        problem(&response, 401, "not-authenticated");
        assert_eq!(response.header("connection"), Some("close"), "a guess costs a connection");
    }
    assert_eq!(Kafka::shared().read(&topic).len(), 6);
    let ledger = sidecar.assert_ledger_balances();
    assert_eq!(ledger["total"]["refused"], 9, "{ledger}");
    assert_eq!(ledger["total"]["deadLettered"], 0, "{ledger}");
}

#[test]
fn whoever_shows_nothing_is_asked_before_anything_is_looked_at() {
    let (pipeline, _) = pipeline("asked", basic(), json!({"device": "{identity}"}));
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &sha256_line("press-1", "secret")).start();
    for (path, arguments) in [
        (PATH, &["-d", "x"][..]),
        ("/no/such/route", &["-d", "x"]),
        (PATH, &["-X", "GET"]),
        ("/%zz", &["-d", "x"]),
    ] {
        let response = curl(sidecar.http(), path, arguments);
        problem(&response, 401, "not-authenticated");
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"penstock\", charset=\"UTF-8\""));
    }
    let response = curl(sidecar.http(), PATH, &["--anyauth", "-u", "press-1:secret", "-d", "x"]);
    assert_eq!(response.status, 401, "the first of the two answers that curl prints");
}

#[test]
fn the_answer_comes_before_the_body() {
    let (pipeline, _) = pipeline("early", basic(), json!({"device": "{identity}"}));
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &sha256_line("press-1", "secret")).start();
    let login = "Authorization: Basic cHJlc3MtMTpzZWNyZXQ=\r\n";
    for (path, login, status) in [(PATH, "", 401), ("/v1/p/press-2/telemetry", login, 403)] {
        let mut raw = Raw::open(sidecar.http());
        raw.send(
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{login}Content-Length: 200000\r\n\r\n").as_bytes(),
        );
        assert_eq!(raw.response().status, status, "{path}");
        let held = penstock_e2e::until::SOON;
        assert!(raw.is_closed_within(held), "nothing more is read");
    }
}

#[test]
fn a_sender_that_has_not_shown_who_it_is_is_read_16_kib_of() {
    let (pipeline, _) = pipeline("unread", basic(), json!({"device": "{identity}"}));
    // A slow hash, so that there is time to send while it is computed.
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &bcrypt_line("press-1", "secret", 12)).start();
    let mut raw = Raw::open(sidecar.http());
    let login = "Authorization: Basic cHJlc3MtMTpzZWNyZXQ=\r\n";
    raw.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{login}Content-Length: 200000\r\n\r\n").as_bytes());
    raw.send(&[b'x'; 200_000]);
    assert_eq!(raw.response().status, 200, "what was sent meanwhile is read afterwards");
}

#[test]
fn a_json_web_token_says_who_and_where() {
    let issuer = Issuer::new();
    let settings = Issuer::settings(&json!({"configMap": {"name": "issuer"}}));
    let (pipeline, topic) =
        pipeline("claims", settings, json!({"project": "{claims.projects}", "device": "{identity}"}));
    let sidecar = Sidecar::run(&pipeline).reference("configmaps/issuer/jwks.json", &issuer.jwks()).start();
    let send = |path: &str, token: &str| {
        curl(sidecar.http(), path, &["-H", &format!("Authorization: Bearer {token}"), "-d", path])
    };
    let token = issuer.token("press-1", 600, &json!({"projects": ["p", "q"]}));
    for (path, status) in [
        (PATH, 200),
        ("/v1/q/press-1/telemetry", 200),
        ("/v1/other/press-1/telemetry", 403),
        ("/v1/p/press-2/telemetry", 403),
        // A capture that cannot be used is not one that somebody is allowed.
        ("/v1//press-1/telemetry", 403),
    ] {
        assert_eq!(send(path, &token).status, status, "{path}");
    }
    assert_eq!(send(PATH, &issuer.token("press-1", 600, &json!({}))).status, 403, "without the claim");
    for wrong in [
        issuer.token("press-1", 600, &json!({"projects": "p", "aud": "other"})),
        Issuer::new().token("press-1", 600, &json!({"projects": "p"})),
        issuer.token("press-1", 0, &json!({"projects": "p", "exp": 1_700_000_000})),
        format!("{}x", issuer.token("press-1", 600, &json!({"projects": "p"}))),
    ] {
        let response = send(PATH, &wrong);
        problem(&response, 401, "not-authenticated");
        assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"penstock\""));
    }
    let nameless = issuer.token("press-1", 600, &json!({"projects": "p", "sub": null}));
    problem(&send(PATH, &nameless), 403, "not-allowed");
    assert_eq!(Kafka::shared().read(&topic).len(), 2);
    // One that was right before is wrong when its time is over, although it is remembered.
    let short = issuer.token("press-1", 3, &json!({"projects": "p"}));
    assert_eq!(send(PATH, &short).status, 200);
    until("the token to end", SOON, || (send(PATH, &short).status == 401).then_some(()));
}

#[test]
fn what_is_not_allowed_is_not_dead_lettered() {
    let (pipeline, _) = pipeline("not-dead", basic(), json!({"device": "{identity}"}));
    let dead = Kafka::shared().create_topic("not-dead-letters", 1);
    let sidecar = Sidecar::run(&pipeline.dead_letter(&dead))
        .reference(USERS, &sha256_line("press-1", "secret"))
        .start();
    for path in ["/v1/p/press-2/telemetry", "/v1/p//telemetry"] {
        assert_eq!(curl(sidecar.http(), path, &["-u", "press-1:secret", "-d", "x"]).status, 403, "{path}");
    }
    assert!(Kafka::shared().read(&dead).is_empty());
}

#[test]
fn a_changed_secret_is_taken_over_and_a_broken_one_is_not() {
    let (pipeline, _) = pipeline("changed", basic(), json!({}));
    let users = bcrypt_line("press-1", "old", 6);
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &users).start();
    let status = |login: &str| curl(sidecar.http(), PATH, &["-u", login, "-d", "x"]).status;
    assert_eq!(status("press-1:old"), 200);
    sidecar.change_reference(USERS, "press-1:not a hash\n");
    sidecar.wait_log("line 1: has no hash that is known");
    assert!(sidecar.metrics().contains("penstock_credentials_broken{endpoint=\"rest\"} 1"));
    assert_eq!(status("press-1:old"), 200, "the credentials before hold on");
    sidecar.change_reference(USERS, &bcrypt_line("press-1", "new", 6));
    until("the new password", Duration::from_secs(20), || (status("press-1:new") == 200).then_some(()));
    assert_eq!(status("press-1:old"), 401, "what was remembered ended with its line");
    assert!(sidecar.metrics().contains("penstock_credentials_broken{endpoint=\"rest\"} 0"));
}

#[test]
fn a_guesser_is_slowed_down_and_others_are_not() {
    let (pipeline, _) = pipeline("guesser", basic(), json!({}));
    let users = [bcrypt_line("press-1", "secret", 6), sha256_line("press-2", "machine")].concat();
    let sidecar = Sidecar::run(&pipeline).reference(USERS, &users).start();
    let send = |login: &str| curl(sidecar.http(), PATH, &["-u", login, "-d", "x"]);
    assert_eq!(send("press-1:secret").status, 200);
    let answers: Vec<_> = (0..40).map(|guess| send(&format!("press-1:{guess}"))).collect();
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!limited.is_empty() && answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    problem(limited[0], 429, "too-many-failures");
    assert_eq!(limited[0].header("retry-after"), Some("2"));
    assert_eq!(send("press-1:secret").status, 200, "what was right lately is remembered");
    assert_eq!(send("press-2:machine").status, 200, "what costs nothing is looked at");
    sidecar.wait_log("too many failed attempts from this address");
}

#[test]
fn a_sidecar_without_credentials_is_not_ready_and_asks_to_come_back() {
    let (pipeline, _) = pipeline("without", basic(), json!({}));
    let sidecar = Sidecar::run(&pipeline).reference("secrets/devices/other", "x").not_ready().start();
    let response = curl(sidecar.http(), PATH, &["-u", "press-1:secret", "-d", "x"]);
    problem(&response, 503, "credentials-busy");
    assert!(response.header("retry-after").is_some());
    assert!(!sidecar.is_ready());
    sidecar.change_reference(USERS, &sha256_line("press-1", "secret"));
    until("it to be ready", Duration::from_secs(30), || sidecar.is_ready().then_some(()));
    assert_eq!(curl(sidecar.http(), PATH, &["-u", "press-1:secret", "-d", "x"]).status, 200);
}

#[test]
fn an_open_endpoint_says_so() {
    let (pipeline, _) = pipeline("open", basic(), json!({}));
    let sidecar = Sidecar::run(&pipeline).reference(USERS, "").start();
    let log = sidecar.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("the endpoint is open")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("mqtt"), "{log}");
}

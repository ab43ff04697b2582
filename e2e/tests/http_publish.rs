//! What an HTTP sender gets: 200 with the place where its message is, or a problem that says why not.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl;
use penstock_e2e::raw::Raw;
use penstock_e2e::until::SOON;
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const PATH: &str = "/v1/p/d/telemetry";

fn sidecar(purpose: &str) -> (Sidecar, String) {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic(purpose, 6);
    (Sidecar::run(&Pipeline::telemetry(kafka, &topic)).start(), topic)
}

#[test]
fn a_receipt_names_the_place_of_the_message() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("receipts");
    for arguments in [
        &["-d", "posted"][..],
        &["-X", "PUT", "-d", "put"],
        &["--http2-prior-knowledge", "-d", "over h2c"],
        &["-H", "Transfer-Encoding: chunked", "-d", "chunked"],
    ] {
        let response = curl(sidecar.http(), PATH, arguments);
        assert_eq!(response.status, 200, "{response:?}");
        let receipt = response.json();
        let records = kafka.read(&topic);
        let record = records.iter().find(|record| record.header("ce_id") == receipt["id"].as_str()).unwrap();
        assert_eq!(record.text(), *arguments.last().unwrap());
        assert_eq!(receipt["topic"], topic.as_str());
        assert_eq!(receipt["partition"], record.partition);
        assert_eq!(receipt["offset"], record.offset);
        assert_eq!(record.key(), Some("p/d"));
        assert_eq!(record.header("ce_subject"), Some(PATH));
    }
    assert_eq!(kafka.read(&topic).len(), 4);
    sidecar.assert_ledger_balances();
}

#[test]
fn headers_of_the_sender_are_kept_and_secrets_are_not() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("kept");
    let response = curl(
        sidecar.http(),
        PATH,
        &[
            "-d",
            "x",
            "-H",
            "Content-Type: application/json",
            "-H",
            "Idempotency-Key: \"reading-9\"",
            "-H",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "-H",
            "Authorization: Bearer s3cret",
            "-H",
            "Cookie: session=s3cret",
            "-H",
            "ce_type: forged",
        ],
    );
    assert_eq!(response.json()["id"], "reading-9", "{response:?}");
    let records = kafka.read(&topic);
    let record = &records[0];
    assert_eq!(record.header("content-type"), Some("application/json"));
    assert_eq!(record.header("ce_id"), Some("reading-9"));
    assert_eq!(record.header("ce_type"), Some("dev.penstock.message"));
    assert!(record.header("traceparent").is_some());
    assert!(!format!("{record:?}").contains("s3cret"), "{record:?}");
    assert!(!sidecar.log().contains("s3cret"));
}

#[test]
fn each_refusal_is_a_problem_with_its_status() {
    let (sidecar, topic) = sidecar("problems");
    let folder = penstock_e2e::folder::fresh("http-");
    let file = folder.path().join("large");
    std::fs::write(&file, "x".repeat(300_000)).unwrap();
    let large = format!("@{}", file.display());
    let cases: [(&str, &[&str], u16); 5] = [
        ("/elsewhere", &["-d", "x"], 404),
        ("/v1//d/telemetry", &["-d", "x"], 400),
        ("/v1/a%2Fb/d/telemetry", &["-d", "x"], 400),
        (PATH, &["-X", "DELETE"], 405),
        (PATH, &["--data-binary", &large], 413),
    ];
    let mut types = Vec::new();
    for (path, arguments, status) in cases {
        let problem = curl(sidecar.http(), path, arguments).assert_problem(status);
        types.push(problem["type"].as_str().unwrap().to_owned());
    }
    types.dedup();
    assert!(types.len() >= 4, "each cause has a type of its own: {types:?}");
    assert_eq!(curl(sidecar.http(), PATH, &["-X", "GET"]).header("allow"), Some("POST, PUT"));
    assert_eq!(Kafka::shared().read(&topic).len(), 0);
    sidecar.assert_ledger_balances();
}

#[test]
fn pipelined_requests_are_stored_and_answered_in_order() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("pipelined");
    let mut raw = Raw::open(sidecar.http());
    for number in 0..20 {
        raw.send(
            format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{number:02}").as_bytes(),
        );
    }
    let mut offsets = Vec::new();
    for _ in 0..20 {
        let response = raw.response();
        assert_eq!(response.status, 200, "{response:?}");
        offsets.push(response.json()["offset"].as_i64().unwrap());
    }
    assert!(offsets.is_sorted(), "{offsets:?}");
    let texts: Vec<_> = kafka.read(&topic).iter().map(|record| record.text().to_owned()).collect();
    assert_eq!(texts, (0..20).map(|number| format!("{number:02}")).collect::<Vec<_>>());
}

#[test]
fn http_1_and_2_under_load_keep_the_contract() {
    let kafka = Kafka::shared();
    let (sidecar, topic) = sidecar("load");
    let one = sidecar.http_load().clients(8).devices(2).messages(100).rate(2_000).start();
    let two = sidecar.http2_load().clients(8).devices(2).messages(100).rate(2_000).start();
    let mut history = one.complete(SOON * 2);
    history.merge(two.complete(SOON * 2));
    assert_eq!(history.acknowledged(), 1_600);
    check(&history, &kafka.read(&topic)).assert_kept();
    sidecar.assert_ledger_balances();
}

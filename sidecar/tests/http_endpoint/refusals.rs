//! Every refusal that the sender causes, by its documented type.

use crate::fixture::{Edge, MAX_MESSAGE_BYTES, Plan};

const PATH: &str = "/in/v1/p/d/telemetry";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_message_is_said_and_the_connection_goes_on() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    let cases: &[(&str, &str, &[u8], u16, &str)] = &[
        ("/in/v1/p/d", "", b"x", 404, "no-route"),
        ("/v1/p/d/telemetry", "", b"x", 404, "no-route"),
        ("/in/v1/p/d/telemetry/", "", b"x", 404, "no-route"),
        ("/in/v1/p%2Fq/d", "", b"x", 404, "no-route"),
        ("/in/v1//d/telemetry", "", b"x", 400, "unclean-capture"),
        ("/in/v1/p%2Fq/d/telemetry", "", b"x", 400, "unclean-capture"),
        ("/in/v1/p%00/d/telemetry", "", b"x", 400, "unclean-capture"),
        ("/in/v1/p%23/d/telemetry", "", b"x", 400, "unclean-capture"),
        ("/in/v1/p%zz/d/telemetry", "", b"x", 400, "malformed-path"),
        ("/in/v1/p%ff/d/telemetry", "", b"x", 400, "malformed-path"),
        (PATH, "ce-id: a\r\nIdempotency-Key: b\r\n", b"x", 400, "malformed-id"),
        (PATH, "ce-id: \r\n", b"x", 400, "malformed-id"),
        ("/in/checked/d", "", b"{}", 400, "schema"),
        ("/in/checked/d", "", b"no json", 400, "schema"),
        ("/in/checked/d", "Content-Encoding: gzip\r\n", b"\x1f\x8b", 415, "coded-payload"),
    ];
    for &(path, fields, body, status, slug) in cases {
        client.post(path, fields, body).await.is_problem(status, slug);
    }
    client.post("/in/checked/d", "", br#"{"t": 1}"#).await.is_receipt();
    drop(client);
    let columns = edge.settle().await;
    assert_eq!((columns.refused, columns.acknowledged), (cases.len() as u64, 1), "no dead letter for HTTP");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_send_no_message() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    for method in ["GET", "DELETE", "OPTIONS", "PATCH", "CONNECT_"] {
        client.send(format!("{method} {PATH} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = client.answer().await;
        answer.is_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some("POST, PUT"));
        client.send(format!("{method} /in/nothing HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.answer().await.is_problem(404, "no-route");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.answer().await.is_problem(404, "no-route");
    drop(client);
    assert_eq!(edge.settle().await.received, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_gets_the_fields_only() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    client.send(format!("HEAD {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client.stream, &mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 405 ") && text.ends_with("\r\n\r\n"), "{text}");
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_before_it_is_read() {
    let edge = Edge::start(Plan::default()).await;
    let too_large = MAX_MESSAGE_BYTES + 1;
    let mut client = edge.connect().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {too_large}\r\n");
    client.send(format!("{head}Expect: 100-continue\r\n\r\n")).await;
    let answer = client.answer().await;
    answer.is_problem(413, "too-large");
    assert_eq!(answer.header("connection"), Some("close"));
    client.closes().await;

    // A client that sends all the same gets to read the answer.
    let mut client = edge.connect().await;
    client.send(format!("{head}\r\n")).await;
    client.send(vec![b'x'; too_large as usize]).await;
    client.answer().await.is_problem(413, "too-large");
    client.closes().await;

    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    client.send(format!("{too_large:x}\r\n")).await;
    client.send(vec![b'x'; too_large as usize]).await;
    let answer = client.answer().await;
    answer.is_problem(413, "too-large");
    assert_eq!(answer.header("connection"), Some("close"));
    client.closes().await;

    let mut client = edge.connect().await;
    client.post(PATH, "", &vec![b'x'; MAX_MESSAGE_BYTES as usize]).await.is_receipt();
    drop(client);
    let columns = edge.settle().await;
    assert_eq!((columns.refused, columns.acknowledged), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_body_sends_no_continue() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    client
        .send("POST /in/nothing HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    client.answer().await.is_problem(404, "no-route");
    client.closes().await;
    assert_eq!(edge.settle().await.refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    let field = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
    client.post(PATH, &field(8_000), b"x").await.is_receipt();
    client.post(PATH, &field(9_000), b"x").await.is_problem(431, "head-too-large");
    client.post(PATH, "", b"x").await.is_receipt();
    for fields in [field(20_000), "a: b\r\n".repeat(101)] {
        client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{fields}")).await;
        client.answer().await.is_problem(431, "head-too-large");
        client.closes().await;
        client = edge.connect().await;
    }
    drop(client);
    let columns = edge.settle().await;
    assert_eq!((columns.refused, columns.acknowledged), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_must_say_the_length() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.0\r\nConnection: keep-alive\r\n\r\nhello")).await;
    client.answer().await.is_problem(411, "length-required");
    client.closes().await;
    assert_eq!(edge.settle().await.refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_became_a_request_is_not_counted() {
    let edge = Edge::start(Plan::default()).await;
    let framed = |fields: &str| format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{fields}\r\n0\r\n\r\n");
    for text in [
        "nonsense\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01".to_owned(),
        "POST / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
        format!("POST {PATH} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"),
        framed("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        framed("Transfer-Encoding: gzip, chunked\r\n"),
        framed("Content-Length: 5\r\nContent-Length: 6\r\n"),
    ] {
        let mut client = edge.connect().await;
        client.send(text).await;
        let answer = client.answer().await;
        answer.is_problem(400, "malformed-head");
        assert_eq!(answer.header("connection"), Some("close"));
        client.closes().await;
    }
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")).await;
    client.answer().await.is_problem(400, "malformed-body");
    client.closes().await;
    assert_eq!(edge.settle().await.received, 1, "the last one was a request");
}

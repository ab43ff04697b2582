//! HTTP/1: receipts, records, order, and what happens when Kafka or the client is away.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::fixture::{Edge, PATIENCE, Plan, TOPIC, until};

const PATH: &str = "/in/v1/p/d/telemetry";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_with_the_place_where_it_is_stored() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    for offset in 0..3 {
        let receipt = client.post(PATH, "", b"hello").await.is_receipt();
        assert_eq!(receipt["offset"], offset);
        let version = receipt["id"].as_str().and_then(|id| id.chars().nth(14));
        assert_eq!(version, Some('7'), "{receipt}");
    }
    let receipt =
        client.post(&format!("{PATH}?query=ignored"), "Idempotency-Key: \"k-1\"\r\n", b"").await.is_receipt();
    assert_eq!(receipt["id"], "k-1");
    drop(client);
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.acknowledged), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_the_payload_as_it_came_and_what_the_sender_said() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    let payload = [0, 255, b'\r', b'\n', b'{'];
    let fields = "ce-id: a%20b\r\nce-source: /sensors\r\nce-sequence: 7\r\nContent-Type: application/x\r\n\
                  Content-Encoding: gzip\r\nAuthorization: Bearer secret\r\nCookie: secret\r\n\
                  traceparent: 00-1-2-01\r\npenstock-header-firmware: 1.2\r\nce_id: forged\r\n";
    let before = penstock_sidecar::intake::unix_millis();
    client.post("/in/v1/p%20q/d/telemetry", fields, &payload).await.is_receipt();
    let after = penstock_sidecar::intake::unix_millis();
    let record = Record::read(&edge.mock.bootstrap_servers());
    assert_eq!(record.payload, payload);
    assert_eq!(record.key, b"p q/d");
    assert!(record.timestamp.is_some_and(|arrival| (before..=after).contains(&arrival)));
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "a b"),
        ("ce_source", "/iot/test/http"),
        ("ce_type", "dev.penstock.message"),
        ("ce_subject", "/in/v1/p%20q/d/telemetry"),
        ("ce_sendersource", "/sensors"),
        ("ce_sequence", "7"),
        ("content-type", "application/x"),
        ("content-encoding", "gzip"),
        ("traceparent", "00-1-2-01"),
        ("firmware", "1.2"),
    ];
    let expected: HashMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(record.headers, expected);
    drop(client);
    edge.settle().await;
}

struct Record {
    key: Vec<u8>,
    payload: Vec<u8>,
    timestamp: Option<i64>,
    headers: HashMap<String, String>,
}

impl Record {
    /// The first record of the topic.
    fn read(bootstrap_servers: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("group.id", "test")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
        consumer.assign(&partitions).unwrap();
        let message = consumer.poll(PATIENCE).expect("a record in time").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            key: message.key().unwrap().to_vec(),
            payload: message.payload().unwrap().to_vec(),
            timestamp: message.timestamp().to_millis(),
            headers: message
                .headers()
                .unwrap()
                .iter()
                .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
                .collect(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_messages_are_answered_in_order() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    let request = |number: usize| {
        format!("PUT {PATH} HTTP/1.1\r\nHost: x\r\nce-id: m{number}\r\nContent-Length: 3\r\n\r\nabc")
    };
    // More than is read at once, so heads and bodies are cut in all places.
    let requests: String = (0..300).map(request).collect();
    client.send(requests).await;
    for number in 0..300 {
        let receipt = client.answer().await.is_receipt();
        assert_eq!(receipt["id"], format!("m{number}"));
        assert_eq!(receipt["offset"], number);
    }
    drop(client);
    assert_eq!(edge.settle().await.acknowledged, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_one_message() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n");
    client.send(head).await;
    for _ in 0..5 {
        client.send(format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000))).await;
    }
    client.send("0\r\na: b\r\n\r\n").await;
    client.answer().await.is_receipt();
    assert_eq!(Record::read(&edge.mock.bootstrap_servers()).payload.len(), 50_000);
    // The connection goes on, also with a body that comes in pieces.
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n")).await;
    for _ in 0..4 {
        client.send(&"y".repeat(10_000)).await;
    }
    client.answer().await.is_receipt();
    drop(client);
    assert_eq!(edge.settle().await.acknowledged, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_the_same_however_they_are_cut() {
    let edge = Edge::start(Plan::default()).await;
    let requests = [
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nce-id: a\r\nContent-Length: 5\r\n\r\nhello"),
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nce-id: b\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\na: b\r\n\r\n"
        ),
        format!("PUT {PATH} HTTP/1.1\r\nHost: x\r\nce-id: c\r\n\r\n"),
        format!("POST http://x{PATH}?q HTTP/1.1\r\nHost: x\r\nce-id: d\r\nContent-Length: 1\r\n\r\n."),
    ];
    let all = requests.concat();
    let mut stored = 0;
    for step in [1, 2, 3, 7, 16, 61, 97, 150, all.len()] {
        let mut client = edge.connect().await;
        client.stream.set_nodelay(true).unwrap();
        for part in all.as_bytes().chunks(step) {
            client.send(part).await;
            tokio::task::yield_now().await;
        }
        for id in ["a", "b", "c", "d"] {
            let receipt = client.answer().await.is_receipt();
            assert_eq!(receipt["id"], id, "in parts of {step}");
            assert_eq!(receipt["offset"], stored);
            stored += 1;
        }
    }
    assert_eq!(edge.settle().await.acknowledged, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_a_date_and_says_whether_the_connection_goes_on() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    let answer = client.post(PATH, "", b"x").await;
    answer.is_receipt();
    let date = answer.header("date").unwrap();
    let told = httpdate::parse_http_date(date).expect("as RFC 9110 §5.6.7 writes it");
    assert!(told.elapsed().unwrap() < Duration::from_secs(60), "{date}");
    assert_eq!(answer.header("connection"), None);
    let answer = client.post(PATH, "Connection: close\r\n", b"x").await;
    answer.is_receipt();
    assert_eq!(answer.header("connection"), Some("close"));
    client.closes().await;

    let mut client = edge.connect().await;
    for _ in 0..2 {
        client
            .send(format!("POST {PATH} HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello"))
            .await;
        let answer = client.answer().await;
        answer.is_receipt();
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    drop(client);
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_is_answered_before_the_body() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    client
        .send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    client.answer().await.is_receipt();
    // Who does not wait is not asked.
    client.post(PATH, "Expect: 100-continue\r\n", b"x").await.is_receipt();
    drop(client);
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_is_served_and_closed() {
    let edge = Edge::start(Plan::default()).await;
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")).await;
    client.answer().await.is_receipt();
    client.closes().await;
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_the_sender_is_told_to_try_again() {
    let edge = Edge::start(Plan { ack_timeout: Duration::from_millis(300), ..Plan::default() }).await;
    edge.mock.broker_down(-1).unwrap();
    let mut client = edge.connect().await;
    for _ in 0..2 {
        client.post(PATH, "", b"hello").await.is_problem(503, "ack-timeout");
    }
    let columns = edge.columns();
    assert_eq!((columns.received, columns.refused, columns.in_flight), (2, 2, 0));
    assert!(edge.intake.budget().used_messages() == 2, "they hold their budget until their reports");
    edge.mock.broker_up(-1).unwrap();
    until("the reports come late", || edge.columns().late_reports == 2).await;
    client.post(PATH, "", b"hello").await.is_receipt();
    drop(client);
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.refused, columns.acknowledged), (3, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_abandons_its_message() {
    let edge = Edge::start(Plan::default()).await;
    edge.mock.broker_down(-1).unwrap();
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")).await;
    until("it is in flight", || edge.columns().in_flight == 1).await;
    drop(client);
    until("it is abandoned", || edge.columns().abandoned == 1).await;
    // One that leaves in the middle of its body has sent no message.
    let held = edge.intake.budget().used_bytes();
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")).await;
    until("its body is in the budget", || edge.intake.budget().used_bytes() > held).await;
    drop(client);
    edge.mock.broker_up(-1).unwrap();
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.abandoned, columns.late_reports), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_told_to_leave_finishes_and_closes() {
    let edge = Edge::start(Plan::default()).await;
    let mut idle = edge.connect().await;
    idle.post(PATH, "", b"hello").await.is_receipt();
    let silent = edge.connect().await;
    let mut busy = edge.connect().await;
    edge.mock.broker_down(-1).unwrap();
    busy.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")).await;
    until("it is in flight", || {
        let columns = edge.columns();
        (columns.acknowledged, columns.in_flight) == (1, 1)
    })
    .await;
    edge.endpoint.connections().tell_to_leave(Duration::ZERO).await;
    idle.closes().await;
    silent.closes().await;
    edge.mock.broker_up(-1).unwrap();
    let answer = busy.answer().await;
    answer.is_receipt();
    assert_eq!(answer.header("connection"), Some("close"));
    busy.closes().await;
    assert_eq!(edge.settle().await.acknowledged, 2);
}

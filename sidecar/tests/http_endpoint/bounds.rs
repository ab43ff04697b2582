//! Budgets, limits and timeouts: what clients can make us hold, and for how long.

use std::time::Duration;

use penstock_sidecar::endpoint::http::Timeouts;
use tokio::io::AsyncWriteExt;

use crate::fixture::{Edge, MAX_MESSAGE_BYTES, PATIENCE, Plan, until};

const PATH: &str = "/in/v1/p/d/telemetry";

/// Half of the largest message.
static HALF: [u8; MAX_MESSAGE_BYTES as usize / 2] = [b'x'; MAX_MESSAGE_BYTES as usize / 2];

fn quick() -> Timeouts {
    let short = Duration::from_millis(200);
    Timeouts { head: short, body: short, idle: Duration::from_secs(60), unread: short }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_come_in_time_is_told_so() {
    let edge = Edge::start(Plan { timeouts: quick(), ..Plan::default() }).await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n");

    let mut client = edge.connect().await;
    client.send("PO").await;
    client.answer().await.is_problem(408, "request-timeout");
    client.closes().await;

    let mut client = edge.connect().await;
    client.post(PATH, "", b"first").await.is_receipt();
    client.send(&head).await;
    let answer = client.answer().await;
    answer.is_problem(408, "request-timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    client.closes().await;

    for body in ["Content-Length: 5\r\n\r\nhe", "Transfer-Encoding: chunked\r\n\r\n5\r\nhe"] {
        let mut client = edge.connect().await;
        client.send(format!("{head}{body}")).await;
        let answer = client.answer().await;
        answer.is_problem(408, "request-timeout");
        assert_eq!(answer.header("connection"), Some("close"));
        client.closes().await;
    }
    // Half a head that came together with the request before it.
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx{head}")).await;
    client.answer().await.is_receipt();
    client.answer().await.is_problem(408, "request-timeout");
    client.closes().await;
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.refused), (4, 2), "half a head is no request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_closes() {
    let timeouts = Timeouts { idle: Duration::from_millis(200), ..Timeouts::default() };
    let edge = Edge::start(Plan { timeouts, ..Plan::default() }).await;
    edge.connect().await.closes().await;
    let mut client = edge.connect().await;
    client.post(PATH, "", b"x").await.is_receipt();
    client.closes().await;
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_closes() {
    let edge = Edge::start(Plan { timeouts: quick(), ..Plan::default() }).await;
    let mut client = edge.connect().await;
    // Enough for the answers to fill the buffers of both sockets; the server stops reading long before the end.
    let requests = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1_000);
    let refused = async { while client.stream.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("the server closes");
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_messages_stay_within_the_budget() {
    let mut plan = Plan { timeouts: quick(), ..Plan::default() };
    plan.limits.max_in_flight_bytes = 8 * u64::from(MAX_MESSAGE_BYTES);
    plan.timeouts.body = PATIENCE;
    let edge = Edge::start(plan).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = edge.connect().await;
        client
            .send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_MESSAGE_BYTES}\r\n\r\n"))
            .await;
        let _ = client.stream.write_all(&HALF).await;
        clients.push(client);
    }
    until("all that do not fit are refused", || edge.columns().refused == 33).await;
    let used = edge.intake.budget().used_bytes();
    assert!(used > 7 * u64::from(MAX_MESSAGE_BYTES) && used <= 8 * u64::from(MAX_MESSAGE_BYTES), "{used}");
    let mut small = edge.connect().await;
    small.post(PATH, "", &[b'x'; 60_000]).await.is_problem(503, "budget-exhausted");
    for client in &mut clients {
        // Those that fit go on; the others have their answer.
        let _ = client.stream.write_all(&HALF).await;
    }
    let mut stored = 0;
    for client in &mut clients {
        match client.answer().await {
            answer if answer.status == 200 => stored += 1,
            answer => answer.is_problem(503, "budget-exhausted"),
        }
    }
    assert!(stored > 0, "what was half there could be finished");
    drop((clients, small));
    let columns = edge.settle().await;
    assert_eq!(columns.received, 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_half_sent_messages_hold_goes_back_when_their_clients_leave() {
    let edge = Edge::start(Plan::default()).await;
    let mut clients = Vec::new();
    for number in 0..60 {
        let mut client = edge.connect().await;
        let framing = match number % 2 {
            0 => format!("Content-Length: {MAX_MESSAGE_BYTES}\r\n\r\n"),
            _ => format!("Transfer-Encoding: chunked\r\n\r\n{MAX_MESSAGE_BYTES:x}\r\n"),
        };
        client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        client.send(&HALF).await;
        clients.push(client);
    }
    let halves = 60 * u64::from(MAX_MESSAGE_BYTES) / 2;
    until("all of it is held", || edge.intake.budget().used_bytes() > halves).await;
    drop(clients);
    assert_eq!(edge.settle().await.received, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_grows_within_the_budget() {
    let mut plan = Plan::default();
    plan.limits.max_in_flight_bytes = 40_000;
    let edge = Edge::start(plan).await;
    let mut client = edge.connect().await;
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    client.send(format!("{:x}\r\n{}\r\n", 30_000, "x".repeat(30_000))).await;
    until("it is held", || edge.intake.budget().used_bytes() > 30_000).await;
    client.send(format!("{:x}\r\n{}\r\n", 30_000, "x".repeat(30_000))).await;
    client.answer().await.is_problem(503, "budget-exhausted");
    client.closes().await;
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_there_are_places_are_told_to_come_back() {
    let mut plan = Plan::default();
    plan.limits.max_connections = 2;
    let edge = Edge::start(plan).await;
    let (mut first, second) = (edge.connect().await, edge.connect().await);
    first.post(PATH, "", b"x").await.is_receipt();
    until("both are in", || edge.endpoint.connections().len() == 2).await;
    let mut third = edge.connect().await;
    third.answer().await.is_problem(503, "too-many-connections");
    third.closes().await;
    drop(second);
    until("a place is free", || edge.endpoint.connections().len() == 1).await;
    edge.connect().await.post(PATH, "", b"x").await.is_receipt();
    drop(first);
    edge.settle().await;
}

//! What a client can make us hold before it has shown who it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::fixture::{Edge, MAX_MESSAGE_BYTES, Plan, until};
use crate::two::Two;

const PATH: &str = "/in/v1/p/d/telemetry";
/// What the kernel may hold back of a body that is sent at once, when 16 KiB are read of it.
const UNREAD_BYTES: usize = MAX_MESSAGE_BYTES as usize - 16_384 - 1_024;

/// An endpoint for one user whose password takes a second or so.
async fn slow() -> (Edge, String) {
    let users = format!("press-1:{}", bcrypt::hash("secret", 13).unwrap());
    let edge = Edge::start(Plan { users: Some(users), ..Plan::default() }).await;
    (edge, format!("Basic {}", STANDARD.encode("press-1:secret")))
}

/// What has arrived in the server's socket of this client and has not been read.
fn unread(edge: &Edge, client: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.split(':').nth(1).unwrap(), 16).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| port(fields[1]) == edge.address.port() && port(fields[2]) == client)
        .map_or(0, |fields| usize::from_str_radix(fields[4].split(':').nth(1).unwrap(), 16).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_16_kib_is_read_of_an_http_2_client_that_is_not_let_in_yet() {
    let (edge, login) = slow().await;
    let client = Two::connect(&edge).await;
    let body = Bytes::from(vec![b'x'; MAX_MESSAGE_BYTES as usize]);
    let post = |login: &str| {
        let request = Request::post(format!("http://x{PATH}")).header("authorization", login);
        client.send(request.body(Full::new(body.clone())).unwrap())
    };
    let answer = tokio::spawn(post(&login));
    let port = client.local_port();
    until("the rest waits in the socket", || unread(&edge, port) >= UNREAD_BYTES).await;
    answer.await.unwrap().unwrap().is_receipt();
    let answer = post(&login).await.unwrap();
    answer.is_receipt();
    client.end().await.unwrap();
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_16_kib_is_read_of_an_http_1_client_that_is_not_let_in_yet() {
    let (edge, login) = slow().await;
    let mut client = edge.connect().await;
    let port = client.stream.local_addr().unwrap().port();
    let length = MAX_MESSAGE_BYTES;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nContent-Length: {length}\r\n\r\n"
    );
    client.send([head.as_bytes(), &vec![b'x'; length as usize]].concat()).await;
    until("the rest waits in the socket", || unread(&edge, port) >= UNREAD_BYTES).await;
    client.answer().await.is_receipt();
    drop(client);
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_sent_away_may_try_again_and_the_books_balance() {
    let users = format!("press-1:{}", bcrypt::hash("secret", 4).unwrap());
    let edge = Edge::start(Plan { users: Some(users), ..Plan::default() }).await;
    let mut client = edge.connect().await;
    // More than 16 KiB in all, but never at once.
    for _ in 0..10 {
        let answer = client.post(PATH, "", &[b'x'; 4_000]).await;
        answer.is_problem(401, "not-authenticated");
        assert_eq!(answer.header("connection"), None, "a client that has shown nothing may do so now");
    }
    let login = format!("Authorization: Basic {}\r\n", STANDARD.encode("press-1:secret"));
    client.post(PATH, &login, b"x").await.is_receipt();
    let wrong = format!("Authorization: Basic {}\r\n", STANDARD.encode("press-1:guess"));
    client.post(PATH, &wrong, b"x").await.is_problem(401, "not-authenticated");
    client.closes().await;
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.acknowledged, columns.refused), (12, 1, 11));
}

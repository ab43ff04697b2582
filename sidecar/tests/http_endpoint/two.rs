//! HTTP/2 with prior knowledge.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::fixture::{Answer, Edge, MAX_MESSAGE_BYTES, PATIENCE, Plan, until};

const PATH: &str = "/in/v1/p/d/telemetry";

pub(crate) struct Two {
    sender: SendRequest<Full<Bytes>>,
    socket: std::net::TcpStream,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Two {
    pub(crate) async fn connect(edge: &Edge) -> Self {
        let stream = TcpStream::connect(edge.address).await.unwrap().into_std().unwrap();
        let socket = stream.try_clone().unwrap();
        let stream = TokioIo::new(TcpStream::from_std(stream).unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        Self { sender, socket, connection: tokio::spawn(connection) }
    }

    fn post<B: Into<Bytes>>(
        &self,
        path: &str,
        body: B,
    ) -> impl Future<Output = hyper::Result<Answer>> + Send + use<B> {
        self.send(Request::post(format!("http://x{path}")).body(Full::new(body.into())).unwrap())
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    pub(crate) fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Answer>> + Send + use<> {
        let mut sender = self.sender.clone();
        async move {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            assert_eq!(response.version(), Version::HTTP_2);
            Ok(answer(response).await)
        }
    }

    async fn posted(&self, path: &str, body: impl Into<Bytes> + Send + 'static) -> Answer {
        tokio::time::timeout(PATIENCE, self.post(path, body)).await.expect("an answer in time").unwrap()
    }

    pub(crate) async fn end(self) -> hyper::Result<()> {
        drop(self.sender);
        tokio::time::timeout(PATIENCE, self.connection).await.expect("ends in time").unwrap()
    }
}

async fn answer(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    Answer {
        status: head.status.as_u16(),
        headers: headers.collect(),
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_do_not_wait_for_each_other() {
    let edge = Edge::start(Plan::default()).await;
    let client = Two::connect(&edge).await;
    client.posted(PATH, "first").await.is_receipt();
    edge.mock.broker_down(-1).unwrap();
    let mut streams = JoinSet::new();
    for number in 0..100 {
        streams.spawn(client.post(PATH, format!("message {number}")));
    }
    until("all are in flight at once", || {
        let columns = edge.columns();
        (columns.received, columns.in_flight) == (101, 100)
    })
    .await;
    // What needs no Kafka is answered meanwhile.
    client.posted("/in/nothing", "x").await.is_problem(404, "no-route");
    edge.mock.broker_up(-1).unwrap();
    let mut offsets = Vec::new();
    while let Some(answer) = streams.join_next().await {
        offsets.push(answer.unwrap().unwrap().is_receipt()["offset"].as_i64().unwrap());
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=100).collect::<Vec<_>>());
    client.end().await.unwrap();
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.acknowledged, columns.refused), (102, 101, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_waits_a_moment_for_a_small_body_and_no_longer() {
    let edge = Edge::start(Plan::default()).await;
    // hyper's client keeps a request back until its body begins.
    let (client, connection) =
        h2::client::handshake(TcpStream::connect(edge.address).await.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);
    let (soon, never) = (Duration::from_millis(50), 2 * PATIENCE);
    for (body_after, answer_after) in [(soon, soon), (never, Duration::from_millis(200))] {
        let request = Request::post("http://x/nothing").header(CONTENT_LENGTH, 5).body(()).unwrap();
        let (answer, mut body) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
        let sent = Instant::now();
        let body = tokio::spawn(async move {
            sleep(body_after).await;
            body.send_data(Bytes::from_static(b"small"), true)
        });
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time");
        assert_eq!(answer.unwrap().status(), 404);
        assert!(sent.elapsed() >= answer_after, "the body comes after {body_after:?}: {:?}", sent.elapsed());
        body.abort();
    }
    connection.abort();
    assert_eq!(edge.settle().await.refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_many_frames_are_stored_whole_or_refused() {
    let edge = Edge::start(Plan::default()).await;
    let client = Two::connect(&edge).await;
    client.posted(PATH, vec![b'x'; MAX_MESSAGE_BYTES as usize]).await.is_receipt();
    client.posted(PATH, "").await.is_receipt();
    client.posted(PATH, vec![b'x'; MAX_MESSAGE_BYTES as usize + 1]).await.is_problem(413, "too-large");
    client.posted(PATH, "after").await.is_receipt();
    client.end().await.unwrap();
    let columns = edge.settle().await;
    assert_eq!((columns.acknowledged, columns.refused), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_holds_no_more_than_its_share() {
    let mut plan = Plan { ack_timeout: Duration::from_millis(500), ..Plan::default() };
    plan.limits.max_in_flight_bytes_per_connection = 200_000;
    let edge = Edge::start(plan).await;
    edge.mock.broker_down(-1).unwrap();
    let client = Two::connect(&edge).await;
    let mut streams = JoinSet::new();
    for _ in 0..10 {
        streams.spawn(client.post(PATH, vec![b'x'; 60_000]));
    }
    let mut told = [0, 0];
    while let Some(answer) = streams.join_next().await {
        let answer = answer.unwrap().unwrap();
        let exhausted = answer.json()["type"].as_str().unwrap().ends_with("budget-exhausted");
        answer.is_problem(503, if exhausted { "budget-exhausted" } else { "ack-timeout" });
        told[usize::from(exhausted)] += 1;
    }
    assert_eq!(told, [3, 7]);
    edge.mock.broker_up(-1).unwrap();
    client.end().await.unwrap();
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_or_resets_abandons_its_messages() {
    let edge = Edge::start(Plan::default()).await;
    edge.mock.broker_down(-1).unwrap();
    let client = Two::connect(&edge).await;
    let reset = tokio::spawn(client.post(PATH, "reset"));
    until("it is in flight", || edge.columns().in_flight == 1).await;
    reset.abort();
    until("it is abandoned by the reset", || edge.columns().abandoned == 1).await;
    let _lost = tokio::spawn(client.post(PATH, "lost"));
    until("it is in flight", || edge.columns().in_flight == 1).await;
    client.socket.shutdown(std::net::Shutdown::Both).unwrap();
    until("it is abandoned with the connection", || edge.columns().abandoned == 2).await;
    edge.mock.broker_up(-1).unwrap();
    let columns = edge.settle().await;
    assert_eq!((columns.received, columns.abandoned, columns.late_reports), (2, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_told_to_leave_says_goaway_and_finishes() {
    let edge = Edge::start(Plan::default()).await;
    let (busy, idle) = (Two::connect(&edge).await, Two::connect(&edge).await);
    idle.posted(PATH, "x").await.is_receipt();
    edge.mock.broker_down(-1).unwrap();
    let last = tokio::spawn(busy.post(PATH, "last"));
    until("it is in flight", || {
        let columns = edge.columns();
        (columns.acknowledged, columns.in_flight) == (1, 1)
    })
    .await;
    edge.endpoint.connections().tell_to_leave(Duration::ZERO).await;
    idle.end().await.unwrap();
    edge.mock.broker_up(-1).unwrap();
    last.await.unwrap().unwrap().is_receipt();
    busy.end().await.unwrap();
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_gets_goaway() {
    let mut plan = Plan::default();
    plan.timeouts.idle = Duration::from_millis(300);
    let edge = Edge::start(plan).await;
    let client = Two::connect(&edge).await;
    client.posted(PATH, "x").await.is_receipt();
    // The sender stays: only the server can end this.
    tokio::time::timeout(PATIENCE, client.connection).await.expect("ends in time").unwrap().unwrap();
    edge.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_window_the_client_is_sent_away() {
    let mut plan = Plan::default();
    plan.limits.max_in_flight_bytes = 150_000;
    let edge = Edge::start(plan).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut told = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut told)).await.expect("closed in time").unwrap();
    // An empty SETTINGS frame, then GOAWAY with ENHANCE_YOUR_CALM.
    assert_eq!(told.get(3), Some(&4));
    assert_eq!((told.get(12), told.last()), (Some(&7), Some(&11)), "{told:?}");
    drop(stream);
    edge.settle().await;
}

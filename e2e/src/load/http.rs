//! An HTTP client: one request at a time, repeated until its answer is final.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Plan, Protocol, Script, Signals, pace};
use crate::checker::{Close, History, Outcome, Receipt};
use crate::secure;

/// Longer than any ack timeout that tests set.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(50);
/// A server may ask for more patience; tests have less.
const LONGEST_RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(plan: &Plan, script: Script, signals: &Signals) -> History {
    let mut client = Client { plan, signals, script, connection: None, from: None };
    let mut pace = pace(plan);
    while client.script.left > 0 && !signals.finish.load(Relaxed) && !signals.abandon.load(Relaxed) {
        pace.tick().await;
        let index = client.script.next();
        signals.sent.fetch_add(1, Relaxed);
        while client.script.message(index).outcome == Outcome::Open && !signals.abandon.load(Relaxed) {
            client.attempt(index).await;
        }
    }
    client.script.history.messages.retain(|message| message.sends > 0);
    client.script.history
}

enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

struct Client<'a> {
    plan: &'a Plan,
    signals: &'a Signals,
    script: Script,
    connection: Option<Connection>,
    /// The address of that connection, until it is known where it went.
    from: Option<SocketAddr>,
}

impl Client<'_> {
    async fn attempt(&mut self, index: usize) {
        if self.connection.is_none() {
            match timeout(PATIENCE, connect(self.plan)).await {
                Ok(Ok((connection, from))) => {
                    (self.connection, self.from) = (Some(connection), Some(from));
                    self.script.connected(None);
                }
                Ok(Err(error)) => self.doubt(&error),
                Err(_) => {}
            }
        }
        let path = format!("/{}", self.script.topic(index));
        let payload = Bytes::copy_from_slice(&self.script.message(index).payload);
        let Some(connection) = &mut self.connection else {
            self.signals.unreachable.fetch_add(1, Relaxed);
            return sleep(RETRY).await;
        };
        let sent = Instant::now();
        let answer = match connection {
            Connection::One(sender) => {
                if sender.ready().await.is_err() {
                    return self.closed(0);
                }
                self.script.sends(index);
                timeout(PATIENCE, sender.send_request(request(&path, self.plan, payload))).await
            }
            Connection::Two(sender) => {
                if sender.ready().await.is_err() {
                    return self.closed(0);
                }
                self.script.sends(index);
                timeout(PATIENCE, sender.send_request(request(&path, self.plan, payload))).await
            }
        };
        self.note_pod();
        match answer {
            Ok(Ok(response)) => self.answered(index, sent, response).await,
            Ok(Err(error)) => {
                if let Some(error) = error.source().and_then(<dyn Error>::downcast_ref::<io::Error>) {
                    self.doubt(error);
                }
                self.closed(1);
            }
            Err(_) => {
                self.script.irregular(format_args!("no answer to {path} within {PATIENCE:?}"));
                self.closed(1);
            }
        }
    }

    fn doubt(&mut self, error: &io::Error) {
        if secure::breaks_tls(error) {
            self.script.irregular(format_args!("TLS: {error}"));
        }
    }

    /// Whoever was asked has been reached.
    fn note_pod(&mut self) {
        let passages = self.plan.passages.as_ref();
        let pod = passages.zip(self.from.take()).and_then(|(passages, from)| passages.server(from));
        if let (Some(last), Some(_)) = (self.script.history.connections.last_mut(), pod) {
            *last = pod;
        }
    }

    fn closed(&mut self, unacknowledged: usize) {
        self.connection = None;
        self.signals.closes.fetch_add(1, Relaxed);
        let at = Instant::now();
        self.script.history.closes.push(Close {
            client: self.script.client,
            reason: None,
            unacknowledged,
            at,
        });
    }

    async fn answered(&mut self, index: usize, sent: Instant, response: Response<Incoming>) {
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await else { return self.closed(1) };
        let body = body.to_bytes();
        if head.status == StatusCode::OK {
            let receipt = receipt(&head.headers, &body);
            if receipt.is_none() {
                let text = String::from_utf8_lossy(&body).into_owned();
                self.script.irregular(format_args!("200 without a receipt: {:?} {text}", head.headers));
            }
            self.script.acknowledged(self.plan, self.signals, index, sent, receipt);
        } else if matches!(head.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            self.signals.transient.fetch_add(1, Relaxed);
            self.script.history.transient.push((head.status.as_u16(), after));
            sleep(Duration::from_secs(after.unwrap_or(1)).min(LONGEST_RETRY)).await;
        } else {
            self.script.refused(index, head.status.to_string());
        }
    }
}

/// A connection, and its address.
async fn connect(plan: &Plan) -> io::Result<(Connection, SocketAddr)> {
    let stream = TcpStream::connect(plan.server).await?;
    stream.set_nodelay(true)?;
    let from = stream.local_addr()?;
    let connection = match &plan.secure {
        None => greet(plan, stream).await,
        Some(identity) => {
            let protocol: &[u8] = if plan.protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
            greet(plan, identity.speaking(protocol).shake_hands(stream).await?).await
        }
    };
    Ok((connection.map_err(io::Error::other)?, from))
}

/// HTTP on a stream.
async fn greet(
    plan: &Plan,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<Connection> {
    let stream = TokioIo::new(stream);
    if plan.protocol == Protocol::Http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Connection::Two(sender))
    } else {
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Connection::One(sender))
    }
}

fn request(path: &str, plan: &Plan, payload: Bytes) -> Request<Full<Bytes>> {
    let request = Request::post(if plan.protocol == Protocol::Http2 {
        format!("http://{}{path}", plan.server)
    } else {
        path.to_owned()
    });
    let request = request.header(CONTENT_TYPE, "application/octet-stream");
    let request = if plan.protocol == Protocol::Http2 {
        request
    } else {
        request.header(HOST, plan.server.to_string())
    };
    request.body(Full::new(payload)).expect("a valid request")
}

/// The receipt in the body, if the headers say the same.
fn receipt(headers: &HeaderMap, body: &[u8]) -> Option<Receipt> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let receipt = Receipt {
        id: body.get("id")?.as_str()?.to_owned(),
        topic: body.get("topic")?.as_str()?.to_owned(),
        partition: i32::try_from(body.get("partition")?.as_i64()?).ok()?,
        offset: body.get("offset").and_then(serde_json::Value::as_i64),
    };
    body.get("timestamp")?.as_i64()?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let same = header("penstock-id") == Some(&receipt.id)
        && header("penstock-topic") == Some(&receipt.topic)
        && header("penstock-partition") == Some(&receipt.partition.to_string())
        && header("penstock-offset") == receipt.offset.map(|offset| offset.to_string()).as_deref();
    same.then_some(receipt)
}

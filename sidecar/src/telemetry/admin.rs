//! The admin port: probes, metrics, and what else a program says of itself. It only reads. Sidecar and operator share it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::endpoint::listener;

/// Connections at once; a probe that finds none free waits for its turn.
const CONNECTIONS: usize = 64;
/// How long a connection may be idle or slow before it is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a program tells on its admin port.
pub trait Program: Send + Sync + 'static {
    /// Paths of [`Program::json`].
    const PAGES: &'static [&'static str];

    /// Why nothing should be sent here now (`/readyz`); none when it should.
    fn unready(&self) -> Option<String>;

    /// The OpenMetrics text of now (`/metrics`).
    ///
    /// # Errors
    /// When a metric cannot be written.
    fn metrics(&self) -> Result<String, fmt::Error>;

    /// The JSON text of a page of the program's own.
    fn json(&self, path: &str) -> Option<String>;
}

/// Where the admin port listens, and why it does not.
#[derive(Debug, thiserror::Error)]
#[error(
    "the admin port cannot listen on {address}: {source}: choose another with --admin, or stop what uses it"
)]
pub struct AdminError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens at `address`, or on `port` of all addresses.
pub fn listen(address: Option<SocketAddr>, port: u16) -> Result<TcpListener, AdminError> {
    let (address, bound) = match address {
        Some(address) => (address, listener::bind(address)),
        None => listener::bind_all(port),
    };
    bound.map_err(|source| AdminError { address, source })
}

/// Serves until it is dropped.
pub async fn serve<P: Program>(listener: TcpListener, program: Arc<P>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let program = Arc::clone(&program);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(&request, &*program);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(8_192)
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
            drop(place);
        });
    }
}

fn answer<P: Program>(request: &Request<Incoming>, program: &P) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        // It answers, so it lives; whether Kafka or the API server does is nobody's reason to restart this pod.
        "/livez" | "/startupz" => respond(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match program.unready() {
            None => respond(StatusCode::OK, TEXT, "ok\n"),
            Some(reason) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        "/metrics" => match program.metrics() {
            Ok(text) => {
                respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
            }
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be written\n"),
        },
        "/" => {
            let pages = ["/livez", "/startupz", "/readyz", "/metrics"].iter().chain(P::PAGES);
            respond(StatusCode::OK, TEXT, pages.fold(String::new(), |list, page| list + *page + "\n"))
        }
        path => match program.json(path) {
            Some(json) => respond(StatusCode::OK, JSON, json),
            None => respond(StatusCode::NOT_FOUND, TEXT, "see / for what is here\n"),
        },
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

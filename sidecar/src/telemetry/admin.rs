//! The admin port: probes, metrics and ledger. It only reads.

use std::convert::Infallible;
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

use super::metrics::Metrics;
use crate::edge::Edge;
use crate::endpoint::listener;

/// Connections at once; a probe that finds none free waits for its turn.
const CONNECTIONS: usize = 64;
/// How long a connection may be idle or slow before it is closed.
const PATIENCE: Duration = Duration::from_secs(10);

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
pub async fn serve(listener: TcpListener, edge: Arc<Edge>) {
    let metrics = Arc::new(Metrics::new(Arc::clone(&edge)));
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
        let (edge, metrics) = (Arc::clone(&edge), Arc::clone(&metrics));
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(&request, &edge, &metrics);
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

fn answer(request: &Request<Incoming>, edge: &Edge, metrics: &Metrics) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        // It answers, so it lives; whether Kafka does is nobody's reason to restart this pod.
        "/livez" | "/startupz" => respond(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match edge.unready() {
            None => respond(StatusCode::OK, TEXT, "ok\n"),
            Some(reason) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        "/ledger" => respond(StatusCode::OK, JSON, edge.ledger().as_json().to_string()),
        "/metrics" => match metrics.encode() {
            Ok(text) => {
                respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
            }
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be written\n"),
        },
        "/" => respond(StatusCode::OK, TEXT, "/livez /startupz /readyz /ledger /metrics\n"),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "see / for what is here\n"),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

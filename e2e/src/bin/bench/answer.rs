//! The floor H: a bare hyper server that reads a POST and answers a constant.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

/// Where to listen.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until it is killed. One thread: the cheapest way, and no processor is idle for want of a second.
pub(crate) fn run(arguments: &Arguments) {
    let runtime = runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind(arguments.listen).await.expect("a free port");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("an option of ours");
            // An error is the client's end.
            tokio::task::spawn_local(async move { serve(stream).await.ok() });
        }
    });
}

/// HTTP/1.1, or HTTP/2 for whoever begins with its preface.
async fn serve(stream: TcpStream) -> hyper::Result<()> {
    let mut first = [0; 3];
    let known = stream.peek(&mut first).await.is_ok_and(|count| first[..count] == *b"PRI");
    let stream = TokioIo::new(stream);
    if known {
        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(constant)).await
    } else {
        http1::Builder::new().serve_connection(stream, service_fn(constant)).await
    }
}

async fn constant(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
    Ok(Response::new(Full::new(if body > 0 { Bytes::from_static(b"ok\n") } else { Bytes::new() })))
}

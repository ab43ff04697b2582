//! The floor H: a bare hyper server that reads a POST and answers a constant.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
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
            tokio::task::spawn_local(async move {
                // An error is the client's end.
                let _ =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(constant)).await;
            });
        }
    });
}

async fn constant(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
    Ok(Response::new(Full::new(if body > 0 { Bytes::from_static(b"ok\n") } else { Bytes::new() })))
}

//! A front before the API server: a way to it on which chosen requests meet what they meet at one that is busy, broken or
//! slow.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::{ApiServer, folder, ports, runtime};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this status code, and not carried out.
    Refused(u16),
    /// It is refused with 429 and `Retry-After`, in seconds.
    Throttled(u64),
    /// It is carried out after so long, whether its sender still waits or not.
    Late(Duration),
    /// It is carried out, and its connection ends without an answer.
    Unanswered,
}

/// A request, as those are chosen by that meet a fault.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path, with the query.
    pub path: String,
    /// Its body.
    pub body: String,
}

impl Asked {
    /// Whether it would make, change or delete a child of a pipeline. Its status and its Events are no children.
    pub fn is_write_of_child(&self, pipeline: &str) -> bool {
        let of_it = self.path.contains(pipeline) || self.body.contains(pipeline);
        let reported = self.path.contains("/ingestpipelines/") || self.path.contains("/events");
        self.method != Method::GET && of_it && !reported
    }
}

type Chosen = Box<dyn Fn(&Asked) -> bool + Send + Sync>;

/// Where the operator asks in place of the API server; as the operator's own user, so that the audit log has its requests.
pub struct Front {
    road: Arc<Road>,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Road {
    client: Client,
    fault: Mutex<Option<(Fault, Chosen)>>,
    met: AtomicUsize,
}

impl Front {
    /// Listens on a free port; all requests pass.
    #[track_caller]
    pub fn before(api: &ApiServer) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let kubeconfig = Kubeconfig::read_from(api.operator_kubeconfig()).expect("a kubeconfig");
        let client = runtime::wait(connect(kubeconfig));
        let road = Arc::new(Road { client, fault: Mutex::default(), met: AtomicUsize::new(0) });
        let listener = runtime::wait(TcpListener::bind(address)).expect("a free port");
        let task = runtime::spawn(serve(listener, Arc::clone(&road)));
        let folder = folder::fresh("front-");
        let text = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: front, cluster: {{server: \"http://{address}\"}}}}]
users: [{{name: front, user: {{}}}}]
contexts: [{{name: front, context: {{cluster: front, user: front}}}}]
current-context: front
"
        );
        std::fs::write(folder.path().join(KUBECONFIG), text).expect("a kubeconfig");
        Self { road, folder, task }
    }

    /// Path of a kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join(KUBECONFIG)
    }

    /// From now on these requests meet a fault, in place of those before.
    pub fn fail(&self, fault: Fault, chosen: impl Fn(&Asked) -> bool + Send + Sync + 'static) {
        *self.road.fault.lock() = Some((fault, Box::new(chosen)));
    }

    /// From now on all requests pass.
    pub fn clear(&self) {
        *self.road.fault.lock() = None;
    }

    /// How many requests have met a fault.
    pub fn met(&self) -> usize {
        self.road.met.load(Ordering::SeqCst)
    }
}

const KUBECONFIG: &str = "kubeconfig";

/// A client that repeats nothing by itself: what the API server answers is passed on.
async fn connect(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration");
    config.default_retry = false;
    // An error means that this process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ClientBuilder::try_from(config).expect("a client").build()
}

async fn serve(listener: TcpListener, road: Arc<Road>) {
    while let Ok((stream, _)) = listener.accept().await {
        let road = Arc::clone(&road);
        tokio::spawn(connection(stream, road));
    }
}

async fn connection(stream: TcpStream, road: Arc<Road>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let road = Arc::clone(&road);
        async move { road.take(request).await }
    });
    // An error is the client's end, or an answer that is kept from it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Road {
    async fn take(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = Asked {
            method: head.method.clone(),
            path: head.uri.to_string(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        for name in [HOST, CONNECTION] {
            head.headers.remove(name);
        }
        let request = Request::from_parts(head, Body::from(body));
        match self.fault_of(&asked) {
            None => pass(self.client.clone(), request).await,
            Some(Fault::Refused(code)) => refusal(code, None),
            Some(Fault::Throttled(seconds)) => refusal(429, Some(seconds)),
            Some(Fault::Late(time)) => {
                let client = self.client.clone();
                let late = async move {
                    tokio::time::sleep(time).await;
                    pass(client, request).await
                };
                tokio::spawn(late).await.map_err(io::Error::other)?
            }
            Some(Fault::Unanswered) => {
                pass(self.client.clone(), request).await?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn fault_of(&self, asked: &Asked) -> Option<Fault> {
        let fault = self.fault.lock();
        let (fault, _) = fault.as_ref().filter(|(_, chosen)| chosen(asked))?;
        self.met.fetch_add(1, Ordering::SeqCst);
        Some(*fault)
    }
}

async fn pass(client: Client, request: Request<Body>) -> io::Result<Response<Body>> {
    let mut response = client.send(request).await.map_err(io::Error::other)?;
    for name in [CONNECTION, TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

/// As the API server refuses.
fn refusal(code: u16, retry_after: Option<u64>) -> io::Result<Response<Body>> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": format!("the front answers {code}"), "reason": reason(code),
    });
    let mut response = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(Body::from(status.to_string().into_bytes())).map_err(io::Error::other)
}

/// `metav1.StatusReason`.
fn reason(code: u16) -> &'static str {
    match StatusCode::from_u16(code) {
        Ok(StatusCode::CONFLICT) => "Conflict",
        Ok(StatusCode::TOO_MANY_REQUESTS) => "TooManyRequests",
        Ok(StatusCode::SERVICE_UNAVAILABLE) => "ServiceUnavailable",
        _ => "InternalError",
    }
}

//! How a sidecar ends.
//!
//! Phase 1, at SIGTERM or over the control socket (a preStop hook): not ready, still accepting, for as long as it takes
//! load balancers to notice. Phase 2: stop listening, tell clients to leave one after the other, answer what is in
//! flight, flush, exit. What is not answered by then is abandoned, without an acknowledgement, and counted.
//!
//! Containers beside the sidecar are served on loopback for longer: until SIGTERM, which kubelet sends a native sidecar
//! when they have ended, or until their time is over, for one that does not end takes the pod's whole grace.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use penstock_crds::edge::FLUSH_SECONDS;

use crate::edge::Edge;
use crate::endpoint::Reach;

/// How long connections that were told to close may take.
const CLOSE: Duration = Duration::from_secs(2);
/// How long the producer may take for reports that nobody waits for any more.
const FLUSH: Duration = Duration::from_secs(FLUSH_SECONDS as u64);
/// How often the store's threads are looked at.
const WATCH: Duration = Duration::from_secs(1);

/// Who asks the sidecar to end.
pub struct Requests {
    terminate: Signal,
    interrupt: Signal,
    control: Option<Control>,
}

/// The socket of the preStop hook, removed when this is dropped.
struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Why the sidecar ended other than asked.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka store has stopped working; ending, so that this pod is started again")]
pub struct StoreFailed;

enum Request {
    /// Drain in full.
    Terminate,
    /// A person waits at a terminal.
    Interrupt,
    /// The preStop hook; the stream is closed when phase 1 is over.
    Hook(UnixStream),
}

impl Requests {
    /// Listens for signals, and on the control socket if there is one.
    pub fn listen(control: Option<&Path>) -> io::Result<Self> {
        let control = control.map(|path| {
            // Left by a process that was killed.
            let _ = std::fs::remove_file(path);
            UnixListener::bind(path).map(|listener| Control { listener, path: path.to_owned() })
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            control: control.transpose()?,
        })
    }

    async fn next(&mut self) -> Request {
        let hook = async {
            match &self.control {
                Some(control) => loop {
                    if let Ok((stream, _)) = control.listener.accept().await {
                        return stream;
                    }
                    sleep(Duration::from_millis(50)).await;
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.interrupt.recv() => Request::Interrupt,
            stream = hook => Request::Hook(stream),
        }
    }
}

/// Asks a sidecar to begin its drain and waits until its phase 1 is over: the preStop hook.
pub async fn ask(control: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(control).await?;
    let mut nothing = [0; 16];
    while stream.read(&mut nothing).await? > 0 {}
    Ok(())
}

/// Serves until somebody asks the sidecar to end, then drains it.
pub async fn serve_until_drained(edge: &Arc<Edge>, mut requests: Requests) -> Result<(), StoreFailed> {
    let request = tokio::select! {
        request = requests.next() => request,
        failed = store_failure(edge) => return Err(failed),
    };
    edge.begin_drain();
    let drain = &edge.config().drain;
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let start = accept_on(request, &mut requests, seconds(drain.accept_seconds)).await;
    let client_time = if start == Start::Now { Duration::ZERO } else { seconds(drain.client_seconds) };
    let Requests { terminate, interrupt, control: _control } = &mut requests;
    let ends = async {
        let adapters = match (start, drain.adapter_stop_seconds) {
            (Start::BeforeSigterm, Some(time)) => seconds(time),
            // Kubernetes sends SIGTERM as soon as the hook has ended.
            (Start::BeforeSigterm, None) => {
                heard(terminate).await;
                Duration::ZERO
            }
            _ => Duration::ZERO,
        };
        let inside = async {
            let _ = timeout(adapters, heard(terminate)).await;
            send_clients_away(edge, Reach::Pod, Duration::ZERO).await;
        };
        tokio::join!(send_clients_away(edge, Reach::Outside, client_time), inside);
    };
    tokio::select! {
        () = ends => {}
        () = heard(interrupt) => tracing::warn!("interrupted: closing all connections now"),
    }
    close(edge).await;
    let left = edge.end_store(FLUSH).await;
    let (columns, _) = edge.ledger().total();
    tracing::info!(
        received = columns.received,
        acknowledged = columns.acknowledged,
        abandoned = columns.abandoned,
        dropped = columns.dropped,
        in_flight = columns.in_flight,
        without_report = left,
        "drained"
    );
    Ok(())
}

/// How phase 2 begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// At the request of the hook: SIGTERM is still to come.
    BeforeSigterm,
    /// At SIGTERM.
    AtSigterm,
    /// Without waiting for clients.
    Now,
}

/// Phase 1.
async fn accept_on(request: Request, requests: &mut Requests, time: Duration) -> Start {
    let (hook, start) = match request {
        Request::Interrupt => return Start::Now,
        Request::Terminate => (None, Start::AtSigterm),
        Request::Hook(stream) => (Some(stream), Start::BeforeSigterm),
    };
    tracing::info!(seconds = time.as_secs(), "draining: not ready, still accepting");
    tokio::select! {
        () = sleep(time) => {}
        () = heard(&mut requests.interrupt) => return Start::Now,
    }
    // The hook ends with its stream, and Kubernetes goes on to SIGTERM.
    drop(hook);
    start
}

/// Phase 2 of the endpoints of one reach, until the last client has left.
async fn send_clients_away(edge: &Edge, reach: Reach, time: Duration) {
    edge.stop_accepting(reach);
    let ack_timeout = Duration::from_secs(edge.config().delivery.ack_timeout_seconds.into());
    tracing::info!(seconds = time.as_secs(), ?reach, "draining: clients are told to leave");
    let endpoints = edge.endpoints().iter().filter(|endpoint| endpoint.reach() == reach);
    let all_told = endpoints.map(|endpoint| {
        let connections = Arc::clone(endpoint.connections());
        tokio::spawn(async move {
            connections.tell_to_leave(time).await;
            if timeout(ack_timeout + CLOSE, connections.emptied()).await.is_err() {
                tracing::warn!(connections = connections.len(), "draining: clients do not leave");
            }
        })
    });
    for told in all_told.collect::<Vec<_>>() {
        let _ = told.await;
    }
}

async fn close(edge: &Edge) {
    Reach::ALL.iter().for_each(|reach| edge.stop_accepting(*reach));
    for endpoint in edge.endpoints() {
        endpoint.connections().close_all();
        let _ = timeout(CLOSE, endpoint.connections().emptied()).await;
    }
}

async fn heard(signal: &mut Signal) {
    while signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn store_failure(edge: &Edge) -> StoreFailed {
    let mut interval = tokio::time::interval(WATCH);
    loop {
        interval.tick().await;
        if edge.store_has_failed() {
            return StoreFailed;
        }
    }
}

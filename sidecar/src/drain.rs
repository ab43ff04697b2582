//! How a sidecar ends.
//!
//! Phase 1, at SIGTERM or over the control socket (a preStop hook): not ready, still accepting, for as long as it takes
//! load balancers to notice. Phase 2: stop listening, tell clients to leave one after the other, answer what is in
//! flight, flush, exit. What is not answered by then is abandoned, without an acknowledgement, and counted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::edge::Edge;

/// How long connections that were told to close may take.
const CLOSE: Duration = Duration::from_secs(2);
/// How long the producer may take for reports that nobody waits for any more.
const FLUSH: Duration = Duration::from_secs(2);
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
    let quick = accept_on(request, &mut requests, Duration::from_secs(drain.accept_seconds.into())).await;
    let client_time = if quick { Duration::ZERO } else { Duration::from_secs(drain.client_seconds.into()) };
    tokio::select! {
        () = send_clients_away(edge, client_time) => {}
        () = interrupted(&mut requests) => tracing::warn!("interrupted: closing all connections now"),
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

/// Phase 1. Returns whether the rest should be quick.
async fn accept_on(request: Request, requests: &mut Requests, time: Duration) -> bool {
    let hook = match request {
        Request::Interrupt => return true,
        Request::Terminate => None,
        Request::Hook(stream) => Some(stream),
    };
    tracing::info!(seconds = time.as_secs(), "draining: not ready, still accepting");
    let (by_hook, mut terminated) = (hook.is_some(), false);
    tokio::select! {
        () = sleep(time) => {}
        () = interrupted(requests) => return true,
    }
    drop(hook);
    // Kubernetes sends SIGTERM when the hook has ended.
    while by_hook && !terminated {
        match requests.next().await {
            Request::Terminate => terminated = true,
            Request::Interrupt => return true,
            Request::Hook(_) => {}
        }
    }
    false
}

/// Phase 2, until the last client has left.
async fn send_clients_away(edge: &Edge, time: Duration) {
    edge.stop_accepting();
    let ack_timeout = Duration::from_secs(edge.config().delivery.ack_timeout_seconds.into());
    tracing::info!(seconds = time.as_secs(), "draining: clients are told to leave");
    let all_told = edge.endpoints().iter().map(|endpoint| {
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
    edge.stop_accepting();
    for endpoint in edge.endpoints() {
        endpoint.connections().close_all();
        let _ = timeout(CLOSE, endpoint.connections().emptied()).await;
    }
}

async fn interrupted(requests: &mut Requests) {
    while requests.interrupt.recv().await.is_none() {
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

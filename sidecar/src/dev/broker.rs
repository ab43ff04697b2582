//! The embedded broker's life: a thread with a runtime of its own, so that neither a blocking disk nor a panic in a
//! protocol library reaches the data plane.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use penstock_crds::edge::EdgeConfig;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::DevError;
use super::api::Api;
use super::log::Folder;

/// A running broker. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    notice: String,
    stop: oneshot::Sender<()>,
    /// Why it ended, once it has.
    ended: watch::Receiver<Option<String>>,
    thread: JoinHandle<()>,
}

impl Broker {
    /// Starts a broker on `127.0.0.1:port` (0: any free port) that keeps its data in `folder`, makes the topics of
    /// `config` that are missing, and turns `config` to it: `spec.kafka` is replaced, replication factors and
    /// `min.insync.replicas` are capped at 1.
    pub async fn start(folder: &Path, port: u16, config: &mut EdgeConfig) -> Result<Self, DevError> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| DevError::Port { port, source })?;
        let address = listener.local_addr().map_err(|source| DevError::Port { port, source })?;
        let topics: Vec<_> = config
            .topics
            .iter()
            .map(|topic| (topic.topic_name.clone(), topic.partitions.unwrap_or(1)))
            .collect();
        // Recovery reads files: not on the caller's runtime.
        let data = {
            let folder = folder.clone();
            tokio::task::spawn_blocking(move || open(&folder, &topics))
                .await
                .map_err(|error| DevError::Start(error.to_string()))??
        };
        let (started, is_started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let thread = std::thread::Builder::new()
            .name("dev-broker".to_owned())
            .spawn(move || {
                let result = live(data, listener, address, started, stopped);
                end.send_replace(Some(result.err().unwrap_or_else(|| "it was stopped".to_owned())));
            })
            .map_err(|error| DevError::Start(error.to_string()))?;
        is_started.await.map_err(|_| DevError::Start("its thread ended".to_owned()))??;
        let notice = turn(config, address, &folder);
        Ok(Self { address, notice, stop, ended, thread })
    }

    /// Where Kafka clients reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was changed in the configuration and what that means, in a sentence or two.
    #[must_use]
    pub fn notice(&self) -> &str {
        &self.notice
    }

    /// Waits until the broker ends by itself, which it should not: nothing can be acknowledged after that.
    pub async fn ended(&self) -> DevError {
        let mut ended = self.ended.clone();
        let reason = match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "its thread panicked".to_owned(),
        };
        DevError::Ended(reason)
    }

    /// Ends it: connections are closed, and what was written is handed to the disk.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let thread = self.thread;
        if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
            tracing::error!("the embedded broker's thread panicked");
        }
    }
}

fn open(folder: &Path, topics: &[(String, i32)]) -> Result<Folder, DevError> {
    let data = Folder::open(folder)?;
    for (name, partitions) in topics {
        if data.ensure_topic(name, *partitions)? {
            tracing::info!(topic = name, partitions, "topic made in the data folder");
        }
    }
    Ok(data)
}

/// Points the pipeline at the embedded broker. Returns what to tell its user.
fn turn(config: &mut EdgeConfig, address: SocketAddr, folder: &Path) -> String {
    let replaced = std::mem::replace(&mut config.kafka.bootstrap_servers, vec![address.to_string()]);
    config.kafka.tls = None;
    config.kafka.authentication = None;
    let mut capped = Vec::new();
    for topic in &mut config.topics {
        for number in [&mut topic.replication_factor, &mut topic.min_in_sync_replicas].into_iter().flatten() {
            if *number > 1 {
                *number = 1;
                capped.push(topic.topic_name.as_str());
            }
        }
    }
    capped.dedup();
    let mut notice = format!(
        "Dev mode: records are kept in {} by an embedded Kafka-compatible broker at {address}, not by {} as spec.kafka \
         says. They survive kill -9 of this process, and not the loss of this disk or of power.",
        folder.display(),
        replaced.join(",")
    );
    if !std::mem::take(&mut config.sessions).is_memory() {
        notice.push_str(
            " Sessions are kept in the memory of this process, not in Redis as spec.sessions says.",
        );
    }
    if !capped.is_empty() {
        notice.push_str(&format!(
            " One replica in place of those that spec.topics declares: {}.",
            capped.join(", ")
        ));
    }
    notice
}

/// The thread.
fn live(
    data: Folder,
    listener: TcpListener,
    address: SocketAddr,
    started: oneshot::Sender<Result<(), DevError>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), String> {
    let data = Arc::new(data);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_name("dev-broker")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(DevError::Start(error.to_string())));
            return Err(error.to_string());
        }
    };
    let result = runtime.block_on(async {
        let api = Api::new(Arc::clone(&data), address).await;
        let listener = tokio::net::TcpListener::from_std(listener);
        match (api, listener) {
            (Ok(api), Ok(listener)) => {
                let _ = started.send(Ok(()));
                serve(&api, &listener, stopped).await.map_err(|error| error.to_string())
            }
            (Err(error), _) => {
                let _ = started.send(Err(error));
                Ok(())
            }
            (_, Err(source)) => {
                let _ = started.send(Err(DevError::Port { port: address.port(), source }));
                Ok(())
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = data.sync() {
        tracing::warn!("{error}");
    }
    result
}

/// Accepts connections until it is told to stop, or its owner is gone.
async fn serve(
    api: &Api,
    listener: &tokio::net::TcpListener,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let api = api.clone();
                    connections.spawn(async move {
                        // A client that closes its connection is an error to the library.
                        let result = api.serve(stream).await;
                        tracing::debug!(%peer, ?result, "a Kafka client's connection ended");
                    });
                }
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "the embedded broker cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            },
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("the embedded broker failed on a request and closed its connection");
                }
            }
        }
    }
}

/// Whether accepting may work again: the client is gone (accept(2)), or there are too many descriptors for now.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(life: impl FnOnce(watch::Sender<Option<String>>) + Send + 'static) -> Broker {
        let (end, ended) = watch::channel(None);
        let (stop, _) = oneshot::channel();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Broker { address, notice: String::new(), stop, ended, thread: std::thread::spawn(|| life(end)) }
    }

    #[tokio::test]
    async fn a_broker_that_ends_by_itself_is_an_error_that_says_why() {
        let failed = broker(|end| drop(end.send_replace(Some("no descriptors".to_owned()))));
        let text = failed.ended().await.to_string();
        assert!(text.contains("no descriptors") && text.contains("start again"), "{text}");
        let panicked = broker(|_end| std::panic::resume_unwind(Box::new("a bug")));
        let text = panicked.ended().await.to_string();
        assert!(text.contains("its thread panicked"), "{text}");
    }
}

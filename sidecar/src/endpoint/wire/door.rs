//! What stands between a listener and the protocol of an endpoint.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use penstock_crds::edge::{EndpointConfig, ProtocolConfig};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::credentials::{Credentials, CredentialsError, LOOK};
use super::handshake::{OPENING_TIMEOUT, OpeningError, Secured, part, secure};
pub use super::handshake::{OpeningThreads, Reason};
use super::proxy::{self, TrustedSources};
use super::rate::Rate;
use super::web_socket::{WebSocket, upgrade};
use super::{Peer, Wire};
use crate::budget::EndpointBudget;
use crate::endpoint::connections::{Connections, Order, Place};

/// Openings at once. The kernel keeps those that come beyond, up to the backlog.
const MAX_OPENINGS: usize = 1_024;
/// How often failed openings of an endpoint are told in the log.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Who serves a connection that is open.
pub type Serve = dyn Fn(Wire, Peer, Place) + Send + Sync;

/// What connections of an endpoint go through before they are served.
pub struct Door {
    endpoint: String,
    proxies: Option<TrustedSources>,
    credentials: Option<Arc<Credentials>>,
    web_socket_path: Option<String>,
    rate: Option<Mutex<Rate>>,
    threads: Option<Arc<OpeningThreads>>,
    openings: Arc<Semaphore>,
    counts: Counts,
    complaint: Mutex<Option<Instant>>,
    /// What a client gets that speaks plain text to a port that speaks TLS.
    plain_text_answer: Vec<u8>,
}

/// What came of openings.
#[derive(Debug, Default)]
struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: [AtomicU64; Reason::ALL.len()],
}

impl Door {
    /// A door that lets everybody in as they come.
    #[must_use]
    pub fn open(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            proxies: None,
            credentials: None,
            web_socket_path: None,
            rate: None,
            threads: None,
            openings: Arc::new(Semaphore::new(MAX_OPENINGS)),
            counts: Counts::default(),
            complaint: Mutex::new(None),
            plain_text_answer: Vec::new(),
        }
    }

    /// The door of an endpoint. Files are below `references`.
    pub fn new(
        config: &EndpointConfig,
        references: &Path,
        threads: Option<&Arc<OpeningThreads>>,
    ) -> Result<Self, CredentialsError> {
        let protocols: &[_] = match &config.protocol {
            ProtocolConfig::Http(_) => &["h2", "http/1.1"],
            // What a WebSocket begins with.
            ProtocolConfig::Mqtt(mqtt) if mqtt.web_socket_path.is_some() => &["http/1.1"],
            ProtocolConfig::Mqtt(_) => &["mqtt"],
        };
        let credentials = config
            .tls
            .as_ref()
            .map(|tls| Credentials::load(&config.name, tls.clone(), references, protocols))
            .transpose()?;
        let plain_text_answer = match &config.protocol {
            ProtocolConfig::Http(_) => crate::endpoint::http::answer::plain_text_answer(),
            ProtocolConfig::Mqtt(_) => Vec::new(),
        };
        let web_socket_path = match &config.protocol {
            ProtocolConfig::Http(_) => None,
            ProtocolConfig::Mqtt(mqtt) => mqtt.web_socket_path.clone(),
        };
        // What `validate` lets pass is a range.
        let proxies = config.proxy_protocol.as_ref().map(|proxy| TrustedSources::new(&proxy.trusted_sources));
        let proxies = proxies.transpose().map_err(|error| CredentialsError::TrustedSources {
            field: format!("spec.endpoints['{}'].proxyProtocol.trustedSources", config.name),
            error,
        })?;
        let rate = config.limits.max_connections_per_second;
        let rate = rate.map(|per_second| Mutex::new(Rate::new(per_second, Instant::now())));
        Ok(Self {
            proxies,
            web_socket_path,
            rate,
            credentials,
            threads: threads.filter(|_| Self::takes_time(config)).cloned(),
            plain_text_answer,
            ..Self::open(&config.name)
        })
    }

    /// The endpoint's name.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether the connections of an endpoint need [`OpeningThreads`].
    #[must_use]
    pub fn takes_time(config: &EndpointConfig) -> bool {
        let upgraded =
            matches!(&config.protocol, ProtocolConfig::Mqtt(mqtt) if mqtt.web_socket_path.is_some());
        config.tls.is_some() || config.proxy_protocol.is_some() || upgraded
    }

    /// Whether connections are served as they come.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.threads.is_none()
    }

    /// Whether one more connection is within the rate of the endpoint.
    pub(in crate::endpoint) fn takes_one_more(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.lock().take(Instant::now()))
    }

    /// What it proves itself with.
    #[must_use]
    pub fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref()
    }

    /// Handshakes that went through: in full, and resumed.
    #[must_use]
    pub fn opened(&self) -> (u64, u64) {
        (self.counts.full.load(Ordering::Relaxed), self.counts.resumed.load(Ordering::Relaxed))
    }

    /// Openings that failed.
    pub fn failed(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .zip(&self.counts.failed)
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// Lets a connection in. Waits only while too many are being opened.
    pub(in crate::endpoint) async fn let_in(
        self: &Arc<Self>,
        tcp: TcpStream,
        address: SocketAddr,
        place: Place,
        budget: &Arc<EndpointBudget>,
        serve: &Arc<Serve>,
    ) {
        let Some(threads) = &self.threads else {
            return serve(Wire::Plain(tcp), Peer::at(address), place);
        };
        let Ok(permit) = Arc::clone(&self.openings).acquire_owned().await else { return };
        let (door, budget, serve) = (Arc::clone(self), Arc::clone(budget), Arc::clone(serve));
        // The connection is watched by the threads that open it, and then by those that serve it.
        let Ok(tcp) = tcp.into_std() else { return };
        let home = Handle::current();
        threads.spawn(async move {
            let opening = async { door.opening(TcpStream::from_std(tcp)?, address, &budget).await };
            let opened = tokio::select! {
                opened = tokio::time::timeout(OPENING_TIMEOUT, opening) => {
                    opened.unwrap_or(Err(OpeningError::Timeout))
                }
                // Nothing has begun that would have to be finished.
                () = poll_fn(|context| place.handle().poll_order(None, context)) => {
                    Err(OpeningError::Lost(io::ErrorKind::ConnectionAborted.into()))
                }
            };
            door.enter(opened, permit, address, place, &home, &serve);
        });
    }

    async fn opening(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        budget: &Arc<EndpointBudget>,
    ) -> Result<(Wire, Peer), OpeningError> {
        let mut peer = Peer::at(address);
        let mut tcp = tcp;
        if self.proxies.as_ref().is_some_and(|proxies| proxies.contain(address.ip()))
            && let Some(client) = proxy::read(&mut tcp).await?
        {
            peer.address = client;
        }
        let mut wire;
        if let Some(credentials) = &self.credentials {
            let Secured { stream, certificate, resumed } =
                secure(tcp, credentials, budget, &self.plain_text_answer).await?;
            let count = if resumed { &self.counts.resumed } else { &self.counts.full };
            count.fetch_add(1, Ordering::Relaxed);
            peer.certificate = certificate;
            wire = Wire::Tls(Box::new(stream));
        } else {
            wire = Wire::Plain(tcp);
        }
        if let Some(path) = &self.web_socket_path {
            let early = match upgrade(&mut wire, path, budget).await {
                Ok(early) => early,
                Err(error) => {
                    part(&mut wire, &[]).await;
                    return Err(error.into());
                }
            };
            wire = Wire::WebSocket(Box::new(WebSocket::new(wire, early, Arc::clone(budget))));
        }
        Ok((wire, peer))
    }

    fn enter(
        &self,
        opened: Result<(Wire, Peer), OpeningError>,
        permit: OwnedSemaphorePermit,
        address: SocketAddr,
        place: Place,
        home: &Handle,
        serve: &Arc<Serve>,
    ) {
        drop(permit);
        let (wire, peer) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.complain(&error, address),
        };
        if let Some(certificate) = &peer.certificate {
            place.handle().know(Arc::clone(certificate));
        }
        let _home = home.enter();
        match wire.rehome() {
            Ok(wire) => serve(wire, peer, place),
            Err(error) => self.complain(&error.into(), address),
        }
    }

    fn complain(&self, error: &OpeningError, address: SocketAddr) {
        let reason = error.reason();
        if let Some(count) = self.counts.failed.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let endpoint = &self.endpoint;
        let source = Peer::at(address).source();
        let now = Instant::now();
        let mut complaint = self.complaint.lock();
        // Scanners and half-open connections are no news; of the rest one in a while.
        let loud = !matches!(reason, Reason::Lost | Reason::Timeout)
            && complaint.is_none_or(|last| now.duration_since(last) >= COMPLAINTS);
        if loud {
            *complaint = Some(now);
            let failed: u64 = self.failed().map(|(_, count)| count).sum();
            tracing::warn!(endpoint, source, failed, "a connection was not opened: {error}");
        } else {
            tracing::debug!(endpoint, source, "a connection was not opened: {error}");
        }
    }

    /// Keeps certificates current, and ends the connections of clients whose certificate holds no longer. It does not
    /// return.
    pub(in crate::endpoint) async fn keep_current(&self, connections: &Connections) {
        let Some(credentials) = &self.credentials else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let (files, known) = (Arc::clone(credentials), connections.known());
            // Files, and a signature to check for each client: nothing for the threads that serve.
            let looked = tokio::task::spawn_blocking(move || {
                files.look();
                files.fallen(known)
            });
            for handle in looked.await.unwrap_or_default() {
                handle.order(Order::Unauthorized);
            }
        }
    }
}

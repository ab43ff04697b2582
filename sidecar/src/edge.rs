//! One sidecar: its listeners, budgets, books and store, put together from an [`EdgeConfig`].

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_crds::edge::{EdgeConfig, EndpointConfig, ProtocolConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth;
use crate::budget::PodBudget;
use crate::endpoint::listener::{self, ListenError};
use crate::endpoint::wire::credentials::CredentialsError;
use crate::endpoint::wire::door::{Door, OpeningThreads};
use crate::endpoint::{Endpoint, Reach};
use crate::intake::{Intake, IntakeError};
use crate::ledger::Ledger;
use crate::session::redis::LinkError;
use crate::session::store::{Pod, SessionStore};
use crate::store::kafka::{KafkaStore, StartError, Threads};

/// How long clients that are early wait for the first word of Kafka: after the restart of a pod they are all there within
/// milliseconds, and would be told to come back later although nothing is wrong.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Why a sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Kafka's client.
    #[error(transparent)]
    Store(#[from] StartError),
    /// A route.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// Certificate, key or CA of an endpoint.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A reference of the session store.
    #[error(transparent)]
    Sessions(#[from] LinkError),
    /// The threads that connections are opened on.
    #[error("cannot start the threads that open connections: {0}")]
    Threads(io::Error),
}

impl EdgeError {
    /// Whether the configuration is at fault, and not the machine.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Listen(_) | Self::Threads(_) => false,
            Self::Store(error) => error.is_configuration(),
            Self::Intake(_) | Self::Credentials(_) | Self::Sessions(_) => true,
        }
    }
}

/// A running sidecar.
pub struct Edge {
    config: Arc<EdgeConfig>,
    pod: Arc<PodBudget>,
    store: Arc<KafkaStore>,
    threads: Mutex<Option<Threads>>,
    sessions: Option<Arc<SessionStore>>,
    endpoints: Vec<Endpoint>,
    ledger: Ledger,
    draining: AtomicBool,
    stop_accepting: [CancellationToken; 2],
}

impl Edge {
    /// Listens, starts the store, and lets clients in. Kafka need not be there. Must be called on a tokio runtime.
    pub fn start(config: EdgeConfig, references: &Path) -> Result<Arc<Self>, EdgeError> {
        let config = Arc::new(config);
        // Ports first: a port in use should not cost a connection to Kafka.
        let listeners = config
            .endpoints
            .iter()
            .map(|endpoint| listener::listen(&endpoint.name, endpoint.port, endpoint.loopback))
            .collect::<Result<Vec<_>, _>>()?;
        let doors = doors(&config, references)?;
        let pod = PodBudget::new(config.max_in_flight_bytes);
        let (store, threads) = KafkaStore::start(Arc::clone(&config), references, Arc::clone(&pod))?;
        let intakes = Intake::build(&config, references, &store, &pod)?;
        let ledger = Ledger::new(intakes.iter().map(|intake| Arc::clone(intake.ledger())).collect());
        let this = Arc::new(OnceLock::<Weak<Self>>::new());
        let sessions = keep_sessions(&config, references, &this)?;
        let ack_timeout = Duration::from_secs(config.delivery.ack_timeout_seconds.into());
        let endpoints = config
            .endpoints
            .iter()
            .zip(intakes)
            .zip(doors)
            .map(|((endpoint, intake), door)| Endpoint::new(endpoint, intake, ack_timeout, door, &sessions))
            .collect();
        let edge = Arc::new(Self {
            config,
            pod,
            store,
            threads: Mutex::new(Some(threads)),
            sessions,
            endpoints,
            ledger,
            draining: AtomicBool::new(false),
            stop_accepting: Reach::ALL.map(|_| CancellationToken::new()),
        });
        let _ = this.set(Arc::downgrade(&edge));
        for (index, listener) in listeners.into_iter().enumerate() {
            edge.accept(index, listener);
        }
        edge.look_after_gates();
        Ok(edge)
    }

    fn accept(self: &Arc<Self>, index: usize, listener: TcpListener) {
        let edge = Arc::clone(self);
        tokio::spawn(async move {
            edge.store.first_look(FIRST_LOOK).await;
            if let Some(endpoint) = edge.endpoints.get(index) {
                endpoint.serve(listener, edge.stop_accepting[endpoint.reach() as usize].clone()).await;
            }
        });
    }

    /// Says which endpoints are open, and keeps the credentials of the others current.
    fn look_after_gates(&self) {
        for endpoint in &self.endpoints {
            match endpoint.intake().gate() {
                Some(gate) => {
                    let connections = Arc::clone(endpoint.connections());
                    tokio::spawn(auth::watch(Arc::downgrade(gate), connections));
                }
                // From inside the pod its own containers come, and nobody else.
                None if endpoint.reach() == Reach::Pod => {}
                None => tracing::warn!(
                    endpoint = endpoint.name(),
                    "the endpoint is open: whoever reaches its port may send; give it authentication to change that"
                ),
            }
        }
    }

    /// What it was made from.
    #[must_use]
    pub fn config(&self) -> &EdgeConfig {
        &self.config
    }

    /// The pod's budget.
    #[must_use]
    pub fn pod(&self) -> &Arc<PodBudget> {
        &self.pod
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<KafkaStore> {
        &self.store
    }

    /// Where sessions are kept; none where none is.
    #[must_use]
    pub fn sessions(&self) -> Option<&SessionStore> {
        self.sessions.as_deref()
    }

    /// The endpoints, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether the pod is ending.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Why no new clients should be sent here; none when they should. A loss of Kafka after it was seen is no reason:
    /// or an outage would take every endpoint away, and no sender would get its 503.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".to_owned());
        }
        // Who cannot be let in here may be elsewhere.
        let shut =
            self.endpoints.iter().filter_map(|endpoint| endpoint.intake().gate()).find(|gate| gate.is_shut());
        if let Some(gate) = shut {
            return Some(format!("the credentials of endpoint {} cannot be read", gate.endpoint()));
        }
        if self.store.health().was_seen() {
            return None;
        }
        let obstacle = self.store.topics().iter().find_map(|topic| topic.obstacle());
        let trouble = self.store.health().trouble().or(obstacle.map(|obstacle| obstacle.message));
        Some(trouble.unwrap_or_else(|| "Kafka has not been seen yet".to_owned()))
    }

    /// From now on not ready; connections are still accepted.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Accepts nothing more from there.
    pub fn stop_accepting(&self, reach: Reach) {
        self.stop_accepting[reach as usize].cancel();
    }

    /// Whether a thread of the store has ended although nobody asked it to: nothing would be acknowledged any more.
    #[must_use]
    pub fn store_has_failed(&self) -> bool {
        self.threads.lock().as_ref().is_some_and(Threads::has_ended)
    }

    /// Waits for the last reports, at most `patience`, and ends the store. Returns how many messages are left without
    /// one.
    pub async fn end_store(&self, patience: Duration) -> usize {
        let Some(threads) = self.threads.lock().take() else { return 0 };
        tokio::task::spawn_blocking(move || threads.end(patience)).await.unwrap_or(0)
    }
}

/// Where the sessions of MQTT clients are kept, if an endpoint keeps any. What the store says goes to `edge`, once that is
/// there.
fn keep_sessions(
    config: &EdgeConfig,
    references: &Path,
    edge: &Arc<OnceLock<Weak<Edge>>>,
) -> Result<Option<Arc<SessionStore>>, LinkError> {
    let keeps = |endpoint: &EndpointConfig| match &endpoint.protocol {
        ProtocolConfig::Mqtt(mqtt) => mqtt.session_expiry_seconds > 0,
        ProtocolConfig::Http(_) => false,
    };
    if !config.endpoints.iter().any(keeps) {
        return Ok(None);
    }
    // A name that no other pod has, nor any process in this one before.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = format!("{}-{}", host.trim(), Uuid::now_v7().simple());
    let (told, asked) = (Arc::clone(edge), Arc::clone(edge));
    let pod = Pod {
        name: name.into(),
        notified: Arc::new(move |notice| {
            if let Some(edge) = told.get().and_then(Weak::upgrade) {
                edge.endpoints.iter().filter_map(Endpoint::mqtt).for_each(|mqtt| mqtt.notice(&notice));
            }
        }),
        publisher: Arc::new(move |due| {
            let edge = asked.get().and_then(Weak::upgrade);
            Box::pin(async move {
                let Some(edge) = edge else { return false };
                for mqtt in edge.endpoints.iter().filter_map(Endpoint::mqtt) {
                    if mqtt.publish_will(&due).await {
                        return true;
                    }
                }
                false
            })
        }),
    };
    SessionStore::start(config, references, &pod).map(|store| Some(Arc::new(store)))
}

/// A door for each endpoint.
fn doors(config: &EdgeConfig, references: &Path) -> Result<Vec<Door>, EdgeError> {
    let needed = config.endpoints.iter().any(Door::takes_time);
    let threads = needed.then(OpeningThreads::start).transpose().map_err(EdgeError::Threads)?;
    let doors = config.endpoints.iter().map(|endpoint| Door::new(endpoint, references, threads.as_ref()));
    Ok(doors.collect::<Result<_, _>>()?)
}

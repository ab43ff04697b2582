//! The MQTT endpoint: 3.1.1 and 5, publishing only.

mod answer;
mod claims;
mod client;
mod clients;
pub mod codec;
mod connection;
mod end;
mod entry;
mod exactly_once;
mod hand_over;
mod headers;
mod hello;
mod inbound;
mod inherit;
mod kept;
mod outbound;
mod publish;
mod resume;
mod session;
mod turned_away;
mod will;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use penstock_crds::edge::{LimitsConfig, MqttConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::{Connections, Place};
use super::listener;
use super::wire::door::{Door, Serve};
use super::wire::{Peer, Wire};
use crate::intake::Intake;
use crate::session::store::{Due, Notice, SessionStore};
use clients::Clients;
use connection::Connection;
use turned_away::TurnedAway;
use will::StoredWill;

/// What all connections of an MQTT endpoint share.
pub struct MqttEndpoint {
    intake: Arc<Intake>,
    config: MqttConfig,
    limits: LimitsConfig,
    ack_timeout: Duration,
    connections: Arc<Connections>,
    clients: Clients,
    /// Where sessions are kept; none where none is.
    sessions: Option<Arc<SessionStore>>,
    /// Packet identifiers that were given to another message before they were released.
    replaced: AtomicU64,
}

impl MqttEndpoint {
    /// An endpoint; call [`serve`](Self::serve) to let clients in.
    #[must_use]
    pub fn new(
        intake: Arc<Intake>,
        config: MqttConfig,
        limits: LimitsConfig,
        ack_timeout: Duration,
        sessions: Option<Arc<SessionStore>>,
    ) -> Arc<Self> {
        let connections = Connections::new(limits.max_connections);
        Arc::new(Self {
            intake,
            sessions: sessions.filter(|_| config.session_expiry_seconds > 0),
            config,
            limits,
            ack_timeout,
            connections,
            clients: Clients::default(),
            replaced: AtomicU64::new(0),
        })
    }

    /// Takes note of what a session store says.
    pub fn notice(&self, notice: &Notice) {
        self.clients.notice(notice);
    }

    /// Publishes a Will that a session store kept, if it is one of this endpoint's. True once it is persisted, or refused
    /// for good.
    pub async fn publish_will(self: &Arc<Self>, due: &Due) -> bool {
        let Some((endpoint, will, testator)) = StoredWill::read(&due.id, &due.message) else { return false };
        if endpoint != self.intake.ledger().name() {
            return false;
        }
        will.publish(self, &self.intake.ledger().account(0), &testator).await
    }

    /// How many clients are connected whose sessions are kept.
    #[must_use]
    pub fn kept_sessions(&self) -> usize {
        self.clients.kept()
    }

    /// How often a packet identifier was given to another message before it was released: by clients that lost their
    /// state.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// How long a Will waits at least when its pod is gone, and not its client.
    fn will_grace(&self) -> Duration {
        Duration::from_secs(self.config.will_grace_seconds.into())
    }

    /// Who is connected.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Accepts until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, door: Arc<Door>, stop: CancellationToken) {
        let connections = Arc::clone(&self.connections);
        let budget = Arc::clone(self.intake.budget());
        let serve: Arc<Serve> = Arc::new(move |wire: Wire, peer: Peer, place: Place| {
            tokio::spawn(Connection::new(Arc::clone(&self), wire, &peer, place).run());
        });
        let turned_away = door.is_plain().then(TurnedAway::default);
        let refuse = |stream, excess| {
            // Behind TLS it would cost a handshake to say why.
            if let Some(turned_away) = &turned_away {
                turned_away.tell(stream, excess);
            }
        };
        listener::accept(listener, door, connections, budget, stop, serve, refuse).await;
    }
}

impl std::fmt::Debug for MqttEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttEndpoint").field("name", &self.intake.ledger().name()).finish_non_exhaustive()
    }
}

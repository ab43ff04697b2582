//! The MQTT endpoint: 3.1.1 and 5 over TCP, publishing only.

mod client;
mod clients;
pub mod codec;
mod connection;
mod end;
mod entry;
mod headers;
mod inbound;
mod outbound;
mod publish;
mod session;
mod turned_away;
mod will;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use penstock_crds::edge::{LimitsConfig, MqttConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::{Connections, Place};
use super::listener;
use super::wire::door::{Door, Serve};
use super::wire::{Peer, Wire};
use crate::intake::Intake;
use clients::Clients;
use connection::Connection;
use turned_away::TurnedAway;

/// What all connections of an MQTT endpoint share.
pub struct MqttEndpoint {
    intake: Arc<Intake>,
    config: MqttConfig,
    limits: LimitsConfig,
    ack_timeout: Duration,
    connections: Arc<Connections>,
    clients: Clients,
}

impl MqttEndpoint {
    /// An endpoint; call [`serve`](Self::serve) to let clients in.
    #[must_use]
    pub fn new(
        intake: Arc<Intake>,
        config: MqttConfig,
        limits: LimitsConfig,
        ack_timeout: Duration,
    ) -> Arc<Self> {
        let connections = Connections::new(limits.max_connections);
        Arc::new(Self { intake, config, limits, ack_timeout, connections, clients: Clients::default() })
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

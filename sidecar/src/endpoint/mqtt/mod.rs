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
mod will;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use penstock_crds::edge::{LimitsConfig, MqttConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::listener;
use crate::intake::Intake;
use clients::Clients;
use connection::Connection;

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
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let name = self.intake.ledger().name().to_owned();
        let connections = Arc::clone(&self.connections);
        let serve = |stream, peer, place| {
            tokio::spawn(Connection::new(Arc::clone(&self), stream, peer, place).run());
        };
        // A client without a place is closed before it has said a word: there is no protocol version to answer in.
        listener::accept(&name, listener, connections, stop, serve, drop).await;
    }
}

impl std::fmt::Debug for MqttEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttEndpoint").field("name", &self.intake.ledger().name()).finish_non_exhaustive()
    }
}

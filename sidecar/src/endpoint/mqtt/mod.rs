//! The MQTT endpoint: 3.1.1 and 5 over TCP, publishing only.

mod client;
pub mod codec;
mod connection;
mod end;
mod headers;
mod inbound;
mod outbound;
mod publish;
mod session;
mod will;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_crds::edge::{LimitsConfig, MqttConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::{Connections, Handle, Order};
use super::listener;
use crate::intake::Intake;
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

/// The connected clients by identifier: one connection each (`[MQTT-3.1.4-3]`).
#[derive(Debug, Default)]
struct Clients(Mutex<HashMap<Box<str>, Arc<Handle>>>);

impl Clients {
    /// Notes a client, and sends away the connection that had its identifier.
    fn enter(&self, client_id: &str, handle: &Arc<Handle>) {
        let before = self.0.lock().insert(client_id.into(), Arc::clone(handle));
        if let Some(before) = before {
            before.order(Order::TakenOver);
        }
    }

    /// Forgets a client, unless another connection has taken its place.
    fn leave(&self, client_id: &str, handle: &Arc<Handle>) {
        let mut clients = self.0.lock();
        if clients.get(client_id).is_some_and(|inside| Arc::ptr_eq(inside, handle)) {
            clients.remove(client_id);
        }
        if clients.is_empty() {
            clients.shrink_to_fit();
        }
    }
}

//! The connected clients by identifier: one connection each (`[MQTT-3.1.4-3]`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::MqttEndpoint;
use super::kept::Ownership;
use super::session::Session;
use crate::endpoint::connections::{Handle, Order};
use crate::session::store::Notice;

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<HashMap<Box<str>, Inside>>);

/// A client's connection.
#[derive(Debug)]
struct Inside {
    handle: Arc<Handle>,
    /// Of a session that is kept.
    ownership: Option<Arc<Ownership>>,
}

impl Clients {
    /// Passes on what a session store says.
    pub(super) fn notice(&self, notice: &Notice) {
        let clients = self.0.lock();
        match notice {
            Notice::Taken { client_id, count, clean } => {
                let Some(inside) = clients.get(client_id) else { return };
                // A client without a kept session has one connection, too.
                if inside.ownership.as_ref().is_none_or(|ownership| ownership.count() < *count) {
                    inside.handle.order(taken_over(*clean));
                }
            }
            Notice::Forgot { client_id, count } => {
                let Some(Inside { handle, ownership: Some(ownership) }) = clients.get(client_id) else {
                    return;
                };
                if ownership.count() == *count {
                    ownership.forget();
                    handle.wake();
                }
            }
        }
    }

    /// The connection of a client, and its hold on a session that is kept.
    pub(super) fn owner(&self, client_id: &str) -> Option<(Arc<Handle>, Arc<Ownership>)> {
        let clients = self.0.lock();
        let Inside { handle, ownership } = clients.get(client_id)?;
        Some((Arc::clone(handle), Arc::clone(ownership.as_ref()?)))
    }

    /// How many are connected whose sessions are kept.
    pub(super) fn kept(&self) -> usize {
        self.0.lock().values().filter(|inside| inside.ownership.is_some()).count()
    }
}

/// What the connection is told whose client has come anew.
fn taken_over(clean: bool) -> Order {
    if clean { Order::SessionEnded } else { Order::TakenOver }
}

/// A connection's hold on its client identifier, left on drop.
#[derive(Debug)]
pub(super) struct Seat {
    endpoint: Arc<MqttEndpoint>,
    client_id: Box<str>,
    handle: Arc<Handle>,
}

impl Seat {
    /// Takes a client's seat, and sends away the connection that had it.
    pub(super) fn take(
        endpoint: &Arc<MqttEndpoint>,
        session: &Session,
        handle: Arc<Handle>,
        ownership: Option<Arc<Ownership>>,
    ) -> Self {
        let client_id = &*session.client_id;
        let inside = Inside { handle: Arc::clone(&handle), ownership };
        let before = endpoint.clients.0.lock().insert(client_id.into(), inside);
        if let Some(before) = before {
            before.handle.order(taken_over(session.clean_start));
        }
        Self { endpoint: Arc::clone(endpoint), client_id: client_id.into(), handle }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = self.endpoint.clients.0.lock();
        if clients.get(&self.client_id).is_some_and(|inside| Arc::ptr_eq(&inside.handle, &self.handle)) {
            clients.remove(&self.client_id);
        }
        if clients.is_empty() {
            clients.shrink_to_fit();
        }
    }
}

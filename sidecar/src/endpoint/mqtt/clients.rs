//! The connected clients by identifier: one connection each (`[MQTT-3.1.4-3]`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::MqttEndpoint;
use crate::endpoint::connections::{Handle, Order};

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<HashMap<Box<str>, Arc<Handle>>>);

/// A connection's hold on its client identifier, left on drop.
#[derive(Debug)]
pub(super) struct Seat {
    endpoint: Arc<MqttEndpoint>,
    client_id: Box<str>,
    handle: Arc<Handle>,
}

impl Seat {
    /// Takes a client's seat, and sends away the connection that had it.
    pub(super) fn take(endpoint: &Arc<MqttEndpoint>, client_id: &str, handle: Arc<Handle>) -> Self {
        let before = endpoint.clients.0.lock().insert(client_id.into(), Arc::clone(&handle));
        if let Some(before) = before {
            before.order(Order::TakenOver);
        }
        Self { endpoint: Arc::clone(endpoint), client_id: client_id.into(), handle }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = self.endpoint.clients.0.lock();
        if clients.get(&self.client_id).is_some_and(|inside| Arc::ptr_eq(inside, &self.handle)) {
            clients.remove(&self.client_id);
        }
        if clients.is_empty() {
            clients.shrink_to_fit();
        }
    }
}

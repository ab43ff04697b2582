//! Who is connected to an endpoint, and the orders that connections are given from outside.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use super::wire::ClientCertificate;
use crate::auth::Identity;

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Finish what is in flight and leave: the pod is ending.
    Leave = 1,
    /// Close now: another connection has taken the client's place.
    TakenOver = 2,
    /// The same, and with it the session has ended: the other one began with Clean Start.
    SessionEnded = 5,
    /// Close now: the pod ends, and what is in flight is abandoned.
    Close = 3,
    /// Leave: what the client proved itself with holds no longer.
    Unauthorized = 4,
}

/// The outside's hold on one connection.
#[derive(Debug, Default)]
pub struct Handle {
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
    certificate: OnceLock<Arc<ClientCertificate>>,
    identity: OnceLock<Arc<Identity>>,
}

impl Handle {
    /// Notes by which certificate the client is known.
    pub(super) fn know(&self, certificate: Arc<ClientCertificate>) {
        let _ = self.certificate.set(certificate);
    }

    /// The certificate that the client has shown, if it did and the endpoint's CA signed it.
    #[must_use]
    pub(super) fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.get().map(Arc::as_ref)
    }

    /// Gives an order; a later one takes the place of an earlier one.
    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.wake();
    }

    /// Has the connection look around.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Notes who the client is. Ask its gate once more afterwards: what was taken away in between is not told.
    pub fn identify(&self, identity: Arc<Identity>) {
        let _ = self.identity.set(identity);
    }

    /// Who the client is.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.get()
    }

    /// The order given last.
    #[must_use]
    pub fn ordered(&self) -> Option<Order> {
        match self.order.load(Ordering::Acquire) {
            1 => Some(Order::Leave),
            2 => Some(Order::TakenOver),
            3 => Some(Order::Close),
            4 => Some(Order::Unauthorized),
            5 => Some(Order::SessionEnded),
            _ => None,
        }
    }

    /// Waits for an order other than `known`.
    pub fn poll_order(&self, known: Option<Order>, context: &Context<'_>) -> Poll<()> {
        {
            let mut waker = self.waker.lock();
            match &mut *waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        if self.ordered() == known { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// The connections of one endpoint, at most a given number.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    inside: Mutex<Slab<Arc<Handle>>>,
    emptied: Notify,
}

/// A place among the connections, left on drop.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    index: usize,
    handle: Arc<Handle>,
}

impl Connections {
    /// Room for `limit` connections.
    #[must_use]
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit: limit as usize, inside: Mutex::default(), emptied: Notify::new() })
    }

    /// A place, unless all are taken.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut inside = self.inside.lock();
        if inside.len() >= self.limit {
            return None;
        }
        let handle = Arc::new(Handle::default());
        let index = inside.insert(Arc::clone(&handle));
        Some(Place { connections: Arc::clone(self), index, handle })
    }

    /// How many are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inside.lock().len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells all connections to leave, evenly over `time`, so that they do not all come back elsewhere at once.
    pub async fn tell_to_leave(&self, time: Duration) {
        let handles: Vec<_> = self.inside.lock().iter().map(|(_, handle)| Arc::clone(handle)).collect();
        let Ok(count) = u32::try_from(handles.len()) else { return };
        let start = tokio::time::Instant::now();
        for (index, handle) in (0..).zip(handles) {
            // The timer has a resolution of a millisecond: those that are due together go together.
            let due = start + time * index / count.max(1);
            if due > tokio::time::Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            handle.order(Order::Leave);
        }
    }

    /// Tells the connections of identities that do not hold on to close.
    pub async fn revoke(&self, holds: impl Fn(&Identity) -> bool) {
        /// So that a thousand that come back at once do not meet the next thousand.
        const TOGETHER: usize = 1_000;
        let ended = |handle: &Arc<Handle>| handle.identity().is_some_and(|identity| !holds(identity));
        let handles: Vec<_> = self
            .inside
            .lock()
            .iter()
            .map(|(_, handle)| handle)
            .filter(|handle| ended(handle))
            .cloned()
            .collect();
        for (index, handle) in handles.iter().enumerate() {
            if index % TOGETHER == TOGETHER - 1 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            handle.order(Order::Unauthorized);
        }
    }

    /// Tells all connections to close now.
    pub fn close_all(&self) {
        let handles: Vec<_> = self.inside.lock().iter().map(|(_, handle)| Arc::clone(handle)).collect();
        handles.iter().for_each(|handle| handle.order(Order::Close));
    }

    /// The connections of clients that are known by a certificate.
    pub(super) fn known(&self) -> Vec<(Arc<Handle>, Arc<ClientCertificate>)> {
        let inside = self.inside.lock();
        let known = inside
            .iter()
            .filter_map(|(_, handle)| Some((Arc::clone(handle), handle.certificate.get()?.clone())));
        known.collect()
    }

    /// Waits until nobody is connected.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Place {
    /// The outside's hold on this connection.
    #[must_use]
    pub fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// A number that differs between connections that are there together.
    #[must_use]
    pub fn number(&self) -> usize {
        self.index
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let empty = {
            let mut inside = self.connections.inside.lock();
            inside.try_remove(self.index);
            if inside.is_empty() {
                inside.shrink_to_fit();
            }
            inside.is_empty()
        };
        if empty {
            self.connections.emptied.notify_waiters();
        }
    }
}

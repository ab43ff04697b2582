//! Sessions in the memory of the pod: for one replica and for dev mode. They end with the process.

mod kept;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::kept::Sessions;
use super::error::StoreError;
use super::pod::{Pod, Publisher};
use super::record::{Epoch, Fence, Leave, Reclaim, TakeOver, Taken, Write};
use super::will::{Due, Farewell, KeptWill};

/// Memory does not forget while there is anybody to ask.
const EPOCH: Epoch = Epoch(0);
/// Wills that are on their way at once.
const WILLS: usize = 64;
/// When a Will that was not persisted is due again.
const AGAIN: Duration = Duration::from_secs(5);

/// The sessions of a pipeline that has one pod. What runs for them ends when it is dropped.
///
/// What is asked here is done at once. There are no notices: no other pod takes a session.
pub struct MemoryStore {
    pod: Box<str>,
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    sessions: Mutex<Sessions>,
    /// Something is due earlier than what is waited for.
    bell: Notify,
}

impl MemoryStore {
    /// Starts on the current runtime. All sessions and Wills together take up to `limit_bytes`.
    #[must_use]
    pub fn start(limit_bytes: u64, pod: &Pod) -> Self {
        let sessions = Mutex::new(Sessions::new(limit_bytes));
        let shared = Arc::new(Shared { sessions, bell: Notify::new() });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), Arc::clone(&pod.publisher)));
        Self { pod: pod.name.clone(), shared, keeper }
    }

    /// The name of this pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Bytes that are taken now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.sessions.lock().used_bytes()
    }

    /// Gives a session to a new owner. `expiry` is for how long it is kept when its client has gone.
    ///
    /// # Errors
    /// [`StoreError::WrongIdentity`], [`StoreError::Unavailable`] when there is no room for it.
    pub fn take_over(
        &self,
        client_id: &str,
        request: &TakeOver<'_>,
        expiry: Duration,
        will: Option<&KeptWill>,
    ) -> Result<Taken, StoreError> {
        let request = TakeOver { epoch: EPOCH, ..request.clone() };
        self.change(|sessions, now| sessions.take_over(client_id, &request, expiry, will, now))
    }

    /// Does an owner's changes, all or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], [`StoreError::Forgot`] for a session that is not there, [`StoreError::Unavailable`] when there
    /// is no room for more handshakes.
    pub fn write(&self, client_id: &str, request: &Write<'_>) -> Result<(), StoreError> {
        // Nothing is due by it.
        self.shared.sessions.lock().write(client_id, &Write { epoch: EPOCH, ..request.clone() })
    }

    /// Takes a session back that is not there.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], [`StoreError::Unavailable`] when there is no room for it.
    pub fn reclaim(
        &self,
        client_id: &str,
        request: &Reclaim<'_>,
        expiry: Duration,
        will: Option<&KeptWill>,
    ) -> Result<Fence, StoreError> {
        let request = Reclaim { epoch: EPOCH, ..request.clone() };
        self.change(|sessions, now| sessions.reclaim(client_id, &request, expiry, will, now))
    }

    /// Notes that the client is gone, and what becomes of its Will.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], [`StoreError::Forgot`].
    pub fn leave(
        &self,
        client_id: &str,
        request: &Leave<'_>,
        expiry: Duration,
        farewell: Farewell,
    ) -> Result<(), StoreError> {
        let write = Write { epoch: EPOCH, ..request.write.clone() };
        let request = Leave { write, keep: request.keep };
        self.change(|sessions, now| sessions.leave(client_id, &request, expiry, farewell, now))
    }

    /// Keeps a session whose owner went without a word for its expiry, and no longer.
    pub fn disown(&self, client_id: &str, fence: Fence) {
        self.change(|sessions, now| sessions.disown(client_id, fence, now));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Sessions, Instant) -> T) -> T {
        let mut sessions = self.shared.sessions.lock();
        let before = sessions.next();
        let changed = change(&mut sessions, Instant::now());
        let earlier = sessions.next().is_some_and(|next| before.is_none_or(|before| next < before));
        drop(sessions);
        if earlier {
            self.shared.bell.notify_one();
        }
        changed
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Ends sessions whose time has come, and publishes Wills.
async fn keep(shared: Arc<Shared>, publisher: Publisher) {
    let mut wills: JoinSet<bool> = JoinSet::new();
    // By the task that publishes it: that one may panic.
    let mut under_way: HashMap<Id, KeptWill> = HashMap::new();
    loop {
        let next = loop {
            let mut sessions = shared.sessions.lock();
            if wills.len() == WILLS {
                break None;
            }
            let Some(will) = sessions.take_will(Instant::now()) else { break sessions.next() };
            drop(sessions);
            let due = Due { name: Box::default(), id: will.id.clone(), message: will.message.clone() };
            let publishing = wills.spawn(publisher(due));
            under_way.insert(publishing.id(), will);
        };
        tokio::select! {
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = shared.bell.notified(), if wills.len() < WILLS => {}
            Some(published) = wills.join_next_with_id(), if !wills.is_empty() => {
                let (id, persisted) = published.unwrap_or_else(|error| (error.id(), false));
                if let Some(will) = under_way.remove(&id) {
                    let mut sessions = shared.sessions.lock();
                    sessions.published(will, persisted, Instant::now() + AGAIN);
                }
            }
        }
    }
}

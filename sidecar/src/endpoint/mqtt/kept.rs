//! A connection's hold on a session that outlives it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::claims::Claims;
use crate::session::random;
use crate::session::record::{Change, Epoch, Fence, Incarnation, Leave, Reclaim, Write};
use crate::session::store::{Answer, Farewell, KeptWill, SessionStore, StoreError};

/// A store's connection to its server knows the epoch itself.
pub(super) const EPOCH: Epoch = Epoch(0);
/// How long the store is tried again that could not be told that a client is gone, and how often.
const LEAVING: (u32, Duration) = (60, Duration::from_secs(1));

/// A session that is being taken back.
pub(super) type Reclaiming = Pin<Box<dyn Future<Output = Result<Fence, StoreError>> + Send>>;

/// The hold. The store tells of its loss by the [`Ownership`].
pub(super) struct KeptSession {
    store: Arc<SessionStore>,
    identity: Box<str>,
    fence: Fence,
    ownership: Arc<Ownership>,
}

/// What the store's notices are compared with, and where an heir asks.
#[derive(Debug)]
pub(super) struct Ownership {
    count: AtomicU64,
    forgotten: AtomicBool,
    claims: Claims,
}

impl Ownership {
    fn new(fence: Fence) -> Self {
        Self {
            count: AtomicU64::new(fence.count),
            forgotten: AtomicBool::new(false),
            claims: Claims::default(),
        }
    }

    /// [`Fence::count`].
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// What other connections of the client on this pod want.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The store has forgotten the session.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }
}

impl KeptSession {
    /// The store has given the session to us under this fence.
    pub(super) fn new(store: Arc<SessionStore>, identity: Box<str>, fence: Fence) -> Self {
        Self { store, identity, fence, ownership: Arc::new(Ownership::new(fence)) }
    }

    pub(super) fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }

    /// To whom the session belongs.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether the store has said that it forgot the session. Says so once.
    pub(super) fn was_forgotten(&self) -> bool {
        self.ownership.forgotten.load(Ordering::Relaxed)
            && self.ownership.forgotten.swap(false, Ordering::AcqRel)
    }

    /// Whether the store has said so, or another connection of the client asks for the session.
    pub(super) fn has_news(&self) -> bool {
        self.ownership.forgotten.load(Ordering::Relaxed) || self.ownership.claims.is_asked()
    }

    /// The store has given the session back under this fence.
    pub(super) fn refence(&mut self, fence: Fence) {
        self.fence = fence;
        self.ownership.count.store(fence.count, Ordering::Release);
    }

    /// Has changes stored.
    pub(super) fn write(&self, client_id: &str, confirmed: u64, changes: &[Change]) -> Answer<()> {
        let write = Write { fence: self.fence, epoch: EPOCH, confirmed, changes };
        self.store.write(client_id, &write)
    }

    /// Takes the session back from a store that forgot it, with these changes.
    pub(super) fn reclaim(
        &self,
        client_id: &str,
        changes: &[Change],
        incarnation: Incarnation,
        expiry: Duration,
        will: Option<KeptWill>,
    ) -> Reclaiming {
        let (store, identity, fence) = (Arc::clone(&self.store), self.identity.clone(), self.fence);
        let (client_id, changes) = (Box::<str>::from(client_id), changes.to_vec());
        Box::pin(async move {
            // Without random numbers nothing can be had from the store.
            let token = random().ok_or(StoreError::Fenced)?;
            let pod = store.pod();
            let request = Reclaim {
                fence,
                identity: &identity,
                pod,
                token,
                incarnation,
                epoch: EPOCH,
                changes: &changes,
            };
            store.reclaim(&client_id, &request, expiry, will.as_ref()).await
        })
    }

    /// Somebody else has the session: the store is told nothing more.
    pub(super) fn abandon(&self, client_id: &str) {
        self.store.disown(client_id, self.fence);
    }
}

/// The end of a connection, as the store is told of it.
pub(super) struct Leaving {
    pub(super) kept: KeptSession,
    pub(super) client_id: Box<str>,
    pub(super) confirmed: u64,
    pub(super) changes: Vec<Change>,
    /// For how long the session is kept from now on.
    pub(super) expiry: Duration,
    pub(super) farewell: Farewell,
}

impl Leaving {
    /// Tells the store that the client is gone.
    ///
    /// # Errors
    /// The store does not have the session, or is away.
    async fn tell(&self) -> Result<(), StoreError> {
        let Self { kept, client_id, confirmed, changes, expiry, farewell } = self;
        let write = Write { fence: kept.fence, epoch: EPOCH, confirmed: *confirmed, changes };
        let leave = Leave { write, keep: !expiry.is_zero() };
        match kept.store.leave(client_id, &leave, *expiry, *farewell).await {
            // Whoever has it now looks after its Will.
            Err(StoreError::Fenced | StoreError::WrongIdentity(_)) => Ok(()),
            told => told,
        }
    }

    /// As [`tell`](Self::tell); a store that is away is tried again for a while, beside everything else. A session that the
    /// store does not have is gone: it forgot it, or another connection ended it by Clean Start, and nobody can tell which.
    /// The Will of a client of which the store cannot be told is published by `publish`.
    pub(super) async fn leave(self, publish: impl Future<Output = ()> + Send + 'static) {
        let mut told = self.tell().await;
        if told.is_ok() {
            return;
        }
        tokio::spawn(async move {
            for _ in 0..LEAVING.0 {
                match told {
                    Ok(()) => return,
                    Err(StoreError::Unavailable(_)) => {}
                    Err(_) => break,
                }
                tokio::time::sleep(LEAVING.1).await;
                told = self.tell().await;
            }
            self.kept.abandon(&self.client_id);
            if let Farewell::Due { wait, .. } = self.farewell {
                tokio::time::sleep(wait).await;
                publish.await;
            }
        });
    }
}

//! A connection's hold on a session that outlives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::MqttEndpoint;
use super::codec::Reason;
use super::entry::Hello;
use super::exactly_once::{ExactlyOnce, Reclaiming};
use super::inherit::{Claims, inherit};
use super::will::{StoredWill, Testator};
use crate::auth::Identity;
use crate::planted::{self, Bug};
use crate::session::handshake::Handshakes;
use crate::session::random;
use crate::session::record::{
    Change, Epoch, Fence, Incarnation, KeptReceipt, Leave, Reclaim, TakeOver, Taken, Write,
};
use crate::session::store::{Answer, Farewell, KeptWill, SessionStore, StoreError};

/// A store's connection to its server knows the epoch itself.
const EPOCH: Epoch = Epoch(0);
/// How long the store is tried again that could not be told that a client is gone, and how often.
const LEAVING: (u32, Duration) = (60, Duration::from_secs(1));

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

/// A session that a client has got from the store, or from its older connection.
pub(super) struct Resumed {
    pub(super) kept: KeptSession,
    pub(super) exactly_once: Box<ExactlyOnce>,
    /// Session Present.
    pub(super) present: bool,
}

/// Gets the session of a client that wants one, or that may have had one, from its older connection on this pod or from
/// the store. None for a client whose session ends with the connection.
pub(super) async fn resume(
    endpoint: &Arc<MqttEndpoint>,
    hello: &mut Hello,
) -> Result<Option<Resumed>, Reason> {
    let Some(store) = endpoint.sessions.clone() else { return Ok(None) };
    let session = &hello.session;
    let keeps = session.expiry_seconds > 0;
    if hello.assigned_client_id && !keeps {
        return Ok(None);
    }
    let identity = identity(hello.identity.as_ref());
    let will = session.will.as_ref().map(|will| kept_will(endpoint, will, &hello.testator()));
    if let Some(resumed) = inherit(endpoint, hello, &identity, will.as_ref()).await {
        return Ok(Some(resumed));
    }
    let session = &hello.session;
    let (Some(token), Some(incarnation)) = (random(), random().map(Incarnation)) else {
        return Err(Reason::ServerBusy);
    };
    let request = TakeOver {
        identity: &identity,
        pod: store.pod(),
        clean: session.clean_start,
        token,
        incarnation,
        epoch: EPOCH,
    };
    let expiry = Duration::from_secs(session.expiry_seconds.into());
    match store.take_over(&session.client_id, &request, expiry, will.as_ref()).await {
        Ok(taken) if keeps || taken.present => Ok(Some(resumed(endpoint, store, identity, &taken))),
        Ok(taken) => {
            // Nothing was there that goes on, and nothing is to be kept.
            let write = Write { fence: taken.fence, epoch: EPOCH, confirmed: 0, changes: &[] };
            let leave = Leave { write, keep: false };
            let _ = store.leave(&session.client_id, &leave, Duration::ZERO, Farewell::Discard).await;
            Ok(None)
        }
        Err(StoreError::WrongIdentity(_)) => Err(Reason::NotAuthorized),
        Err(StoreError::Unavailable(_)) if !keeps => Ok(None),
        Err(error) => {
            tracing::debug!(reason = error.reason(), "a session cannot be had: {error}");
            Err(Reason::ServerBusy)
        }
    }
}

/// A session whose intents all have receipts.
fn with_receipts(mut taken: Taken, topic: &str) -> Taken {
    for open in taken.open.values_mut() {
        let receipt = KeptReceipt { topic: topic.into(), partition: 0, offset: None, timestamp_millis: 0 };
        open.receipt.get_or_insert(receipt);
    }
    taken
}

fn resumed(endpoint: &MqttEndpoint, store: Arc<SessionStore>, identity: Box<str>, taken: &Taken) -> Resumed {
    let kafka = endpoint.intake.store();
    let recall = |kept: &KeptReceipt| kafka.recall(kept);
    let handshakes = match kafka.topics().first().filter(|_| planted::is(Bug::IntentForReceipt)) {
        None => Handshakes::taken(taken, recall),
        Some(topic) => Handshakes::taken(&with_receipts(taken.clone(), topic.name()), recall),
    };
    let ownership = Ownership {
        count: AtomicU64::new(taken.fence.count),
        forgotten: AtomicBool::new(false),
        claims: Claims::default(),
    };
    let kept = KeptSession { store, identity, fence: taken.fence, ownership: Arc::new(ownership) };
    Resumed { kept, exactly_once: ExactlyOnce::new(handshakes), present: taken.present }
}

/// The name of the identity to which a session belongs; empty where nobody is asked.
fn identity(identity: Option<&Arc<Identity>>) -> Box<str> {
    identity.map_or_else(Box::default, |identity| identity.name().into())
}

/// A Will as the store keeps it.
pub(super) fn kept_will(endpoint: &MqttEndpoint, will: &StoredWill, testator: &Testator) -> KeptWill {
    KeptWill {
        id: will.id.clone(),
        delay: will.delay(),
        grace: endpoint.will_grace(),
        message: will.to_bytes(endpoint.intake.ledger().name(), testator),
    }
}

impl KeptSession {
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

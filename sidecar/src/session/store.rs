//! Where the sessions of a pipeline are kept.
//!
//! Whatever keeps them does with a session what [`record`](super::record) says.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use penstock_crds::edge::{EdgeConfig, SessionsConfig};

pub use super::error::{Away, StoreError};
use super::memory::MemoryStore;
pub use super::pod::{Notice, Notified, Pod, Publisher, Traffic};
use super::record::{Fence, Leave, Reclaim, TakeOver, Taken, Write};
use super::redis::{self, LinkError, RedisStore};
pub use super::will::{Departure, Due, Farewell, KeptWill};

/// What sessions may take of a pod's memory: some 50,000 without Wills and handshakes.
const MEMORY_BYTES: u64 = 32 << 20;

/// The sessions of a pipeline. What runs for them ends when it is dropped.
pub enum SessionStore {
    /// In Redis, which all pods share.
    Redis(RedisStore),
    /// In the memory of the only pod.
    Memory(MemoryStore),
}

impl SessionStore {
    /// Starts on the current runtime. Redis need not be there.
    ///
    /// # Errors
    /// A reference that cannot be read.
    pub fn start(config: &EdgeConfig, references: &Path, pod: &Pod) -> Result<Self, LinkError> {
        match &config.sessions {
            SessionsConfig::Redis(redis) => {
                RedisStore::start(redis, references, &config.pipeline, pod).map(Self::Redis)
            }
            SessionsConfig::Memory => Ok(Self::Memory(MemoryStore::start(MEMORY_BYTES, pod))),
        }
    }

    /// The name of this pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        match self {
            Self::Redis(store) => store.pod(),
            Self::Memory(store) => store.pod(),
        }
    }

    /// Gives a session to this pod. `expiry` is for how long it is kept when its client has gone; the epoch of the request
    /// is not used, for a store knows its own.
    ///
    /// # Errors
    /// [`StoreError::WrongIdentity`], [`StoreError::Unavailable`].
    pub async fn take_over(
        &self,
        client_id: &str,
        request: &TakeOver<'_>,
        expiry: Duration,
        will: Option<&KeptWill>,
    ) -> Result<Taken, StoreError> {
        match self {
            Self::Redis(store) => store.take_over(client_id, request, expiry, will).await,
            Self::Memory(store) => store.take_over(client_id, request, expiry, will),
        }
    }

    /// Does an owner's changes, all or none.
    ///
    /// The answer may be awaited wherever the connection waits for other things: it is not lost by that.
    pub fn write(&self, client_id: &str, request: &Write<'_>) -> Answer<()> {
        Answer(match self {
            Self::Redis(store) => Asked::Redis(store.write(client_id, request)),
            Self::Memory(store) => Asked::Answered(Some(store.write(client_id, request))),
        })
    }

    /// Takes a session back that the store forgot.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], [`StoreError::Unavailable`].
    pub async fn reclaim(
        &self,
        client_id: &str,
        request: &Reclaim<'_>,
        expiry: Duration,
        will: Option<&KeptWill>,
    ) -> Result<Fence, StoreError> {
        match self {
            Self::Redis(store) => store.reclaim(client_id, request, expiry, will).await,
            Self::Memory(store) => store.reclaim(client_id, request, expiry, will),
        }
    }

    /// Notes that the client is gone, and what becomes of its Will.
    ///
    /// # Errors
    /// As [`SessionStore::write`].
    pub async fn leave(
        &self,
        client_id: &str,
        request: &Leave<'_>,
        expiry: Duration,
        farewell: Farewell,
    ) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.leave(client_id, request, expiry, farewell).await,
            Self::Memory(store) => store.leave(client_id, request, expiry, farewell),
        }
    }

    /// Stops keeping a session whose owner has been fenced, or whose end the store could not be told.
    pub fn disown(&self, client_id: &str, fence: Fence) {
        match self {
            Self::Redis(store) => store.disown(client_id, fence),
            Self::Memory(store) => store.disown(client_id, fence),
        }
    }

    /// What went to the server so far; none where there is no server.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        match self {
            Self::Redis(store) => Some(store.traffic()),
            Self::Memory(_) => None,
        }
    }

    /// Why the server cannot be asked; none while it can, or is about to be, or there is none.
    #[must_use]
    pub fn problem(&self) -> Option<LinkError> {
        match self {
            Self::Redis(store) => store.problem(),
            Self::Memory(_) => None,
        }
    }
}

/// The answer to an operation, when it is there. Must not be polled after that.
pub struct Answer<T>(Asked<T>);

enum Asked<T> {
    Redis(redis::Answer<T>),
    Answered(Option<Result<T, StoreError>>),
}

impl<T: Unpin> Future for Answer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Asked::Redis(answer) => Pin::new(answer).poll(context),
            Asked::Answered(answer) => {
                Poll::Ready(answer.take().unwrap_or(Err(StoreError::Unavailable(Away::Lost))))
            }
        }
    }
}

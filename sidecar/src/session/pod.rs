//! What is said between a store of sessions and its pod.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::will::Due;

/// What a pod is told of the sessions that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another pod took the session over: the client here is to be closed (0x8E).
    Taken {
        /// Whose session.
        client_id: Box<str>,
        /// The new owner's fence, as far as it is known. An owner with a higher count is not meant.
        count: u64,
        /// The new connection began with Clean Start.
        clean: bool,
    },
    /// The store has no such session any more: it is to be reclaimed.
    Forgot {
        /// Whose session.
        client_id: Box<str>,
        /// The owner's count until now.
        count: u64,
    },
}

/// Is told notices, on any thread; must not block.
pub type Notified = Arc<dyn Fn(Notice) + Send + Sync>;
/// Publishes a Will that is due. True once it is persisted, or refused for good; after false it is due again later.
pub type Publisher = Arc<dyn Fn(Due) -> BoxFuture<'static, bool> + Send + Sync>;

/// Who is told and asked by a store.
#[derive(Clone)]
pub struct Pod {
    /// Its name: no other process of the pipeline has it, and none had it.
    pub name: Box<str>,
    /// Is told of sessions that the pod has lost.
    pub notified: Notified,
    /// Publishes Wills.
    pub publisher: Publisher,
}

/// What went to a store's server so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Commands of sessions.
    pub commands: usize,
    /// Round trips in which they went.
    pub round_trips: usize,
    /// Whether every shard has a connection now.
    pub connected: bool,
}

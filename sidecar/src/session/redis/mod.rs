//! Sessions in Redis, which all pods share.
//!
//! A pipeline's sessions are one shard, or in a cluster several, each with a [`Lane`] to the server that keeps it and a
//! keeper that does what is due without being asked: leases of pods, lives of sessions, Wills.
//!
//! What is asked here answers with what happened, or that nobody knows ([`StoreError::Unavailable`]): then the command may
//! have been run, or may still be, and asking again must be right in either case. The fence sees to that.

mod address;
mod error;
mod keeper;
mod keys;
mod lane;
mod link;
mod owned;
pub mod scripts;
mod settings;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use penstock_crds::edge::{PipelineName, RedisConfig, RedisServersConfig};
use redis::{Cmd, Value};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

pub use self::error::LinkError;
use self::keeper::{Keeper, Wake};
pub use self::keys::Shard;
use self::lane::Lane;
use self::owned::Owned;
use self::settings::Settings;
use super::error::{Away, StoreError};
use super::pod::{Pod, Traffic};
use super::record::{Fence, Leave, Reclaim, TakeOver, Taken, Write};
use super::will::{Farewell, KeptWill};

/// Shards of a pipeline in a cluster: so many servers can share its sessions. One server has all in one.
const CLUSTER_SHARDS: usize = 16;

/// The sessions of a pipeline in Redis. What runs for it ends when it is dropped.
pub struct RedisStore {
    pod: Box<str>,
    parts: Vec<Part>,
}

struct Part {
    shard: Shard,
    lane: Arc<Lane>,
    owned: Arc<Owned>,
    keeper: tokio::task::JoinHandle<()>,
}

impl RedisStore {
    /// Starts on the current runtime. Redis need not be there.
    ///
    /// # Errors
    /// A reference that cannot be read.
    pub fn start(
        config: &RedisConfig,
        references: &Path,
        pipeline: &PipelineName,
        pod: &Pod,
    ) -> Result<Self, LinkError> {
        let settings = Arc::new(Settings::new(config.clone(), references));
        settings.check()?;
        let count = match config.servers {
            RedisServersConfig::Cluster { .. } => CLUSTER_SHARDS,
            _ => 1,
        };
        let part = |number| {
            let shard = Shard::new(pipeline, number);
            let owned = Arc::new(Owned::default());
            let wake = Arc::new(Wake::new(Arc::clone(&pod.notified)));
            let lane = Lane::start(
                Arc::clone(&settings),
                shard.pods(),
                shard.channel(&pod.name),
                Arc::clone(&wake) as Arc<dyn lane::Watch>,
            );
            let lane = Arc::new(lane);
            let keeper = Keeper {
                shard: shard.clone(),
                lane: Arc::clone(&lane),
                owned: Arc::clone(&owned),
                wake,
                pod: pod.clone(),
            };
            Part { shard, lane, owned, keeper: tokio::spawn(keeper.run()) }
        };
        Ok(Self { pod: pod.name.clone(), parts: (0..count).map(part).collect() })
    }

    /// The name of this pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// The part that has a client's session.
    fn part(&self, client_id: &str) -> Option<&Part> {
        if let [only] = self.parts.as_slice() {
            return Some(only);
        }
        // As every pod of every version counts it.
        let digest = Sha256::digest(client_id.as_bytes());
        let first = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.parts.get(usize::try_from(first % self.parts.len().max(1) as u64).ok()?)
    }

    fn send<T>(
        &self,
        client_id: &str,
        command: impl FnOnce(&Shard) -> Cmd,
        token: u64,
        read: Read<T>,
    ) -> Answer<T> {
        let receiver = self.part(client_id).map(|part| part.lane.send(command(&part.shard)));
        Answer { receiver, token, read }
    }

    /// Gives a session to this pod. `expiry` is for how long it is kept when its client has gone; the epoch of the request
    /// is not used, for the connection to the server has its own.
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
        let life = owned::life(expiry);
        let command = |shard: &Shard| scripts::take_over(shard, client_id, request, life, will);
        let taken = self.send(client_id, command, request.token, read_taken).await?;
        if let Some(part) = self.part(client_id) {
            part.owned.add(client_id, taken.fence, expiry);
        }
        Ok(taken)
    }

    /// Does an owner's changes, all or none.
    ///
    /// The answer may be awaited wherever the connection waits for other things: it is not lost by that.
    pub fn write(&self, client_id: &str, request: &Write<'_>) -> Answer<()> {
        self.send(client_id, |shard| scripts::write(shard, client_id, request), 0, read_done)
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
        let life = owned::life(expiry);
        let command = |shard: &Shard| scripts::reclaim(shard, client_id, request, life, will);
        let fence = self.send(client_id, command, request.token, read_reclaimed).await?;
        if let Some(part) = self.part(client_id) {
            part.owned.add(client_id, fence, expiry);
        }
        Ok(fence)
    }

    /// Notes that the client is gone, and what becomes of its Will.
    ///
    /// # Errors
    /// As [`RedisStore::write`].
    pub async fn leave(
        &self,
        client_id: &str,
        request: &Leave<'_>,
        expiry: Duration,
        farewell: Farewell,
    ) -> Result<(), StoreError> {
        // From here on nobody is told of what becomes of it.
        self.disown(client_id, request.write.fence);
        let command = |shard: &Shard| scripts::leave(shard, client_id, &self.pod, request, expiry, farewell);
        self.send(client_id, command, 0, read_done).await
    }

    /// Stops keeping a session whose owner has been fenced, or whose end the store could not be told.
    pub fn disown(&self, client_id: &str, fence: Fence) {
        if let Some(part) = self.part(client_id) {
            part.owned.remove(client_id, fence);
        }
    }

    /// Why there is no connection; none while there is one to every shard, or is about to be.
    #[must_use]
    pub fn problem(&self) -> Option<LinkError> {
        self.parts.iter().find_map(|part| part.lane.traffic().problem.lock().clone())
    }

    /// What went to Redis so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic { commands: 0, round_trips: 0, connected: true };
        for part in &self.parts {
            let traffic = part.lane.traffic();
            sum.commands += traffic.commands.load(Ordering::Relaxed);
            sum.round_trips += traffic.pipelines.load(Ordering::Relaxed);
            sum.connected &= traffic.connected.load(Ordering::Relaxed);
        }
        sum
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn read_taken(value: Value, token: u64) -> Option<Result<Taken, StoreError>> {
    Some(scripts::taken(value, token)?.map_err(StoreError::from))
}

fn read_reclaimed(value: Value, token: u64) -> Option<Result<Fence, StoreError>> {
    Some(scripts::reclaimed(value, token)?.map_err(StoreError::from))
}

fn read_done(value: Value, _: u64) -> Option<Result<(), StoreError>> {
    Some(scripts::done(value)?.map_err(StoreError::from))
}

/// Reads an answer with what was asked for in mind: the token of the new fence.
type Read<T> = fn(Value, u64) -> Option<Result<T, StoreError>>;

/// The answer to a command, when it is there.
pub struct Answer<T> {
    receiver: Option<oneshot::Receiver<Result<Value, Away>>>,
    token: u64,
    read: Read<T>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(receiver) = &mut this.receiver else {
            return Poll::Ready(Err(StoreError::Unavailable(Away::Disconnected)));
        };
        let Poll::Ready(answer) = Pin::new(receiver).poll(context) else { return Poll::Pending };
        this.receiver = None;
        // Its lane went away with it on the way.
        let value = match answer.unwrap_or(Err(Away::Lost)) {
            Ok(value) => value,
            Err(away) => return Poll::Ready(Err(StoreError::Unavailable(away))),
        };
        Poll::Ready((this.read)(value, this.token).unwrap_or(Err(StoreError::Unavailable(Away::Unexpected))))
    }
}

//! What is due in a shard without being asked for: the pod's lease, the lives of its sessions, the clients of dead pods, and
//! Wills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::keys::Shard;
use super::lane::{Lane, Watch};
use super::owned::{Owned, Renewal};
use super::scripts;
use crate::session::pod::{Notice, Notified, Pod};
use crate::session::record::Rejected;
use crate::session::will::Due;

/// How often Wills are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the lease is renewed, and dead pods are looked for.
const LEASE_TURN: Duration = Duration::from_secs(3);
/// After how long without a renewal a pod is taken for dead.
const LEASE: Duration = Duration::from_secs(10);
/// How often sessions are looked through for those that are due.
const RENEWAL_TURN: Duration = Duration::from_secs(5);
/// Sessions that are renewed by one command.
const RENEWALS: usize = 100;
/// Clients of a dead pod that are seen to by one command.
const REAPED: usize = 100;
/// Wills that are on their way at once.
const WILLS: usize = 64;
/// For how long a pod may be busy with a Will before another one publishes it too.
const WILL_HOLD: Duration = Duration::from_secs(60);

/// Wakes the keeper of a shard, and passes on what its pod is told.
pub(super) struct Wake {
    notified: Notified,
    reconnected: AtomicBool,
    bell: Notify,
}

impl Wake {
    pub(super) fn new(notified: Notified) -> Self {
        Self { notified, reconnected: AtomicBool::new(false), bell: Notify::new() }
    }
}

impl Watch for Wake {
    fn connected(&self) {
        self.reconnected.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// `COUNT TOKEN CLEAN CLIENT-ID`.
    fn told(&self, message: &[u8]) {
        let Ok(message) = std::str::from_utf8(message) else { return };
        let mut parts = message.splitn(4, ' ');
        let (count, _, clean, client_id) = (parts.next(), parts.next(), parts.next(), parts.next());
        if let (Some(Ok(count)), Some(clean), Some(client_id)) = (count.map(str::parse), clean, client_id) {
            (self.notified)(Notice::Taken { client_id: client_id.into(), count, clean: clean == "1" });
        }
    }
}

pub(super) struct Keeper {
    pub(super) shard: Shard,
    pub(super) lane: Arc<Lane>,
    pub(super) owned: Arc<Owned>,
    pub(super) wake: Arc<Wake>,
    pub(super) pod: Pod,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut wills: JoinSet<Option<Due>> = JoinSet::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut leased, mut renewed) = (None, Instant::now());
        let mut since: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.wake.bell.notified() => {}
                Some(published) = wills.join_next() => {
                    if let Ok(Some(due)) = published {
                        self.ask(scripts::published(&self.shard, &due)).await;
                    }
                    continue;
                }
            }
            let now = Instant::now();
            if self.wake.reconnected.swap(false, Ordering::Relaxed) {
                (since, leased, renewed) = (Some(now), None, now);
                self.renew(self.owned.due(now, true)).await;
            }
            // There has been no connection yet.
            let Some(since) = since else { continue };
            if now.duration_since(renewed) >= RENEWAL_TURN {
                renewed = now;
                self.renew(self.owned.due(now, false)).await;
            }
            if leased.is_none_or(|at| now.duration_since(at) >= LEASE_TURN) {
                leased = Some(now);
                // While Redis was away, nobody could renew a lease.
                if self.live(now.duration_since(since) > LEASE).await {
                    self.renew(self.owned.due(now, true)).await;
                }
            }
            self.publish(&mut wills).await;
        }
    }

    async fn ask(&self, command: Cmd) -> Option<Value> {
        // What fails is due again.
        self.lane.send(command).await.ok()?.ok()
    }

    /// Renews the lives of sessions, and finds those that are not this pod's any more.
    async fn renew(&self, due: Vec<Renewal>) {
        for some in due.chunks(RENEWALS) {
            let sessions: Vec<_> =
                some.iter().map(|renewal| (&*renewal.client_id, renewal.fence, renewal.life)).collect();
            let command = scripts::refresh(&self.shard, &self.pod.name, &sessions);
            let results = self.ask(command).await.and_then(scripts::results);
            for (renewal, result) in some.iter().zip(results.into_iter().flatten()) {
                let (client_id, count) = (renewal.client_id.clone(), renewal.fence.count);
                let notice = match result {
                    Ok(()) => continue,
                    Err(Rejected::Fenced) => Notice::Taken { client_id, count: count + 1, clean: false },
                    Err(Rejected::Forgot) => Notice::Forgot { client_id, count },
                };
                // It has another owner, or gets another fence.
                self.owned.remove(&renewal.client_id, renewal.fence);
                (self.pod.notified)(notice);
            }
        }
    }

    /// Renews the lease, and sees to the clients of pods whose leases have run out. True when this pod's own had: others
    /// may have taken it for dead.
    async fn live(&self, reap: bool) -> bool {
        let leases =
            self.ask(scripts::live(&self.shard, &self.pod.name, LEASE)).await.and_then(scripts::leases);
        let Some((lapsed, dead)) = leases else { return false };
        for pod in dead.iter().filter(|_| reap) {
            tracing::warn!(%pod, "sessions: a pod is dead; Wills of its clients wait for their grace");
            while let Some(Value::Int(1)) = self.ask(scripts::reap(&self.shard, pod, REAPED)).await {}
        }
        lapsed
    }

    /// Publishes Wills that are due.
    async fn publish(&self, wills: &mut JoinSet<Option<Due>>) {
        let room = WILLS.saturating_sub(wills.len());
        if room == 0 {
            return;
        }
        let due = self.ask(scripts::take_due(&self.shard, room.min(16), WILL_HOLD)).await;
        for due in due.and_then(scripts::due).into_iter().flatten() {
            let published = (self.pod.publisher)(due.clone());
            wills.spawn(async move { published.await.then_some(due) });
        }
    }
}

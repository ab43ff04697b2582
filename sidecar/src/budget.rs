//! Every byte that a sender can make us hold is taken from a budget before it is buffered (contract, rule 4).
//!
//! A pod has one root budget, each endpoint one below it, each connection a plain limit of its own. Taking never
//! waits: a caller that finds nothing left refuses, or stops reading and registers to be woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// What a message costs beyond its own bytes while librdkafka holds it: its bookkeeping, measured generously.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 512;

/// The pod's budget: bytes, and who waits for some.
#[derive(Debug)]
pub struct PodBudget {
    bytes: Gauge,
    waiting: AtomicUsize,
    announcements: AtomicU64,
    waiters: Mutex<Vec<Waker>>,
    holders: AtomicUsize,
}

impl PodBudget {
    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: Gauge::new(limit_bytes),
            waiting: AtomicUsize::new(0),
            announcements: AtomicU64::new(0),
            waiters: Mutex::default(),
            holders: AtomicUsize::new(0),
        })
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.bytes.used()
    }

    /// The bound.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.bytes.limit
    }

    /// How many connections have messages under way.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.holders.load(Ordering::Relaxed)
    }

    /// A connection had no message under way and has one now.
    pub fn begins_to_hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has none any more.
    pub fn ceases_to_hold(&self) {
        self.holders.fetch_sub(1, Ordering::Relaxed);
    }

    /// Asks to be woken at the next [`announce`](Self::announce), and returns the number of announcements so far: as
    /// long as that stays, the asking holds. Try once more after registering: what was given back in between is not
    /// announced again.
    pub fn register(&self, waker: &Waker) -> u64 {
        let mut waiters = self.waiters.lock();
        waiters.push(waker.clone());
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        self.announcements.load(Ordering::SeqCst)
    }

    /// How often waiters have been woken.
    #[must_use]
    pub fn announcements(&self) -> u64 {
        self.announcements.load(Ordering::SeqCst)
    }

    /// Wakes whoever waits; called once for a batch of givings-back.
    pub fn announce(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let woken = {
            let mut waiters = self.waiters.lock();
            self.waiting.store(0, Ordering::SeqCst);
            self.announcements.fetch_add(1, Ordering::SeqCst);
            std::mem::take(&mut *waiters)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// An endpoint's budget of bytes and messages, below the pod's.
#[derive(Debug)]
pub struct EndpointBudget {
    pod: Arc<PodBudget>,
    bytes: Gauge,
    messages: Gauge,
}

impl EndpointBudget {
    /// A budget below `pod`.
    #[must_use]
    pub fn new(pod: Arc<PodBudget>, limit_bytes: u64, limit_messages: u64) -> Arc<Self> {
        Arc::new(Self { pod, bytes: Gauge::new(limit_bytes), messages: Gauge::new(limit_messages) })
    }

    /// Takes `bytes` and `messages` from endpoint and pod, or nothing at all.
    #[must_use]
    pub fn try_take(&self, bytes: u64, messages: u64) -> bool {
        if !self.messages.try_take(messages) {
            return false;
        }
        if !self.bytes.try_take(bytes) {
            self.messages.give_back(messages);
            return false;
        }
        if !self.pod.bytes.try_take(bytes) {
            self.bytes.give_back(bytes);
            self.messages.give_back(messages);
            return false;
        }
        true
    }

    /// Returns what was taken. Follow a batch of these with [`PodBudget::announce`].
    pub fn give_back(&self, bytes: u64, messages: u64) {
        self.messages.give_back(messages);
        self.bytes.give_back(bytes);
        self.pod.bytes.give_back(bytes);
    }

    /// The pod's budget.
    #[must_use]
    pub fn pod(&self) -> &Arc<PodBudget> {
        &self.pod
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.bytes.used()
    }

    /// Messages held now.
    #[must_use]
    pub fn used_messages(&self) -> u64 {
        self.messages.used()
    }

    /// Takes `bytes` as a value that gives them back when it is dropped.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        self.try_take(bytes, 0).then(|| Reservation { budget: Arc::clone(self), bytes })
    }
}

/// Bytes taken from an endpoint's budget, given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<EndpointBudget>,
    bytes: u64,
}

impl Reservation {
    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows to `bytes` if the budget allows it.
    #[must_use]
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.budget.try_take(more, 0) {
            return false;
        }
        self.bytes += more;
        true
    }

    /// Shrinks to `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        if less > 0 {
            self.budget.give_back(less, 0);
            self.bytes -= less;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes, 0);
        self.budget.pod.announce();
    }
}

#[derive(Debug)]
struct Gauge {
    limit: u64,
    used: AtomicU64,
}

impl Gauge {
    fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn try_take(&self, amount: u64) -> bool {
        // Add first and take back on excess: one atomic operation in the usual case, never above the limit for a
        // caller that was told yes.
        if self.used.fetch_add(amount, Ordering::AcqRel) + amount <= self.limit {
            return true;
        }
        self.used.fetch_sub(amount, Ordering::AcqRel);
        false
    }

    fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_taking_leaves_nothing_taken() {
        let pod = PodBudget::new(100);
        let one = EndpointBudget::new(Arc::clone(&pod), 80, 2);
        let two = EndpointBudget::new(Arc::clone(&pod), 80, 2);
        assert!(one.try_take(70, 1));
        assert!(!two.try_take(40, 1), "the pod's bound holds for both endpoints together");
        assert_eq!((two.used_bytes(), two.used_messages(), pod.used_bytes()), (0, 0, 70));
        assert!(!one.try_take(20, 1), "the endpoint's own bound holds");
        assert!(one.try_take(0, 1));
        assert!(!one.try_take(0, 1), "messages are bounded too");
        one.give_back(70, 2);
        assert_eq!((one.used_bytes(), one.used_messages(), pod.used_bytes()), (0, 0, 0));
    }

    #[test]
    fn a_reservation_ends_with_its_owner() {
        let pod = PodBudget::new(100);
        let endpoint = EndpointBudget::new(Arc::clone(&pod), 100, 1);
        let mut reservation = endpoint.reserve(10).unwrap();
        assert!(reservation.grow_to(90));
        assert!(!reservation.grow_to(101));
        reservation.shrink_to(40);
        assert_eq!(pod.used_bytes(), 40);
        drop(reservation);
        assert_eq!(pod.used_bytes(), 0);
    }

    #[test]
    fn whoever_waits_is_woken_once() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let pod = PodBudget::new(1);
        pod.register(&Waker::from(Arc::clone(&count)));
        pod.announce();
        pod.announce();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}

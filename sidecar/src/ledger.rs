//! The ledger: every message that arrives ends in exactly one column (contract, rules 2 and 5).
//!
//! `received = acknowledged + refused + dead_lettered + duplicate + abandoned + dropped + in_flight` holds in every
//! snapshot of an endpoint. The books are kept in shards; a message is booked in one shard from its arrival to its
//! end, each booking is one critical section, and the equation is linear: so it holds for the sum of the shards
//! although they are not read at one instant.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

const SHARDS: usize = 16;

/// Upper bounds of the acknowledgement latency histogram, in microseconds; the last bucket is open.
pub const LATENCY_BOUNDS_MICROS: [u64; 19] = [
    500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 75_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// The columns of the ledger, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// Arrived.
    pub received: u64,
    /// Persisted, and the sender told so.
    pub acknowledged: u64,
    /// Answered with a reason, negative.
    pub refused: u64,
    /// Persisted in the dead-letter topic, then acknowledged.
    pub dead_lettered: u64,
    /// Known as already persisted, answered from its receipt.
    pub duplicate: u64,
    /// The connection ended before the answer.
    pub abandoned: u64,
    /// QoS 0 only: given up.
    pub dropped: u64,
    /// Slots that hold a message for which an answer is due. Counted as slots are taken and left, not derived.
    pub in_flight: u64,
    /// Reports that came after their message had been answered as transient or abandoned. Beside the equation.
    pub late_reports: u64,
}

impl Columns {
    /// Whether the equation holds.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.received == self.ended() + self.in_flight
    }

    fn ended(&self) -> u64 {
        self.acknowledged + self.refused + self.dead_lettered + self.duplicate + self.abandoned + self.dropped
    }

    fn add(&mut self, other: &Self) {
        let Self {
            received,
            acknowledged,
            refused,
            dead_lettered,
            duplicate,
            abandoned,
            dropped,
            in_flight,
            late_reports,
        } = other;
        self.received += received;
        self.acknowledged += acknowledged;
        self.refused += refused;
        self.dead_lettered += dead_lettered;
        self.duplicate += duplicate;
        self.abandoned += abandoned;
        self.dropped += dropped;
        self.in_flight += in_flight;
        self.late_reports += late_reports;
    }
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// See [`Columns::acknowledged`].
    Acknowledged,
    /// See [`Columns::refused`].
    Refused,
    /// See [`Columns::dead_lettered`].
    DeadLettered,
    /// See [`Columns::duplicate`].
    Duplicate,
    /// See [`Columns::abandoned`].
    Abandoned,
    /// See [`Columns::dropped`].
    Dropped,
}

/// The time from a message's arrival to the writing of its acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Messages per bucket of [`LATENCY_BOUNDS_MICROS`] and one above.
    pub buckets: [u64; LATENCY_BOUNDS_MICROS.len() + 1],
    /// Sum in microseconds.
    pub sum_micros: u64,
}

impl Latency {
    fn observe(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// The smallest bound that `share` (0 to 1) of the messages stay below; none without messages.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        if total == 0 {
            return None;
        }
        let mut seen = 0;
        for (count, bound) in self.buckets.iter().zip(LATENCY_BOUNDS_MICROS) {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "a quantile of counts needs no more than 52 bits")]
            if seen as f64 >= share * total as f64 {
                return Some(Duration::from_micros(bound));
            }
        }
        Some(Duration::MAX)
    }
}

/// What happened since the last booking, on one connection: collected without a lock, booked with one.
#[derive(Debug, Default)]
pub struct Entry {
    change: Columns,
    slots_left: u64,
    latencies: Vec<Duration>,
}

impl Entry {
    /// A message arrived.
    pub fn receive(&mut self) {
        self.change.received += 1;
    }

    /// A slot was taken for a message.
    pub fn occupy(&mut self) {
        self.change.in_flight += 1;
    }

    /// `count` slots were left; how their messages ended is said by [`end`](Self::end).
    pub fn leave(&mut self, count: u64) {
        self.slots_left += count;
    }

    /// `count` messages ended.
    pub fn end(&mut self, ending: Ending, count: u64) {
        let column = match ending {
            Ending::Acknowledged => &mut self.change.acknowledged,
            Ending::Refused => &mut self.change.refused,
            Ending::Duplicate => &mut self.change.duplicate,
            Ending::DeadLettered => &mut self.change.dead_lettered,
            Ending::Abandoned => &mut self.change.abandoned,
            Ending::Dropped => &mut self.change.dropped,
        };
        *column += count;
    }

    /// A positive answer was written this long after its message arrived.
    pub fn latency(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    /// `count` reports came too late.
    pub fn late(&mut self, count: u64) {
        self.change.late_reports += count;
    }

    fn is_empty(&self) -> bool {
        self.change == Columns::default() && self.slots_left == 0
    }
}

/// The books of one endpoint.
#[derive(Debug)]
pub struct EndpointLedger {
    name: String,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Clone, Debug, Default)]
struct Shard {
    columns: Columns,
    latency: Latency,
}

impl EndpointLedger {
    /// Empty books.
    #[must_use]
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), shards: std::array::from_fn(|_| Mutex::default()) })
    }

    /// The endpoint's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account of one connection; `number` spreads connections over the shards.
    #[must_use]
    pub fn account(self: &Arc<Self>, number: usize) -> Account {
        Account { ledger: Arc::clone(self), shard: number % SHARDS }
    }

    /// A snapshot in which the equation holds.
    #[must_use]
    pub fn snapshot(&self) -> (Columns, Latency) {
        let mut columns = Columns::default();
        let mut latency = Latency::default();
        for shard in &self.shards {
            let shard = shard.lock();
            columns.add(&shard.columns);
            latency.add(&shard.latency);
        }
        (columns, latency)
    }
}

/// Where one connection's messages are booked.
#[derive(Clone, Debug)]
pub struct Account {
    ledger: Arc<EndpointLedger>,
    shard: usize,
}

impl Account {
    /// Books an entry and empties it.
    pub fn book(&self, entry: &mut Entry) {
        if entry.is_empty() {
            return;
        }
        if let Some(shard) = self.ledger.shards.get(self.shard) {
            let mut shard = shard.lock();
            shard.columns.add(&entry.change);
            shard.columns.in_flight -= entry.slots_left;
            for latency in &entry.latencies {
                shard.latency.observe(*latency);
            }
        }
        entry.change = Columns::default();
        entry.slots_left = 0;
        entry.latencies.clear();
        // An idle connection keeps no room for the burst it once had.
        entry.latencies.shrink_to(32);
    }
}

/// The books of all endpoints.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    endpoints: Vec<Arc<EndpointLedger>>,
}

impl Ledger {
    /// The books of these endpoints.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<EndpointLedger>>) -> Self {
        Self { endpoints }
    }

    /// The endpoints' books.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<EndpointLedger>] {
        &self.endpoints
    }

    /// All endpoints together.
    #[must_use]
    pub fn total(&self) -> (Columns, Latency) {
        let mut total = (Columns::default(), Latency::default());
        for endpoint in &self.endpoints {
            let (columns, latency) = endpoint.snapshot();
            total.0.add(&columns);
            total.1.add(&latency);
        }
        total
    }

    /// `{"endpoints": {NAME: columns}, "total": columns}`, where the total is the sum of the endpoints shown.
    #[must_use]
    pub fn as_json(&self) -> serde_json::Value {
        let mut total = Columns::default();
        let mut endpoints = serde_json::Map::new();
        for endpoint in &self.endpoints {
            let (columns, _) = endpoint.snapshot();
            total.add(&columns);
            endpoints.insert(endpoint.name().to_owned(), serde_json::json!(columns));
        }
        serde_json::json!({ "endpoints": endpoints, "total": total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_equation_holds_in_every_snapshot_under_load() {
        let ledger = EndpointLedger::new("mqtt");
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        // The watcher has looked once before the first message arrives.
        let watched = Arc::new(std::sync::Barrier::new(5));
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let (account, watched) = (ledger.account(number), Arc::clone(&watched));
                std::thread::spawn(move || {
                    watched.wait();
                    let mut entry = Entry::default();
                    for round in 0..20_000_u64 {
                        entry.receive();
                        entry.occupy();
                        account.book(&mut entry);
                        entry.leave(1);
                        entry.end(if round % 3 == 0 { Ending::Refused } else { Ending::Acknowledged }, 1);
                        entry.latency(Duration::from_micros(round));
                        account.book(&mut entry);
                    }
                })
            })
            .collect();
        let watcher = {
            let (ledger, done) = (Arc::clone(&ledger), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut snapshots = 0;
                watched.wait();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let (columns, _) = ledger.snapshot();
                    assert!(columns.is_balanced(), "{columns:?}");
                    snapshots += 1;
                }
                snapshots
            })
        };
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 0);
        let (columns, latency) = ledger.snapshot();
        assert_eq!((columns.received, columns.in_flight), (80_000, 0));
        assert_eq!(latency.buckets.iter().sum::<u64>(), 80_000);
    }

    #[test]
    fn a_forgotten_message_shows() {
        let ledger = EndpointLedger::new("mqtt");
        let mut entry = Entry::default();
        entry.receive();
        entry.occupy();
        entry.leave(1);
        ledger.account(0).book(&mut entry);
        assert!(!ledger.snapshot().0.is_balanced(), "a slot left without an end must not balance");
    }
}

//! One connected client: what all requests of its connection share.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;

use super::HttpEndpoint;
use super::activity::Activity;
use super::seat::Seat;
use crate::endpoint::connections::Place;
use crate::ledger::{Account, Ending, Entry};

/// What a client may send before it has shown who it is (contract, rule 4).
const UNPROVED_BYTES: usize = 16_384;

/// A connected client. It lives as long as its connection and the last of its requests.
pub(super) struct Peer {
    endpoint: Arc<HttpEndpoint>,
    place: Place,
    source: String,
    account: Account,
    activity: Activity,
    /// Bytes that the requests in progress hold.
    held: AtomicU64,
    /// Seats that no request uses.
    seats: Mutex<Vec<Seat>>,
    /// Answers that the connection has and the kernel has not.
    handed: Mutex<Handed>,
    any_handed: AtomicBool,
    proof: Proof,
}

/// Whether a client has shown who it is, and what it has sent since it was asked.
#[derive(Debug)]
struct Proof {
    given: AtomicBool,
    bytes: AtomicUsize,
    reader: Mutex<Option<Waker>>,
}

#[derive(Debug, Default)]
struct Handed {
    answers: Vec<(Ending, Instant)>,
    entry: Entry,
}

impl Peer {
    pub(super) fn new(endpoint: Arc<HttpEndpoint>, source: String, place: Place) -> Arc<Self> {
        let account = endpoint.intake.ledger().account(place.number());
        let proof = Proof {
            given: AtomicBool::new(endpoint.intake.gate().is_none()),
            bytes: AtomicUsize::new(0),
            reader: Mutex::default(),
        };
        Arc::new(Self {
            endpoint,
            place,
            source,
            account,
            activity: Activity::new(),
            held: AtomicU64::new(0),
            seats: Mutex::default(),
            handed: Mutex::default(),
            any_handed: AtomicBool::new(false),
            proof,
        })
    }

    pub(super) fn endpoint(&self) -> &Arc<HttpEndpoint> {
        &self.endpoint
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Its IP address.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The same, as an address.
    pub(super) fn address(&self) -> IpAddr {
        self.source.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }

    /// How many bytes may be read now; none for as many as there are. Pending until it is decided whether the client is
    /// let in.
    pub(super) fn poll_allowance(&self, context: &Context<'_>) -> Poll<Option<usize>> {
        if self.proof.given.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        let mut reader = self.proof.reader.lock();
        let left = UNPROVED_BYTES.saturating_sub(self.proof.bytes.load(Ordering::Acquire));
        if left > 0 {
            return Poll::Ready(Some(left));
        }
        *reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Bytes came of a client that has not shown who it is.
    pub(super) fn read_unproved(&self, bytes: usize) {
        self.proof.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A request has been let in or sent away: what it had sent is used or forgotten.
    pub(super) fn decided(&self, let_in: bool) {
        if self.proof.given.load(Ordering::Acquire) {
            return;
        }
        let reader = {
            let mut reader = self.proof.reader.lock();
            self.proof.bytes.store(0, Ordering::Release);
            self.proof.given.store(let_in, Ordering::Release);
            reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Takes `bytes` of what one connection may hold for a request that has `own` bytes already. A request that is
    /// alone is always let in, however large.
    pub(super) fn try_hold(&self, bytes: u64, own: u64) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::AcqRel);
        let limit = self.endpoint.limits.max_in_flight_bytes_per_connection;
        if before == own || before + bytes <= limit {
            return true;
        }
        self.let_go(bytes);
        false
    }

    pub(super) fn let_go(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// A seat for a request: HTTP/1 has one request at a time and so one seat, HTTP/2 as many as there are requests at
    /// once.
    pub(super) fn sit(&self) -> Seat {
        let free = self.seats.lock().pop();
        free.unwrap_or_else(|| {
            let (key, lane) = self.endpoint.intake.open_lane(&self.account);
            Seat::new(key, lane)
        })
    }

    pub(super) fn leave(&self, seat: Seat) {
        self.seats.lock().push(seat);
    }

    /// Notes that the connection has the answer of a message that arrived then.
    pub(super) fn hand_over(&self, ending: Ending, arrived: Instant) {
        self.handed.lock().answers.push((ending, arrived));
        self.any_handed.store(true, Ordering::Release);
    }

    /// All that was written is with the kernel: books the answers.
    ///
    /// For HTTP/1 that is exact. For HTTP/2 an answer may still be in a queue of hyper's when the buffer before it is
    /// flushed, so there "acknowledged" means that the connection has it for writing. What the client has read
    /// nobody can know; an answer that it did not get is why it sends again, with the same id.
    pub(super) fn flushed(&self) {
        if !self.any_handed.load(Ordering::Acquire) {
            return;
        }
        self.any_handed.store(false, Ordering::Release);
        let mut handed = self.handed.lock();
        let Handed { answers, entry } = &mut *handed;
        let now = Instant::now();
        for (ending, arrived) in answers.drain(..) {
            entry.leave(1);
            entry.end(ending, 1);
            entry.latency(now.saturating_duration_since(arrived));
        }
        self.account.book(entry);
    }

    /// Books messages that were received and will not be answered.
    pub(super) fn abandon(&self, count: u64) {
        let mut entry = Entry::default();
        entry.leave(count);
        entry.end(Ending::Abandoned, count);
        self.account.book(&mut entry);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let lanes = self.endpoint.intake.store().lanes();
        for seat in std::mem::take(self.seats.get_mut()) {
            lanes.close(seat.key, &seat.lane);
        }
        let unwritten = self.handed.get_mut().answers.len() as u64;
        if unwritten > 0 {
            self.abandon(unwritten);
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("source", &self.source).finish_non_exhaustive()
    }
}

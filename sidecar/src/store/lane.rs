//! Lanes: the slots of one connection's messages between produce and answer.
//!
//! A message takes the next slot of its lane before it is given to the producer. The delivery report finds the slot
//! again by a number that went with the message: no allocation, task or channel per message. The connection takes
//! outcomes off the front, so answers leave in arrival order whatever order the reports come in.
//!
//! A lane with a transient outcome in it takes no further message until its connection has taken every outcome off:
//! what came after the failed message must not be stored before it is sent again (contract, rule 3).

mod back;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use slab::Slab;

pub use self::back::Return;
use super::{Outcome, Receipt, TransientCause};
use crate::budget::EndpointBudget;
use crate::ledger::{Account, Entry};
use crate::planted::{self, Bug};
use crate::spare::{self, Spares};

/// An idle lane keeps room for this many slots.
const IDLE_SLOTS: usize = 16;

thread_local! {
    static SPARE_SLOTS: Spares<VecDeque<Slot>> = const { RefCell::new(Vec::new()) };
}

/// The number of a lane while it has connections or reports to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneKey(u32);

/// What the connection needs of a message when its outcome is there.
#[derive(Debug)]
pub struct Slot {
    /// What the connection said of it.
    pub back: Return,
    /// Budget that the producer's copy holds.
    bytes: u64,
    outcome: Option<Outcome>,
}

/// The slots of one connection (MQTT) or of one request at a time (HTTP). One task at a time submits to it.
#[derive(Debug)]
pub struct Lane {
    budget: Arc<EndpointBudget>,
    account: Account,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Sequence number of the front slot. Wraps; a lane never holds 2³² slots.
    front: u32,
    slots: VecDeque<Slot>,
    /// What the slots' messages hold of the budget.
    bytes: u64,
    /// Reports still due, also of slots that were given up.
    due: u32,
    /// Budget that goes back with reports of slots that were given up, in order of production.
    given_up: VecDeque<(u32, u64)>,
    waker: Option<Waker>,
    /// The first transient outcome among the slots.
    failed: Option<TransientCause>,
    closed: bool,
}

/// A slot's number within all lanes, as it travels with a message through the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    fn new(lane: LaneKey, sequence: u32) -> Self {
        Self(u64::from(lane.0) << 32 | u64::from(sequence))
    }

    /// As a number.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From [`to_bits`](Self::to_bits).
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether both are of the same lane.
    pub(super) fn shares_lane(self, other: Self) -> bool {
        self.parts().0 == other.parts().0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of 64 bits")]
    fn parts(self) -> (LaneKey, u32) {
        (LaneKey((self.0 >> 32) as u32), self.0 as u32)
    }
}

impl Lane {
    /// How many slots are taken, and the bytes that their messages hold.
    #[must_use]
    pub fn load(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.slots.len(), state.bytes)
    }

    /// Sequence numbers of the front slot and of the next one to be taken: either changes when a message leaves or comes.
    #[must_use]
    pub fn ends(&self) -> (u32, u32) {
        let state = self.state.lock();
        (state.front, state.next())
    }

    /// Whether a slot is taken by a message of which this is so.
    #[must_use]
    pub fn any(&self, is_so: impl Fn(&Slot) -> bool) -> bool {
        self.state.lock().slots.iter().any(is_so)
    }

    /// When the message at the front arrived.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.state.lock().slots.front().map(|slot| slot.back.arrived)
    }

    /// Takes a slot for a message that is about to be produced. `bytes` (and one message) have been taken from the
    /// endpoint's budget and go back with the report.
    ///
    /// # Errors
    /// A message before it failed, for this cause; nothing was taken.
    pub(super) fn occupy(&self, key: LaneKey, back: Return, bytes: u64) -> Result<Ticket, TransientCause> {
        let mut state = self.state.lock();
        if let Some(cause) = state.failed {
            return Err(cause);
        }
        let sequence = state.next();
        if state.slots.capacity() == 0 {
            state.slots = spare::take(&SPARE_SLOTS);
        }
        state.slots.push_back(Slot { back, bytes, outcome: None });
        self.holds(&mut state, |held| held + bytes);
        state.due += 1;
        Ok(Ticket::new(key, sequence))
    }

    /// Takes a slot for a message whose outcome is known at once, so that its answer keeps its turn.
    pub fn decide(&self, back: Return, outcome: Outcome) {
        debug_assert!(!matches!(outcome, Outcome::Persisted(_)), "only a store can say that");
        let mut state = self.state.lock();
        state.note(outcome);
        state.slots.push_back(Slot { back, bytes: 0, outcome: Some(outcome) });
    }

    /// Takes a slot for a message that is known to be stored, so that its answer keeps its turn.
    pub fn recall(&self, back: Return, receipt: Receipt) {
        let outcome = Some(Outcome::Persisted(receipt));
        self.state.lock().slots.push_back(Slot { back, bytes: 0, outcome });
    }

    /// Takes the slot of a message that the producer did not accept back again; it must be the newest.
    pub(super) fn retract(&self) {
        let mut state = self.state.lock();
        if let Some(slot) = state.slots.pop_back() {
            self.holds(&mut state, |held| held - slot.bytes);
            state.due -= 1;
        }
    }

    /// Changes what the slots' messages hold, and tells the pod whether that is anything.
    fn holds(&self, state: &mut State, change: impl FnOnce(u64) -> u64) {
        let before = state.bytes;
        state.bytes = change(before);
        match (before, state.bytes) {
            (0, 1..) => self.budget.pod().begins_to_hold(),
            (1.., 0) => self.budget.pod().ceases_to_hold(),
            _ => {}
        }
    }

    /// Waits for the front slot's outcome.
    pub fn poll_front(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.slots.front().is_some_and(|slot| slot.outcome.is_some()) {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes finished slots off the front, in order, until `each` says to stop or the front is not finished.
    /// `each` must be quick: the lane is locked.
    pub fn drain(&self, mut each: impl FnMut(&Slot, Outcome) -> std::ops::ControlFlow<()>) {
        let mut state = self.state.lock();
        let mut bytes = 0;
        while let Some(slot) = state.slots.front_mut() {
            let Some(outcome) = slot.outcome.take() else { break };
            let flow = each(slot, outcome);
            bytes += slot.bytes;
            state.slots.pop_front();
            state.front = state.front.wrapping_add(1);
            if flow.is_break() {
                break;
            }
        }
        self.holds(&mut state, |held| held - bytes);
        if state.slots.is_empty() {
            state.failed = None;
            if state.slots.capacity() > IDLE_SLOTS {
                let slots = std::mem::take(&mut state.slots);
                let bytes = slots.capacity() * size_of::<Slot>();
                spare::give_back(&SPARE_SLOTS, slots, bytes);
            }
        }
    }

    /// Gives up all slots: their reports will come late, and only then give back what the messages hold. Returns how
    /// many slots that were.
    pub fn give_up(&self) -> usize {
        let mut state = self.state.lock();
        let mut sequence = state.front;
        let slots = std::mem::take(&mut state.slots);
        for slot in &slots {
            if slot.outcome.is_none() {
                state.given_up.push_back((sequence, slot.bytes));
            }
            sequence = sequence.wrapping_add(1);
        }
        state.front = sequence;
        self.holds(&mut state, |_| 0);
        state.failed = None;
        slots.len()
    }

    /// Notes a report.
    fn complete(&self, sequence: u32, outcome: Outcome) -> Completed {
        let mut state = self.state.lock();
        let index = sequence.wrapping_sub(state.front) as usize;
        let (bytes, late) = match state.slots.get_mut(index) {
            Some(slot) => {
                slot.outcome = Some(outcome);
                let bytes = slot.bytes;
                state.note(outcome);
                (bytes, false)
            }
            None => {
                let found = state.given_up.iter().position(|(given_up, _)| *given_up == sequence);
                let bytes = found.and_then(|at| state.given_up.remove(at)).map_or(0, |(_, bytes)| bytes);
                (bytes, true)
            }
        };
        state.due = state.due.saturating_sub(1);
        let waker = if index == 0 && !late { state.waker.take() } else { None };
        // Who closes the lane and who brings its last report see each other here, under one lock: exactly one of them
        // finds both, and takes the lane's number back.
        let finished = state.closed && state.due == 0;
        drop(state);
        if late {
            let mut entry = Entry::default();
            entry.late(1);
            self.account.book(&mut entry);
        }
        Completed { waker, finished, bytes }
    }
}

/// What a report changed.
struct Completed {
    /// The connection whose front is finished now.
    waker: Option<Waker>,
    /// The lane is closed and this was its last report.
    finished: bool,
    /// What goes back to the lane's budget, with one message.
    bytes: u64,
}

/// What a batch of reports gives back: one sum for many messages, for all connections take from the same numbers.
#[derive(Default)]
struct GivenBack<'a> {
    budget: Option<&'a Arc<EndpointBudget>>,
    bytes: u64,
    messages: u64,
}

impl<'a> GivenBack<'a> {
    fn add(&mut self, budget: &'a Arc<EndpointBudget>, bytes: u64) {
        if self.budget.is_none_or(|before| !Arc::ptr_eq(before, budget)) {
            self.settle();
            self.budget = Some(budget);
        }
        self.bytes += bytes;
        self.messages += 1;
    }

    fn settle(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.give_back(self.bytes, self.messages);
        }
        (self.bytes, self.messages) = (0, 0);
    }
}

impl State {
    /// Sequence number of the next slot.
    fn next(&self) -> u32 {
        self.front.wrapping_add(u32::try_from(self.slots.len()).unwrap_or(u32::MAX))
    }

    fn note(&mut self, outcome: Outcome) {
        if let Outcome::Transient(cause) = outcome
            && !planted::is(Bug::ReorderingRetry)
        {
            self.failed.get_or_insert(cause);
        }
    }
}

/// What the messages of a batch of reports held.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reported {
    /// All of them: it is given back.
    pub(super) bytes: u64,
    /// Those that are stored.
    pub(super) persisted_bytes: u64,
}

/// All lanes, by number.
#[derive(Debug, Default)]
pub struct Lanes {
    slab: RwLock<Slab<Arc<Lane>>>,
}

impl Lanes {
    /// A lane for a new connection of the endpoint with this budget and these books.
    pub fn open(&self, budget: &Arc<EndpointBudget>, account: &Account) -> (LaneKey, Arc<Lane>) {
        let (budget, account) = (Arc::clone(budget), account.clone());
        let lane = Arc::new(Lane { budget, account, state: Mutex::default() });
        let key = LaneKey(u32::try_from(self.slab.write().insert(Arc::clone(&lane))).unwrap_or(u32::MAX));
        (key, lane)
    }

    /// Ends a lane: what is still in it is given up, and its number is used again only when its last report is there.
    /// Returns how many slots were given up.
    pub fn close(&self, key: LaneKey, lane: &Lane) -> usize {
        let given_up = lane.give_up();
        let finished = {
            let mut state = lane.state.lock();
            state.closed = true;
            state.waker = None;
            state.due == 0
        };
        if finished {
            self.slab.write().try_remove(key.0 as usize);
        }
        given_up
    }

    /// How many lanes are open or wait for reports.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.read().len()
    }

    /// Whether there is no lane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many reports are due, also for slots that were given up.
    #[must_use]
    pub fn due(&self) -> usize {
        self.slab.read().iter().map(|(_, lane)| lane.state.lock().due as usize).sum()
    }

    /// Notes a batch of reports and collects whom to wake afterwards.
    pub(super) fn complete(
        &self,
        reports: impl Iterator<Item = (Ticket, Outcome)>,
        wake: &mut Vec<Waker>,
    ) -> Reported {
        let mut reported = Reported::default();
        let mut finished = Vec::new();
        {
            let slab = self.slab.read();
            let mut given_back = GivenBack::default();
            for (ticket, outcome) in reports {
                let (key, sequence) = ticket.parts();
                let Some(lane) = slab.get(key.0 as usize) else {
                    tracing::error!(lane = key.0, sequence, "a report for a lane that is not there");
                    continue;
                };
                let completed = lane.complete(sequence, outcome);
                given_back.add(&lane.budget, completed.bytes);
                reported.bytes += completed.bytes;
                if let Outcome::Persisted(_) = outcome {
                    reported.persisted_bytes += completed.bytes;
                }
                wake.extend(completed.waker);
                if completed.finished {
                    finished.push(key.0 as usize);
                }
            }
            given_back.settle();
        }
        if !finished.is_empty() {
            let mut slab = self.slab.write();
            for key in finished {
                slab.try_remove(key);
            }
        }
        reported
    }
}

#[cfg(test)]
mod tests;

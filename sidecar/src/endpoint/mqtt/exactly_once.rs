//! QoS 2 on a connection: the handshakes of its session, the packets that wait for an intent to be stored, and what the
//! store is asked meanwhile. One question at a time is under way; what comes due meanwhile goes with the next.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ring::digest::{self, SHA256};

use super::codec::{Properties, Property};
use super::kept::{KeptSession, Reclaiming};
use crate::budget::{EndpointBudget, Reservation};
use crate::session;
use crate::session::handshake::{Arrived, Ended, Handshakes, Number, Permit, Released, Ticket};
use crate::session::record::{Change, Digest, Fence, Incarnation};
use crate::session::store::{Answer, StoreError};
use crate::store::Receipt;

/// What a handshake takes of the budget until it is released.
const HANDSHAKE_BYTES: u64 = 160;
/// What a waiting packet takes beside its bytes.
const WAITING_BYTES: u64 = 160;

/// The QoS 2 side of a connection.
pub(super) struct ExactlyOnce {
    handshakes: Handshakes,
    asked: Option<Asked>,
    /// PUBLISH packets in the order of their arrival: the first waits for its intent, or for room.
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    /// A message that was refused and whose release is on its way to the store: nothing is answered before it.
    refusing: Option<(u16, Instant)>,
    /// What handshakes and waiting packets take of the budget.
    room: Option<Reservation>,
}

/// A question to the store.
enum Asked {
    Write(Answer<()>),
    Reclaim(Reclaiming),
}

/// A PUBLISH that waits.
pub(super) struct Waiting {
    pub(super) packet: Box<[u8]>,
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
    /// What its topic alias stood for.
    pub(super) topic: Option<Box<str>>,
    pub(super) mark: Mark,
    /// When its first byte was read.
    pub(super) came: Instant,
    /// When it was taken.
    pub(super) arrived: Instant,
}

impl Waiting {
    /// What it takes of the budget.
    fn bytes(&self) -> u64 {
        WAITING_BYTES + self.packet.len() as u64
    }
}

/// What a PUBLISH is to the handshakes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// Below QoS 2.
    Plain,
    /// A message to store.
    Store(Ticket),
    /// One that is stored there.
    Known(Ticket, Number, Receipt),
}

/// What may be done with the packet that has waited longest.
pub(super) enum Next {
    /// It is below QoS 2, or may be produced under this number.
    Admit(Waiting, Option<(Ticket, Number)>),
    /// It is stored there, under that number.
    Recall(Waiting, (Ticket, Number), Receipt),
    /// Its packet identifier has been given to another message.
    Replaced(Waiting),
}

impl ExactlyOnce {
    /// Of a session that ends with the connection. None if there are no random numbers.
    pub(super) fn in_memory() -> Option<Box<Self>> {
        Some(Self::new(Handshakes::in_memory(Incarnation(session::random()?))))
    }

    pub(super) fn new(handshakes: Handshakes) -> Box<Self> {
        Box::new(Self {
            handshakes,
            asked: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            refusing: None,
            room: None,
        })
    }

    /// Finds room for one more handshake and a waiting packet of so many bytes.
    #[must_use]
    pub(super) fn make_room(&mut self, budget: &Arc<EndpointBudget>, packet_bytes: usize) -> bool {
        self.settle(budget, HANDSHAKE_BYTES + WAITING_BYTES + packet_bytes as u64)
    }

    /// Takes from the budget what is needed now and `more`, or gives back what is not needed. False if there is no room.
    #[must_use]
    fn settle(&mut self, budget: &Arc<EndpointBudget>, more: u64) -> bool {
        let handshakes = self.handshakes.len() + self.handshakes.held();
        let needed = handshakes as u64 * HANDSHAKE_BYTES + self.waiting_bytes + more;
        if needed == 0 {
            self.room = None;
            return true;
        }
        match &mut self.room {
            Some(room) => {
                room.shrink_to(needed);
                room.grow_to(needed)
            }
            none => {
                *none = budget.reserve(needed);
                none.is_some()
            }
        }
    }

    /// Gives back what handshakes took that are over.
    pub(super) fn rest(&mut self, budget: &Arc<EndpointBudget>) {
        // Less is always to be had.
        let _ = self.settle(budget, 0);
    }

    /// A PUBLISH at QoS 2.
    pub(super) fn arrived(&mut self, packet_id: u16, dup: bool, digest: Digest) -> (Mark, bool) {
        match self.handshakes.publish(packet_id, dup, digest) {
            Arrived::Store(ticket) => (Mark::Store(ticket), false),
            Arrived::Replaces(ticket) => (Mark::Store(ticket), true),
            Arrived::Known(ticket, number, receipt) => (Mark::Known(ticket, number, receipt), false),
        }
    }

    /// Has a packet wait for its turn; [`make_room`](Self::make_room) has found its place.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_back(waiting);
    }

    /// How many packets wait, and what they take of the budget.
    pub(super) fn waiting(&self) -> (usize, u64) {
        (self.waiting.len(), self.waiting_bytes)
    }

    /// Since when the store or room has been waited for.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let refusing = self.refusing.map(|(_, arrived)| arrived);
        refusing.or(self.waiting.front().map(|waiting| waiting.arrived))
    }

    /// The packet that has waited longest, if it need not wait for the store any more. What it took of the budget is
    /// given back: its record takes its own.
    pub(super) fn next(&mut self, budget: &Arc<EndpointBudget>) -> Option<Next> {
        let &Waiting { packet_id, mark, .. } = self.waiting.front()?;
        if matches!(mark, Mark::Known(..)) && !self.handshakes.may_recall() {
            return None;
        }
        let permit = match mark {
            Mark::Store(ticket) => Some((ticket, self.handshakes.may_store(packet_id, ticket))),
            Mark::Plain | Mark::Known(..) => None,
        };
        if let Some((_, Permit::Wait)) = permit {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        self.waiting_bytes -= waiting.bytes();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        self.rest(budget);
        Some(match (permit, mark) {
            (Some((ticket, Permit::Now(number))), _) => Next::Admit(waiting, Some((ticket, number))),
            (Some(_), _) => Next::Replaced(waiting),
            (None, Mark::Known(ticket, number, receipt)) => Next::Recall(waiting, (ticket, number), receipt),
            (None, _) => Next::Admit(waiting, None),
        })
    }

    /// Puts back what [`next`](Self::next) gave and there is no room for now. False if there is not even room to wait.
    #[must_use]
    pub(super) fn put_back(&mut self, budget: &Arc<EndpointBudget>, waiting: Waiting) -> bool {
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_front(waiting);
        self.settle(budget, 0)
    }

    /// Whether answers wait for the store.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.is_some()
    }

    /// A message is stored: whether PUBREC is due.
    pub(super) fn persisted(&mut self, packet_id: u16, ticket: Ticket, receipt: Receipt) -> bool {
        self.handshakes.persisted(packet_id, ticket, receipt)
    }

    /// A message is refused for good. Whether PUBREC is due with the reason, once the store has ended the handshake.
    pub(super) fn refused(&mut self, packet_id: u16, ticket: Ticket, reason: u8, arrived: Instant) -> bool {
        let is_due = self.handshakes.refused(packet_id, ticket, reason);
        if is_due {
            self.refusing = Some((packet_id, arrived));
        }
        is_due
    }

    /// Whether a PUBREL may be taken. For an heir it may have to be kept, for as long as the store has not confirmed it:
    /// no more than `receive_maximum`, which is what a client can have in flight.
    #[must_use]
    pub(super) fn may_release(&mut self, budget: &Arc<EndpointBudget>, receive_maximum: u16) -> bool {
        self.handshakes.may_recall()
            || self.handshakes.held() < usize::from(receive_maximum) && self.make_room(budget, 0)
    }

    /// A PUBREL.
    pub(super) fn release(&mut self, packet_id: u16) -> Released {
        self.handshakes.release(packet_id)
    }

    /// Whether the store has been asked and has not answered.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks the store what is due. `ended` is called for handshakes that end at once, as no store has to be told.
    pub(super) fn ask(
        &mut self,
        kept: Option<&KeptSession>,
        client_id: &str,
        ended: impl FnMut(Ended, Instant),
    ) {
        if self.asked.is_some() {
            return;
        }
        let confirmed = self.handshakes.confirmed();
        let Some(changes) = self.handshakes.due() else { return };
        match kept {
            Some(kept) => self.asked = Some(Asked::Write(kept.write(client_id, confirmed, changes))),
            None => self.written(ended),
        }
    }

    /// Takes the session back from a store that forgot it. False for an heir that may not, as [`Handshakes::forgotten`].
    pub(super) fn reclaim(&mut self, reclaim: impl FnOnce(&[Change], Incarnation) -> Reclaiming) -> bool {
        let Some(incarnation) = session::random().map(Incarnation) else { return false };
        let Some(changes) = self.handshakes.forgotten(incarnation) else { return false };
        self.asked = Some(Asked::Reclaim(reclaim(changes, incarnation)));
        true
    }

    /// Waits for the store's answer. After [`StoreError::Forgot`] comes [`reclaim`](Self::reclaim), after
    /// [`StoreError::Unavailable`] [`put_off`](Self::put_off); after any other error the connection ends. A new fence is the
    /// session's from now on.
    pub(super) fn poll_store(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Fence>, StoreError>> {
        let answer = match &mut self.asked {
            Some(Asked::Write(answer)) => ready!(Pin::new(answer).poll(context)).map(|()| None),
            Some(Asked::Reclaim(fence)) => ready!(fence.as_mut().poll(context)).map(Some),
            None => return Poll::Pending,
        };
        self.asked = None;
        Poll::Ready(answer)
    }

    /// The store did not answer: whether that can wait. As [`Handshakes::put_off`].
    #[must_use]
    pub(super) fn put_off(&mut self) -> bool {
        self.handshakes.put_off()
    }

    /// Whether the handshakes can be given to another connection now.
    pub(super) fn may_be_handed_over(&self) -> bool {
        self.asked.is_none() && self.refusing.is_none() && self.handshakes.may_be_handed_over()
    }

    /// Gives them away, and ends. None where they may not be.
    pub(super) fn hand_over(self) -> Option<Handshakes> {
        self.handshakes.hand_over()
    }

    /// The store has done what it was asked.
    pub(super) fn written(&mut self, mut ended: impl FnMut(Ended, Instant)) {
        let refusing = &mut self.refusing;
        self.handshakes.written(|over| {
            let arrived = match over {
                Ended::Refused(packet_id, _) => {
                    refusing.take_if(|(refused, _)| *refused == packet_id).map(|(_, arrived)| arrived)
                }
                Ended::Completed(_) | Ended::Unknown(_) => None,
            };
            ended(over, arrived.unwrap_or_else(Instant::now));
        });
    }

    /// The highest number that the store has confirmed.
    pub(super) fn confirmed(&self) -> u64 {
        self.handshakes.confirmed()
    }

    /// Whether nothing waits for the store, or for its turn.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none() && self.unanswered() == 0
    }

    /// How many messages have had no answer that are in no lane.
    pub(super) fn unanswered(&self) -> usize {
        self.waiting.len() + usize::from(self.refusing.is_some())
    }

    /// Ends with its connection: what the store has yet to be told.
    pub(super) fn last(&mut self) -> Vec<Change> {
        self.handshakes.last().unwrap_or_default()
    }
}

/// What tells a repetition from another message under the same packet identifier. Topic Alias and Message Expiry Interval
/// are left out: they are another connection's and another moment's.
pub(super) fn digest(topic: &str, properties: Properties<'_>, payload: &[u8]) -> Digest {
    let mut hash = digest::Context::new(&SHA256);
    for part in [topic.as_bytes(), payload] {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    for (property, bytes) in properties.parts() {
        if !matches!(property, Property::TopicAlias(_) | Property::MessageExpiryInterval(_)) {
            hash.update(bytes);
        }
    }
    let hash = hash.finish();
    Digest(hash.as_ref().first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes)))
}

//! The QoS 2 handshakes of a session, as its owner has them (`[MQTT-4.3.3-8]` to `[MQTT-4.3.3-12]`).
//!
//! No I/O and no clock: the connection asks what to do with each packet and each report, and does the store's part
//! with what [`Handshakes::due`] gives it. One write at a time is under way; what comes meanwhile goes with the next.
//!
//! An intent is stored before its message is produced, so that any later owner produces a repeated PUBLISH under the
//! same number. A release is stored before PUBCOMP, so that a packet identifier that the client uses again is never
//! taken for the message that had it before. PUBREC needs a [`Receipt`], and nothing else gives one.

mod heir;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use self::heir::Title;
use super::record::{Change, Digest, Incarnation, KeptReceipt, Taken};
use crate::store::Receipt;

/// The id of a message of a session: no other message has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number {
    /// The name of the session's numbers.
    pub incarnation: Incarnation,
    /// Counts from 1.
    pub number: u64,
}

/// Tells one PUBLISH of a connection from every other, also of the same packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(NonZeroU32);

impl Ticket {
    /// As a number, never 0.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0.get()
    }

    /// From [`to_bits`](Self::to_bits).
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }
}

/// What a PUBLISH means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A message to store, when [`Handshakes::may_store`] says so.
    Store(Ticket),
    /// The same, and the identifier was still taken by another message: a client that lost its state.
    Replaces(Ticket),
    /// A repetition of a message that is stored there: PUBREC once [`Handshakes::may_recall`], unless
    /// [`Handshakes::persisted`] says otherwise by then.
    Known(Ticket, Number, Receipt),
}

/// Whether a message may be produced now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Under this number.
    Now(Number),
    /// Not before its intent is stored.
    Wait,
    /// Never: its packet identifier has been given to another message.
    Replaced,
}

/// What a PUBREL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// PUBCOMP, once the store has it, or has confirmed that there is none.
    Known,
    /// There is no such handshake: PUBCOMP 0x92, or without a reason for 3.1.1.
    Unknown,
    /// Its PUBLISH came on this connection and has no PUBREC yet: PUBCOMP would acknowledge what is not stored.
    TooEarly,
}

/// A handshake that the store has ended: what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// PUBCOMP.
    Completed(u16),
    /// There was no such handshake, and now the store has confirmed that nobody else had one: as [`Released::Unknown`].
    Unknown(u16),
    /// PUBREC with this reason code; the client does not send PUBREL after it (MQTT 5 §4.3.3).
    Refused(u16, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Began with an owner before this one: the client may know that it is stored.
    Inherited,
    /// Not known to be stored, and the client knows no better.
    Awaiting,
    /// Stored there, and the client knows or is being told.
    Persisted(Receipt),
    /// The release is on its way to the store.
    Releasing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Handshake {
    ticket: Ticket,
    number: Number,
    digest: Digest,
    /// The store has its intent.
    intended: bool,
    state: State,
}

/// All unreleased handshakes of a session and what its store has yet to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handshakes {
    incarnation: Incarnation,
    issued: u64,
    confirmed: u64,
    next_ticket: NonZeroU32,
    /// Whether a store outlives this process, and is to be told.
    stored: bool,
    open: BTreeMap<u16, Handshake>,
    /// To be written next.
    pending: Pending,
    /// Being written now.
    under_way: Option<Pending>,
    /// Whose receipts the store has not been told; they go along with the next write, if they still matter then.
    receipts: Vec<u16>,
    title: Title,
    /// Taken back from a store that forgot: only who has the client's connection may go on with these.
    reclaimed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pending {
    /// Intents and releases, which somebody waits for.
    changes: Vec<Change>,
    ended: Vec<Ended>,
}

impl Handshakes {
    /// Of a session that ends with its process: nothing is written anywhere.
    #[must_use]
    pub fn in_memory(incarnation: Incarnation) -> Self {
        Self::new(incarnation, 0, false)
    }

    /// Of a session that was taken over from its store. `recall` makes a receipt of a kept one, if it can.
    #[must_use]
    pub fn taken(taken: &Taken, recall: impl Fn(&KeptReceipt) -> Option<Receipt>) -> Self {
        let mut handshakes = Self::new(taken.incarnation, taken.issued, true);
        for (&packet_id, open) in &taken.open {
            let receipt = open.receipt.as_ref().and_then(&recall);
            let handshake = Handshake {
                ticket: handshakes.ticket(),
                number: Number { incarnation: taken.incarnation, number: open.number },
                digest: open.digest,
                intended: true,
                state: receipt.map_or(State::Inherited, State::Persisted),
            };
            handshakes.open.insert(packet_id, handshake);
        }
        handshakes
    }

    fn new(incarnation: Incarnation, issued: u64, stored: bool) -> Self {
        Self {
            incarnation,
            issued,
            confirmed: issued,
            next_ticket: NonZeroU32::MIN,
            stored,
            open: BTreeMap::new(),
            pending: Pending::default(),
            under_way: None,
            receipts: Vec::new(),
            title: Title::Certain,
            reclaimed: false,
        }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.checked_add(1).unwrap_or(NonZeroU32::MIN);
        ticket
    }

    /// The number of a handshake whose intent may not be stored: only a planted bug wants it.
    #[cfg(test)]
    pub(crate) fn number_for_test(&self, packet_id: u16) -> Number {
        self.open[&packet_id].number
    }

    /// How many are unreleased.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a packet identifier is taken.
    #[must_use]
    pub fn contains(&self, packet_id: u16) -> bool {
        self.open.contains_key(&packet_id)
    }

    /// The highest number that the store has confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// A PUBLISH at QoS 2. It is the same message as one before only if the client says so (DUP) and it looks the same.
    pub fn publish(&mut self, packet_id: u16, dup: bool, digest: Digest) -> Arrived {
        self.title.is_awaited();
        let ticket = self.ticket();
        let known = self.open.get_mut(&packet_id);
        let replaces = known.is_some();
        if let Some(known) = known.filter(|known| dup && known.digest == digest) {
            match known.state {
                State::Persisted(receipt) => {
                    known.ticket = ticket;
                    return Arrived::Known(ticket, known.number, receipt);
                }
                State::Inherited | State::Awaiting => {
                    // Produced once more, under the same number.
                    (known.ticket, known.state) = (ticket, State::Awaiting);
                    return Arrived::Store(ticket);
                }
                State::Releasing => {}
            }
        }
        self.issued += 1;
        let number = Number { incarnation: self.incarnation, number: self.issued };
        let handshake = Handshake { ticket, number, digest, intended: !self.stored, state: State::Awaiting };
        self.open.insert(packet_id, handshake);
        self.change(Change::Intend { packet_id, number: number.number, digest });
        if replaces { Arrived::Replaces(ticket) } else { Arrived::Store(ticket) }
    }

    /// Whether the message of a PUBLISH may be produced.
    #[must_use]
    pub fn may_store(&self, packet_id: u16, ticket: Ticket) -> Permit {
        match self.open.get(&packet_id).filter(|handshake| handshake.ticket == ticket) {
            Some(handshake) if handshake.intended && self.title == Title::Certain => {
                Permit::Now(handshake.number)
            }
            Some(_) => Permit::Wait,
            None => Permit::Replaced,
        }
    }

    /// The message of a PUBLISH is stored. True: PUBREC. False: the client has given its identifier to another message,
    /// and would take the PUBREC for that one's.
    #[must_use]
    pub fn persisted(&mut self, packet_id: u16, ticket: Ticket, receipt: Receipt) -> bool {
        let Some(handshake) = self.open.get_mut(&packet_id).filter(|known| known.ticket == ticket) else {
            return false;
        };
        if handshake.state == State::Awaiting {
            handshake.state = State::Persisted(receipt);
            if self.stored {
                self.receipts.push(packet_id);
            }
        }
        true
    }

    /// The message of a PUBLISH is refused for good: once the store has ended the handshake, PUBREC with this reason.
    /// False: as for [`persisted`](Self::persisted).
    #[must_use]
    pub fn refused(&mut self, packet_id: u16, ticket: Ticket, reason: u8) -> bool {
        let Some(handshake) = self.open.get_mut(&packet_id).filter(|known| known.ticket == ticket) else {
            return false;
        };
        handshake.state = State::Releasing;
        self.end(packet_id, Ended::Refused(packet_id, reason));
        true
    }

    /// A PUBREL.
    #[must_use]
    pub fn release(&mut self, packet_id: u16) -> Released {
        self.title.is_awaited();
        let Some(handshake) = self.open.get_mut(&packet_id) else {
            if self.title == Title::Certain {
                return Released::Unknown;
            }
            self.pending.ended.push(Ended::Unknown(packet_id));
            return Released::Known;
        };
        match handshake.state {
            State::Awaiting => return Released::TooEarly,
            // PUBCOMP is on its way.
            State::Releasing => {}
            State::Inherited | State::Persisted(_) => {
                handshake.state = State::Releasing;
                self.end(packet_id, Ended::Completed(packet_id));
            }
        }
        Released::Known
    }

    fn end(&mut self, packet_id: u16, ended: Ended) {
        self.pending.ended.push(ended);
        self.change(Change::Release { packet_id });
    }

    fn change(&mut self, change: Change) {
        if self.stored {
            self.pending.changes.push(change);
        }
    }

    /// What to write to the store now, for an heir possibly nothing; none if nobody waits for a write, or one is under way.
    /// Then one of [`written`](Self::written), [`forgotten`](Self::forgotten) and [`put_off`](Self::put_off) must follow,
    /// or the owner's end.
    pub fn due(&mut self) -> Option<&[Change]> {
        if self.under_way.is_some() || self.pending.is_empty() && !self.title.is_to_be_asked() {
            return None;
        }
        let mut due = std::mem::take(&mut self.pending);
        due.changes.splice(..0, self.receipts());
        Some(&self.under_way.insert(due).changes)
    }

    /// The receipts of handshakes that are still open. They come before other changes: what took the place of such a
    /// handshake came later.
    fn receipts(&mut self) -> Vec<Change> {
        let kept = std::mem::take(&mut self.receipts).into_iter().filter_map(|packet_id| {
            let handshake = self.open.get(&packet_id)?;
            let State::Persisted(receipt) = handshake.state else { return None };
            let Number { incarnation, number } = handshake.number;
            (incarnation == self.incarnation).then(|| Change::Keep {
                packet_id,
                number,
                receipt: KeptReceipt::of(&receipt),
            })
        });
        kept.collect()
    }

    /// Whether no store has to be asked: what is due is [`written`](Self::written) at once.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        !self.stored
    }

    /// The write under way is done, and so the store has this owner's fence. Intents in it permit their messages; calls
    /// `ended` for each handshake that ended, in the order of the client's packets.
    pub fn written(&mut self, mut ended: impl FnMut(Ended)) {
        let Some(written) = self.under_way.take() else { return };
        self.title = Title::Certain;
        for change in &written.changes {
            if let Change::Intend { packet_id, number, .. } = change {
                self.confirmed = self.confirmed.max(*number);
                if let Some(handshake) = self.open.get_mut(packet_id)
                    && handshake.number == (Number { incarnation: self.incarnation, number: *number })
                {
                    handshake.intended = true;
                }
            }
        }
        for over in written.ended {
            if let Ended::Completed(packet_id) | Ended::Refused(packet_id, _) = over
                && self.open.get(&packet_id).is_some_and(|handshake| handshake.state == State::Releasing)
            {
                self.open.remove(&packet_id);
            }
            ended(over);
        }
    }

    /// The store forgot: messages that are not produced yet get numbers under a new incarnation. What is to be written
    /// with the reclaim, in place of the write under way. None for an heir that the store has not confirmed: the client
    /// may have been elsewhere meanwhile, and the store forgot it. Then its connection must end.
    pub fn forgotten(&mut self, incarnation: Incarnation) -> Option<&[Change]> {
        if self.title != Title::Certain {
            return None;
        }
        self.reclaimed = true;
        let mut under_way = self.under_way.take().unwrap_or_default();
        under_way.ended.append(&mut self.pending.ended);
        under_way.changes.clear();
        self.pending = Pending::default();
        self.receipts.clear();
        self.incarnation = incarnation;
        (self.issued, self.confirmed) = (0, 0);
        let mut waiting: Vec<_> = self.open.iter_mut().filter(|(_, handshake)| !handshake.intended).collect();
        waiting.sort_by_key(|(_, handshake)| handshake.number);
        for (&packet_id, handshake) in waiting {
            self.issued += 1;
            handshake.number = Number { incarnation, number: self.issued };
            let digest = handshake.digest;
            under_way.changes.push(Change::Intend { packet_id, number: self.issued, digest });
        }
        Some(&self.under_way.insert(under_way).changes)
    }

    /// What to write when the client is gone: receipts that no write has taken along. None if a write is under way, for
    /// nobody knows what became of it.
    #[must_use]
    pub fn last(&mut self) -> Option<Vec<Change>> {
        if self.under_way.is_some() {
            return None;
        }
        Some(self.receipts())
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.ended.is_empty()
    }
}

impl KeptReceipt {
    fn of(receipt: &Receipt) -> Self {
        Self {
            topic: receipt.topic().into(),
            partition: receipt.partition(),
            offset: receipt.offset(),
            timestamp_millis: receipt.timestamp_millis(),
        }
    }
}

//! The same client on the same pod: its new connection gets the handshakes of the old one as they are, with its fence,
//! and the store is not asked before CONNACK.
//!
//! That this pod has the session is what it believes: the client may have been on another pod in between, and this one
//! has not heard of it. So the heir does nothing in the name of the session before a write under the old fence has shown
//! that nobody else had it: no message is produced, none is answered from a receipt, no release is answered. That write
//! is as good as a takeover at its time. It is under way while the client reads its CONNACK, and nobody waits for it who
//! does not use QoS 2.

use super::{Handshakes, State};
use crate::session::record::Change;

/// Whether the session is known to be this connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Title {
    /// The store gave it, or has taken a write since.
    Certain,
    /// It is another connection's word. No client waits for more yet.
    Handed {
        /// The store is to be asked now, not when somebody waits for it.
        ask: bool,
    },
    /// The same, and packets of the client wait.
    Awaited,
}

impl Title {
    /// A packet has come that depends on it.
    pub(super) fn is_awaited(&mut self) {
        if *self != Self::Certain {
            *self = Self::Awaited;
        }
    }

    /// Whether the store is to be asked now.
    pub(super) fn is_to_be_asked(self) -> bool {
        matches!(self, Self::Handed { ask: true } | Self::Awaited)
    }
}

impl Handshakes {
    /// Whether these can be given to another connection on this pod: all that somebody waited for is confirmed by the
    /// store, and they were not taken back from a store that forgot.
    #[must_use]
    pub fn may_be_handed_over(&self) -> bool {
        self.stored && !self.reclaimed && self.under_way.is_none() && self.pending.is_empty()
    }

    /// Gives these to the client's next connection on this pod. Nothing of them is left to the one before, which can
    /// neither answer nor write any more; a report that it still waits for is nobody's. None if they must be had from the
    /// store: not [`may_be_handed_over`](Self::may_be_handed_over).
    #[must_use]
    pub fn hand_over(mut self) -> Option<Self> {
        if !self.may_be_handed_over() {
            return None;
        }
        // As from the store: the intent is known, and what became of it is not.
        for handshake in self.open.values_mut().filter(|handshake| handshake.state == State::Awaiting) {
            handshake.state = State::Inherited;
        }
        self.title = Title::Handed { ask: true };
        Some(self)
    }

    /// Whether a message that is known to be stored may be answered with PUBREC, and nothing is kept from an heir.
    #[must_use]
    pub fn may_recall(&self) -> bool {
        self.title == Title::Certain
    }

    /// How many releases wait for an heir's confirmation. They are no handshakes, and take memory all the same.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.title == Title::Certain {
            return 0;
        }
        self.pending.ended.len() + self.under_way.as_ref().map_or(0, |write| write.ended.len())
    }

    /// The write under way got no answer. True for an heir of whom nobody wants more than QoS 0 and 1: it goes on, and the
    /// store is asked again when somebody does. False: it may or may not have been done, so the owner ends.
    #[must_use]
    pub fn put_off(&mut self) -> bool {
        if !matches!(self.title, Title::Handed { .. }) {
            return false;
        }
        // Receipts, which are true also if they are there already.
        for change in self.under_way.take().unwrap_or_default().changes {
            if let Change::Keep { packet_id, .. } = change {
                self.receipts.push(packet_id);
            }
        }
        self.title = Title::Handed { ask: false };
        true
    }
}

/// What only planted bugs do.
#[cfg(test)]
impl Handshakes {
    pub(crate) fn forget_write_for_test(&mut self) {
        (self.under_way, self.pending) = (None, super::Pending::default());
    }

    pub(crate) fn forget_reclaim_for_test(&mut self) {
        self.reclaimed = false;
    }

    pub(crate) fn believe_for_test(&mut self) {
        self.title = Title::Certain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::handshake::{Arrived, Ended, Permit, Released, Ticket};
    use crate::session::record::{Digest, Fence, Incarnation, Taken};
    use crate::store::Receipt;

    const ONE: Digest = Digest(1);
    const TWO: Digest = Digest(2);

    fn begun() -> Handshakes {
        let taken = Taken {
            present: false,
            fence: Fence { count: 1, token: 1 },
            incarnation: Incarnation(7),
            issued: 0,
            open: Default::default(),
            before: None,
        };
        Handshakes::taken(&taken, |_| None)
    }

    fn receipt() -> Receipt {
        Receipt::for_test("t", 3, Some(9), 0)
    }

    /// A message whose intent is stored.
    fn intend(handshakes: &mut Handshakes, packet_id: u16, digest: Digest) -> Ticket {
        let Arrived::Store(ticket) = handshakes.publish(packet_id, false, digest) else { panic!("is new") };
        assert!(handshakes.due().is_some());
        handshakes.written(|_| {});
        ticket
    }

    fn confirm(heir: &mut Handshakes) -> Vec<Ended> {
        let mut ended = Vec::new();
        assert!(heir.due().is_some());
        heir.written(|over| ended.push(over));
        ended
    }

    /// Packet 1 is stored, packet 2 is under way.
    fn heir() -> (Handshakes, Permit) {
        let mut older = begun();
        let stored = intend(&mut older, 1, ONE);
        let under_way = intend(&mut older, 2, TWO);
        assert!(older.persisted(1, stored, receipt()));
        let permit = older.may_store(2, under_way);
        (older.hand_over().expect("nothing is under way to the store"), permit)
    }

    #[test]
    fn what_is_on_its_way_to_the_store_is_not_handed_over() {
        let mut older = begun();
        let _ = older.publish(1, false, ONE);
        assert!(older.clone().hand_over().is_none(), "an intent that is due");
        assert!(older.due().is_some());
        assert!(older.clone().hand_over().is_none(), "an intent under way");
        older.written(|_| {});
        assert!(older.clone().hand_over().is_some());
        let Permit::Now(_) = older.may_store(1, Ticket::from_bits(1).expect("not 0")) else {
            panic!("is due")
        };
        assert!(older.persisted(1, Ticket::from_bits(1).expect("not 0"), receipt()));
        assert!(older.clone().hand_over().is_some(), "nobody waits for a receipt to be written");
        assert_eq!(older.release(1), Released::Known);
        assert!(older.clone().hand_over().is_none(), "a release that is due");
        assert!(older.due().is_some());
        assert!(older.clone().hand_over().is_none(), "a release under way");
        older.written(|_| {});
        assert!(older.hand_over().is_some());
    }

    #[test]
    fn what_was_taken_back_from_a_store_that_forgot_is_not_handed_over() {
        let mut older = begun();
        assert!(older.forgotten(Incarnation(8)).is_some());
        older.written(|_| {});
        assert!(!older.may_be_handed_over());
        assert!(Handshakes::in_memory(Incarnation(1)).hand_over().is_none(), "nor what no store has");
    }

    #[test]
    fn an_heir_does_nothing_before_the_store_has_confirmed_it() {
        let (mut heir, before) = heir();
        let Arrived::Known(_, number, known) = heir.publish(1, true, ONE) else { panic!("is known") };
        assert_eq!((number.number, known), (1, receipt()));
        assert!(!heir.may_recall());
        let Arrived::Store(again) = heir.publish(2, true, TWO) else { panic!("has no receipt") };
        assert_eq!(heir.may_store(2, again), Permit::Wait);
        assert_eq!(heir.release(9), Released::Known, "it is not known yet that nobody knows it");
        assert_eq!(heir.held(), 1);
        assert_eq!(confirm(&mut heir), [Ended::Unknown(9)]);
        assert!(heir.may_recall());
        assert_eq!(heir.may_store(2, again), before, "under the same number");
        assert_eq!((heir.release(9), heir.held()), (Released::Unknown, 0));
        assert!(heir.due().is_none());
    }

    #[test]
    fn a_report_of_the_older_connection_is_not_for_the_heir() {
        let (mut heir, _) = heir();
        let older = Ticket::from_bits(2).expect("not 0");
        confirm(&mut heir);
        let Arrived::Store(again) = heir.publish(2, true, TWO) else { panic!("has no receipt") };
        assert!(!heir.persisted(2, older, receipt()));
        assert!(heir.persisted(2, again, receipt()));
    }

    #[test]
    fn an_heir_of_whom_nobody_wants_anything_waits_for_a_store_that_is_away() {
        let (mut heir, _) = heir();
        let receipts = heir.due().expect("it asks at once").to_vec();
        assert!(matches!(receipts[..], [Change::Keep { packet_id: 1, number: 1, .. }]), "{receipts:?}");
        assert!(heir.put_off());
        assert!(heir.due().is_none(), "it does not ask all the time");
        let mut next = heir.hand_over().expect("nobody waits for it");
        assert_eq!(next.due(), Some(&receipts[..]), "the receipts go along");
        let Arrived::Known(..) = next.publish(1, true, ONE) else { panic!("is known") };
        assert!(!next.put_off(), "the client waits");
    }

    #[test]
    fn an_heir_that_is_not_confirmed_takes_nothing_back_from_a_store_that_forgot() {
        let (mut heir, _) = heir();
        assert!(heir.due().is_some());
        assert!(heir.forgotten(Incarnation(8)).is_none());
        heir.written(|_| {});
        assert!(heir.forgotten(Incarnation(8)).is_some(), "as any owner");
    }
}

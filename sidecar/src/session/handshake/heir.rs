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

//! A request in progress: what it holds, and how its message is booked.

use std::sync::Arc;
use std::time::Instant;

use super::HttpEndpoint;
use super::peer::Peer;
use super::problem::Problem;
use super::seat::Seat;
use super::stop::Stop;
use crate::auth::Identity;
use crate::intake::router::Sender;
use crate::ledger::{Ending, Entry};

/// A request in progress. What it holds goes back when it ends, however that is.
pub(super) struct Visit {
    pub(super) peer: Arc<Peer>,
    /// Bytes of the connection's share.
    held: u64,
    pub(super) seat: Option<Seat>,
    pub(super) body_read: bool,
    /// Its message is received and has no end yet.
    open: bool,
    /// Who sends, where somebody asks.
    pub(super) identity: Option<Arc<Identity>>,
}

/// A message whose slot in the ledger is left when its answer is written, or abandoned when it never is.
#[derive(Debug)]
#[must_use]
pub(super) struct Due {
    peer: Arc<Peer>,
    ending: Ending,
    arrived: Instant,
}

impl Due {
    /// The connection has the answer.
    pub(super) fn hand_over(self) {
        self.peer.hand_over(self.ending, self.arrived);
    }

    pub(super) fn abandon(self) {
        self.peer.abandon(1);
    }
}

impl Visit {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        peer.activity().request_begins();
        Self { peer, held: 0, seat: None, body_read: false, open: false, identity: None }
    }

    pub(super) fn endpoint(&self) -> &HttpEndpoint {
        self.peer.endpoint()
    }

    pub(super) fn seat(&mut self) -> &mut Seat {
        self.seat.get_or_insert_with(|| self.peer.sit())
    }

    pub(super) fn sender(&self) -> Sender<'_> {
        Sender { client_id: "", source: self.peer.source(), identity: self.identity.as_deref() }
    }

    /// Takes `bytes` of what the connection may hold.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<(), Stop> {
        if !self.peer.try_hold(bytes, self.held) {
            return Err(Stop::exhausted());
        }
        self.held += bytes;
        Ok(())
    }

    pub(super) fn too_large(&self) -> Stop {
        let largest = self.endpoint().limits.max_message_bytes;
        Stop::new(Problem::TooLarge, format!("this endpoint takes at most {largest} bytes in a message"))
    }

    /// The message is with the producer.
    pub(super) fn receive(&mut self) {
        let mut entry = Entry::default();
        entry.receive();
        entry.occupy();
        self.peer.account().book(&mut entry);
        self.open = true;
    }

    /// The receipt is in hand; the message ends when its answer is written.
    pub(super) fn acknowledge(&mut self, arrived: Instant) -> Due {
        self.open = false;
        Due { peer: Arc::clone(&self.peer), ending: Ending::Acknowledged, arrived }
    }

    /// The message, if there was one, is refused.
    pub(super) fn refuse(&mut self, stop: &Stop) {
        if !stop.counts {
            return;
        }
        let mut entry = Entry::default();
        if std::mem::take(&mut self.open) {
            self.give_up();
            entry.leave(1);
        } else {
            entry.receive();
        }
        entry.end(Ending::Refused, 1);
        self.peer.account().book(&mut entry);
    }

    /// Waits no longer for a report; it will come late.
    fn give_up(&self) {
        if let Some(seat) = &self.seat {
            seat.lane.give_up();
        }
    }
}

impl Drop for Visit {
    /// A request whose client has left is dropped.
    fn drop(&mut self) {
        if self.open {
            self.give_up();
            self.peer.abandon(1);
        }
        if let Some(seat) = self.seat.take() {
            self.peer.leave(seat);
        }
        self.peer.let_go(self.held);
        self.peer.activity().request_ends();
    }
}

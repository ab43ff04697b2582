//! Bytes from a client, until they are whole packets.
//!
//! A thread reads into one buffer of its own and packets are taken from there in place, so a connection with nothing
//! half-read holds no buffer. What is left of a packet is kept in exactly its length, and every byte is taken from the
//! endpoint's budget before it is read.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codec::{self, Frame, Malformed, Reason};
use super::end::End;
use crate::budget::{EndpointBudget, Reservation};
use crate::endpoint::time_for;
use crate::endpoint::wire::Wire;

/// What one read takes at most, unless a packet is known to be larger. Also what a client may send before CONNECT is
/// through (contract, rule 4).
pub(super) const CHUNK_BYTES: usize = 16_384;
/// How long a client may take for one packet, beside the time for its length.
const PACKET_TIMEOUT: Duration = Duration::from_secs(30);

thread_local! {
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into_boxed_slice());
}

/// Who takes packets.
pub(super) trait Taker {
    /// Whether nothing can be taken now, so that not even the length of the next packet can be judged.
    fn waits(&self) -> bool;

    /// The largest packet that is taken now, in bytes.
    fn max_packet_bytes(&self) -> usize;

    /// Takes a whole packet that came at `arrived`, or says that it cannot.
    fn take(&mut self, packet: &[u8], arrived: Instant) -> Result<Flow, End>;
}

/// What the taker of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It is taken; go on.
    Taken,
    /// It cannot be taken now; it stays.
    Full,
    /// It is taken, and nothing after it.
    Stop,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be more.
    More,
    /// The socket has nothing now.
    Drained,
    /// The client closed its side.
    Closed,
    /// The budget or the taker is full: read again when there is room.
    Full,
    /// The taker wants nothing more.
    Stopped,
}

/// The unread part of a client's stream.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Bytes read and not taken: part of a packet, or packets that had to wait.
    stash: Vec<u8>,
    /// What `stash` may grow to, from the budget.
    reservation: Option<Reservation>,
    /// Length of the packet at the start of `stash`; 0 while that is not known.
    wanted: usize,
    /// When bytes last came.
    heard: Instant,
    /// When the packet at the start of `stash` began.
    began: Instant,
}

impl Inbound {
    pub(super) fn new(now: Instant) -> Self {
        Self { stash: Vec::new(), reservation: None, wanted: 0, heard: now, began: now }
    }

    /// When bytes last came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The client was kept waiting: its silence counts from now.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.heard = now;
        self.began = now;
    }

    /// When a packet that has begun must be whole.
    pub(super) fn packet_deadline(&self) -> Option<Instant> {
        (!self.stash.is_empty()).then(|| self.began + PACKET_TIMEOUT + time_for(self.wanted))
    }

    /// Tries again what had to wait, then reads once. Hands whole packets to `taker`.
    pub(super) fn read(
        &mut self,
        stream: &mut Wire,
        budget: &Arc<EndpointBudget>,
        now: Instant,
        waited: bool,
        taker: &mut impl Taker,
    ) -> Result<Read, End> {
        if waited {
            match self.resume(budget, now, taker)? {
                Read::More => {}
                other => return Ok(other),
            }
        }
        if self.wanted > CHUNK_BYTES && self.stash.len() < self.wanted {
            return self.read_large(stream, now, taker);
        }
        CHUNK.with_borrow_mut(|chunk| {
            if !self.reserve(budget, CHUNK_BYTES) {
                return Ok(Read::Full);
            }
            let kept = self.stash.len();
            if let Some(start) = chunk.get_mut(..kept) {
                start.copy_from_slice(&self.stash);
            }
            let room = chunk.get_mut(kept..).unwrap_or_default();
            let read = match stream.try_read(room) {
                Ok(0) => return Ok(Read::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.settle(budget);
                    return Ok(if stream.is_starved() { Read::Full } else { Read::Drained });
                }
                Err(error) => return Err(error.into()),
            };
            self.heard = now;
            let bytes = chunk.get(..kept + read).unwrap_or_default();
            let (outcome, taken) = self.take_packets(bytes, taker)?;
            let outcome = self.keep(bytes.get(taken..).unwrap_or_default(), budget, taken > 0, now, outcome);
            // A short read means that the socket is empty: no need to be told so by another call.
            Ok(if outcome == Read::More && kept + read < CHUNK_BYTES { Read::Drained } else { outcome })
        })
    }

    /// Tries again what was left when there was no room.
    fn resume(
        &mut self,
        budget: &Arc<EndpointBudget>,
        now: Instant,
        taker: &mut impl Taker,
    ) -> Result<Read, End> {
        if self.stash.is_empty() {
            return Ok(Read::More);
        }
        let mut stash = std::mem::take(&mut self.stash);
        let (outcome, taken) = self.take_packets(&stash, taker)?;
        if taken == 0 && outcome == Read::Full {
            self.stash = stash;
            return Ok(outcome);
        }
        stash.drain(..taken);
        Ok(self.keep(&stash, budget, taken > 0, now, outcome))
    }

    fn read_large(&mut self, stream: &mut Wire, now: Instant, taker: &mut impl Taker) -> Result<Read, End> {
        let missing = self.wanted - self.stash.len();
        match stream.try_read_more(&mut self.stash, missing) {
            Ok(0) => return Ok(Read::Closed),
            Ok(_) => self.heard = now,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(if stream.is_starved() { Read::Full } else { Read::Drained });
            }
            Err(error) => return Err(error.into()),
        }
        if self.stash.len() < self.wanted {
            return Ok(Read::More);
        }
        match taker.take(&self.stash, self.heard)? {
            Flow::Full => Ok(Read::Full),
            flow => {
                self.clear();
                Ok(if flow == Flow::Stop { Read::Stopped } else { Read::More })
            }
        }
    }

    /// Takes whole packets from `bytes`. Returns how many bytes that were; notes the length of the next packet.
    fn take_packets(&mut self, bytes: &[u8], taker: &mut impl Taker) -> Result<(Read, usize), End> {
        let mut rest = bytes;
        self.wanted = 0;
        let outcome = loop {
            if taker.waits() && !rest.is_empty() {
                break Read::Full;
            }
            match codec::frame(rest)? {
                Frame::Packet { total, .. } if total > taker.max_packet_bytes() => {
                    let what = "a packet is larger than Maximum Packet Size";
                    return Err(Malformed { reason: Reason::PacketTooLarge, what }.into());
                }
                Frame::Packet { total, .. } => match rest.split_at_checked(total) {
                    Some((packet, after)) => match taker.take(packet, self.heard)? {
                        Flow::Taken => rest = after,
                        Flow::Full => break Read::Full,
                        Flow::Stop => {
                            rest = &[];
                            break Read::Stopped;
                        }
                    },
                    None => {
                        self.wanted = total;
                        break Read::More;
                    }
                },
                Frame::Unknown => break Read::More,
            }
        };
        Ok((outcome, bytes.len() - rest.len()))
    }

    /// Keeps `rest` in exactly the room that its packet needs, taken from the budget.
    fn keep(
        &mut self,
        rest: &[u8],
        budget: &Arc<EndpointBudget>,
        anew: bool,
        now: Instant,
        outcome: Read,
    ) -> Read {
        if anew || self.stash.is_empty() {
            self.began = now;
        }
        if rest.is_empty() {
            self.clear();
            return outcome;
        }
        // What was read is covered already; a larger packet has to find its room first.
        let room = rest.len().max(self.wanted);
        let fits = self.reserve(budget, room);
        let mut stash = Vec::with_capacity(if fits { room } else { rest.len() });
        stash.extend_from_slice(rest);
        self.stash = stash;
        if !fits {
            return Read::Full;
        }
        self.settle(budget);
        outcome
    }

    /// What is kept, and what of the budget covers it.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> (usize, u64) {
        (self.stash.capacity(), self.reservation.as_ref().map_or(0, Reservation::bytes))
    }

    fn clear(&mut self) {
        self.stash = Vec::new();
        self.wanted = 0;
        self.reservation = None;
    }

    fn reserve(&mut self, budget: &Arc<EndpointBudget>, bytes: usize) -> bool {
        match &mut self.reservation {
            Some(reservation) => reservation.grow_to(bytes as u64),
            none => {
                *none = budget.reserve(bytes as u64);
                none.is_some()
            }
        }
    }

    /// Gives back what reading needed and keeping does not.
    fn settle(&mut self, budget: &Arc<EndpointBudget>) {
        if self.stash.is_empty() {
            self.reservation = None;
        } else if let Some(reservation) = &mut self.reservation {
            reservation.shrink_to(self.stash.len().max(self.wanted) as u64);
            budget.pod().announce();
        }
    }
}

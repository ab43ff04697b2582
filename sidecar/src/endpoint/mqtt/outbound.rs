//! Answers on their way to a client, coalesced into few writes, and booked when the kernel has them.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::end::End;
use crate::budget::{EndpointBudget, Reservation};
use crate::endpoint::wire::Wire;
use crate::ledger::{Ending, Entry};
use crate::spare::{self, Spares};

/// Beyond this nothing is added until the client reads.
const FULL_BYTES: usize = 16_384;
/// What a buffer that is not full may hold after one more answer, with the notes of what it answers: taken from the
/// budget while a client leaves its answers unread.
const UNREAD_BYTES: u64 = 3 * FULL_BYTES as u64;
/// How long a client may leave its answers unread.
const STALL: Duration = Duration::from_secs(30);

thread_local! {
    static SPARE_BYTES: Spares<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE_ANSWERED: Spares<Vec<(Ending, Instant)>> = const { RefCell::new(Vec::new()) };
}

/// Answers not yet written, and the messages that they answer.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    written: usize,
    answered: Vec<(Ending, Instant)>,
    /// Since when the client has left answers unread, and the budget they take meanwhile.
    unread: Option<(Instant, Reservation)>,
}

impl Outbound {
    /// The buffer to append packets to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spare::take(&SPARE_BYTES);
        }
        &mut self.bytes
    }

    /// Notes that the last packet answers a message that arrived then.
    pub(super) fn answers(&mut self, ending: Ending, arrived: Instant) {
        if self.answered.capacity() == 0 {
            self.answered = spare::take(&SPARE_ANSWERED);
        }
        self.answered.push((ending, arrived));
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES
    }

    /// When a client that does not read is given up.
    pub(super) fn stall_deadline(&self) -> Option<Instant> {
        self.unread.as_ref().map(|(since, _)| *since + STALL)
    }

    /// Writes as much as the socket takes. When all is written, the answered messages are booked into `entry`.
    pub(super) fn write(
        &mut self,
        stream: &mut Wire,
        budget: &Arc<EndpointBudget>,
        entry: &mut Entry,
    ) -> Result<(), End> {
        let before = self.written;
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match stream.try_write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.wait_for_reader(budget, self.written > before);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.bytes.is_empty() {
            return Ok(());
        }
        match stream.try_flush() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.wait_for_reader(budget, self.written > before);
            }
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        for (ending, arrived) in self.answered.drain(..) {
            entry.leave(1);
            entry.end(ending, 1);
            if ending != Ending::Refused {
                entry.latency(now.saturating_duration_since(arrived));
            }
        }
        self.clear();
        Ok(())
    }

    fn wait_for_reader(&mut self, budget: &Arc<EndpointBudget>, progress: bool) -> Result<(), End> {
        match &mut self.unread {
            Some((since, _)) if progress => *since = Instant::now(),
            Some(_) => {}
            none => {
                let room = budget.reserve(UNREAD_BYTES);
                let room = room.ok_or(End::silent("no room for answers that the client does not read"))?;
                *none = Some((Instant::now(), room));
            }
        }
        Ok(())
    }

    /// Gives up what is not written: its messages are abandoned.
    pub(super) fn abandon(&mut self, entry: &mut Entry) {
        let count = self.answered.len() as u64;
        entry.leave(count);
        entry.end(Ending::Abandoned, count);
        self.answered.clear();
        self.clear();
    }

    fn clear(&mut self) {
        self.written = 0;
        self.bytes.clear();
        self.unread = None;
    }

    /// Gives up the room that an idle connection does not need.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() {
            let (bytes, answered) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.answered));
            let (room, notes) = (bytes.capacity(), answered.capacity() * size_of::<(Ending, Instant)>());
            spare::give_back(&SPARE_BYTES, bytes, room);
            spare::give_back(&SPARE_ANSWERED, answered, notes);
        }
    }
}

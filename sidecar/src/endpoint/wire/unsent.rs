//! Bytes that a layer has made and the layer below has not taken yet.

use std::io;
use std::sync::Arc;

use crate::budget::{EndpointBudget, Reservation};

/// Bytes on their way down. It takes no memory while there are none, and is in the budget while there are.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    room: Option<Reservation>,
}

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Hands bytes to `write`, behind what waits already, and keeps what is not taken now.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        budget: &Arc<EndpointBudget>,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut rest = bytes;
        while self.is_empty() && !rest.is_empty() {
            match write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if rest.is_empty() { Ok(()) } else { self.push(rest, budget) }
    }

    /// Adds bytes. Fails when the budget has no room for them: the client does not read what it gets.
    pub(super) fn push(&mut self, bytes: &[u8], budget: &Arc<EndpointBudget>) -> io::Result<()> {
        let total = (self.bytes.len() + bytes.len()) as u64;
        let fits = match &mut self.room {
            Some(room) => room.grow_to(total),
            none => {
                *none = budget.reserve(total);
                none.is_some()
            }
        };
        if !fits {
            let what = "no room for answers that the client does not read";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, what));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Hands what is there to `write` until all is taken.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent += count,
            }
        }
        if !self.bytes.is_empty() {
            *self = Self::default();
        }
        Ok(())
    }
}

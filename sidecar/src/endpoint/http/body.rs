//! The body of a request, within the budget and in its own time.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::fields::EXPECT;
use super::head::Head;
use super::problem::Problem;
use super::stop::Stop;
use super::visit::Visit;
use crate::budget::Reservation;
use crate::endpoint::time_for;

/// First room for a body of unknown length; it doubles. A larger body is only read if the path has a route.
pub(super) const STEP_BYTES: usize = 16_384;

/// The body of a request, on its way in. `'b` is how long what came with the head stays where it is.
pub(super) trait Body<'b> {
    /// In bytes, if that is known.
    fn length(&self) -> Option<u64>;

    /// Whether all of it has come.
    fn is_end(&self) -> bool;

    /// All of it, if it came with the head.
    fn lent(&mut self) -> Option<&'b [u8]>;

    /// Hands what comes next to `place`, perhaps in parts. Returns whether there may be more.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        place: impl FnMut(Piece<'_>) -> Result<(), Stop>,
    ) -> Poll<Result<bool, Stop>>;
}

/// A part of a body.
#[derive(Debug)]
pub(super) enum Piece<'p> {
    /// For the moment.
    Lent(&'p [u8]),
    /// For as long as it is wanted.
    Given(Bytes),
}

impl Piece<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

/// A whole payload.
#[derive(Debug)]
pub(super) enum Payload<'b> {
    /// It came with its head, and is where it was read into.
    Lent(&'b [u8]),
    /// It came in one piece.
    Given(Bytes),
    /// It came in pieces.
    Gathered(Vec<u8>),
}

impl Payload<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
        }
    }
}

/// Reads a body of `length` bytes, or of any length up to the largest message. `reservation` has `length` bytes beside
/// what it had for other things, and grows with a body of unknown length.
pub(super) async fn read<'b>(
    visit: &mut Visit,
    body: &mut impl Body<'b>,
    length: Option<usize>,
    reservation: &mut Reservation,
) -> Result<Payload<'b>, Stop> {
    if let Some(bytes) = body.lent() {
        return Ok(Payload::Lent(bytes));
    }
    let mut gathered = Vec::new();
    let mut given = None;
    let timeout = visit.endpoint().timeouts.body;
    let most = length.unwrap_or(visit.endpoint().limits.max_message_bytes as usize);
    let latest = Instant::now() + timeout + time_for(most);
    while !body.is_end() {
        let mut deadline = None;
        let more = poll_fn(|context| {
            let placed = body.poll_piece(context, |piece| match piece {
                Piece::Given(bytes) if gathered.is_empty() && Some(bytes.len()) == length => {
                    given = Some(bytes);
                    Ok(())
                }
                piece => {
                    let bytes = piece.as_slice();
                    make_room(visit, &mut gathered, bytes.len(), length, reservation)?;
                    gathered.extend_from_slice(bytes);
                    Ok(())
                }
            });
            if placed.is_ready() {
                return placed;
            }
            let deadline = *deadline.get_or_insert_with(|| latest.min(Instant::now() + timeout));
            visit.seat().timer.poll(deadline, context).map(|()| {
                let detail = "the body made no progress, or too little";
                Err(Stop::new(Problem::RequestTimeout, detail).and_close())
            })
        })
        .await?;
        if !more {
            break;
        }
    }
    Ok(given.map_or(Payload::Gathered(gathered), Payload::Given))
}

/// Makes room for `more` bytes, after they have been taken from the budget.
fn make_room(
    visit: &mut Visit,
    gathered: &mut Vec<u8>,
    more: usize,
    length: Option<usize>,
    reservation: &mut Reservation,
) -> Result<(), Stop> {
    let needed = gathered.len() + more;
    if needed <= gathered.capacity() {
        return Ok(());
    }
    if let Some(length) = length {
        // All of it was taken before, and no more than it is handed on.
        gathered.reserve_exact(length.max(needed));
        return Ok(());
    }
    let largest = visit.endpoint().limits.max_message_bytes as usize;
    if needed > largest {
        return Err(visit.too_large());
    }
    let before = gathered.capacity();
    let room = needed.max(2 * before).max(STEP_BYTES).min(largest);
    let step = (room - before) as u64;
    visit.hold(step)?;
    if !reservation.grow_to(reservation.bytes() + step) {
        return Err(Stop::exhausted());
    }
    gathered.reserve_exact(room - gathered.len());
    Ok(())
}

/// Passes over the body of a refused request as far as it is there. Returns whether that was all of it, so that the next
/// request can follow; else the connection has to close.
pub(super) async fn skim<'b>(head: &impl Head, body: &mut impl Body<'b>) -> bool {
    // Who waits for a word before the body must not get it by our asking for the body.
    let waits = head.fields().any(|(name, _)| name == EXPECT);
    let mut left = STEP_BYTES;
    while !body.is_end() {
        if waits || left == 0 {
            return false;
        }
        let polled = poll_fn(|context| {
            Poll::Ready(body.poll_piece(context, |piece| {
                left = left.saturating_sub(piece.as_slice().len().max(1));
                Ok(())
            }))
        });
        match polled.await {
            Poll::Ready(Ok(more)) if !more => return true,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) | Poll::Pending => return false,
        }
    }
    true
}

//! The body of a request, within the budget and in its own time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use hyper::body::{Body, Frame, Incoming};

use super::problem::Problem;
use super::stop::Stop;
use super::visit::Visit;
use crate::budget::Reservation;
use crate::endpoint::time_for;

/// First room for a body of unknown length; it doubles. A larger body is only read if the path has a route.
pub(super) const STEP_BYTES: usize = 16_384;
/// For how long a small body that nobody needs is waited for; it mostly is under way.
const SMALL_BODY: Duration = Duration::from_millis(200);

/// A whole payload.
#[derive(Debug)]
pub(super) enum Payload {
    /// It came in one piece, which is still in the buffer it was read into.
    Whole(Bytes),
    /// It came in pieces.
    Gathered(Vec<u8>),
}

impl Payload {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
        }
    }
}

/// Reads a body of `length` bytes, or of any length up to the largest message. `reservation` has `length` bytes beside
/// what it had for other things, and grows with a body of unknown length.
pub(super) async fn read(
    visit: &mut Visit,
    body: &mut Incoming,
    length: Option<usize>,
    reservation: &mut Reservation,
) -> Result<Payload, Stop> {
    let mut gathered = Vec::new();
    let timeout = visit.endpoint().timeouts.body;
    let most = length.unwrap_or(visit.endpoint().limits.max_message_bytes as usize);
    let latest = Instant::now() + timeout + time_for(most);
    while !body.is_end_stream() {
        let frame = match next_frame(visit, body, timeout, latest).await {
            Some(Some(Ok(frame))) => frame,
            Some(Some(Err(error))) => return Err(broken(&error)),
            Some(None) => break,
            None => {
                return Err(Stop::new(Problem::RequestTimeout, "the body made no progress, or too little")
                    .and_close());
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if gathered.is_empty() && Some(data.len()) == length {
            return Ok(Payload::Whole(data));
        }
        make_room(visit, &mut gathered, data.len(), length, reservation)?;
        gathered.extend_from_slice(&data);
    }
    Ok(Payload::Gathered(gathered))
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
        // All of it was taken before, and hyper hands on no more than it.
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
pub(super) async fn skim(body: &mut Incoming, headers: &HeaderMap) -> bool {
    // Who waits for a word before the body must not get it by our asking for the body.
    let waits = headers.contains_key(EXPECT);
    let mut left = STEP_BYTES;
    while !body.is_end_stream() {
        if waits || left == 0 {
            return false;
        }
        let frame = poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context))).await;
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                left = left.saturating_sub(frame.data_ref().map_or(1, Bytes::len));
            }
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
        }
    }
    true
}

/// Waits a moment for the small body of a request that is refused over HTTP/2, and forgets it. An answer before it is in
/// order, as is the reset with NO_ERROR that follows (RFC 9113 §8.1), but curl 7.88 (Debian 12) throws the answer away when
/// that comes before it has sent its body.
pub(super) async fn await_small(body: &mut Incoming, headers: &HeaderMap) {
    let small = body.size_hint().exact().is_some_and(|length| length <= STEP_BYTES as u64);
    if !small || headers.contains_key(EXPECT) {
        return;
    }
    let rest = async {
        while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {}
    };
    let _ = tokio::time::timeout(SMALL_BODY, rest).await;
}

type Frames = Option<Result<Frame<Bytes>, hyper::Error>>;

/// The next frame; none if it does not come within `timeout`, or by `latest`.
async fn next_frame(
    visit: &mut Visit,
    body: &mut Incoming,
    timeout: Duration,
    latest: Instant,
) -> Option<Frames> {
    let timer = &mut visit.seat().timer;
    let mut deadline = None;
    poll_fn(|context| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            return Poll::Ready(Some(frame));
        }
        let deadline = *deadline.get_or_insert_with(|| latest.min(Instant::now() + timeout));
        timer.poll(deadline, context).map(|()| None)
    })
    .await
}

/// A body that ends too early is the client's leaving; one that is not framed as it should be can be answered.
fn broken(error: &hyper::Error) -> Stop {
    let malformed = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
        });
    let stop = Stop::new(Problem::MalformedBody, "the framing of the body is broken").and_close();
    if malformed { stop } else { stop.uncounted() }
}

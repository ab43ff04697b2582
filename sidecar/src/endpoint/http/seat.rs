//! What one request at a time uses of a connection: a lane for its message, and a timer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::timer::Timer;
use crate::store::{Lane, LaneKey};

/// A lane and a timer, used by one request after another.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) key: LaneKey,
    pub(super) lane: Arc<Lane>,
    pub(super) timer: Timer,
}

impl Seat {
    pub(super) fn new(key: LaneKey, lane: Arc<Lane>) -> Self {
        Self { key, lane, timer: Timer::new() }
    }

    /// Waits for the outcome of the message in the lane. Returns false when there is none by `deadline`.
    pub(super) async fn reported(&mut self, deadline: Instant) -> bool {
        poll_fn(|context| {
            if self.lane.poll_front(context).is_ready() {
                return Poll::Ready(true);
            }
            self.timer.poll(deadline, context).map(|()| false)
        })
        .await
    }
}

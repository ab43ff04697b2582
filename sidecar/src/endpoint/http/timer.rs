//! A timer for deadlines that mostly move away: setting it costs nothing as long as it rings early enough.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// One timer for one deadline after another. It is only set when it would ring too late; what an earlier deadline set
/// is left, and set anew when it rings.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
}

impl Timer {
    pub(super) fn new() -> Self {
        // Further away than any deadline; the first one sets it.
        let armed = Instant::now() + Duration::from_secs(86_400);
        Self { sleep: Box::pin(tokio::time::sleep_until(armed.into())), armed }
    }

    /// Waits until `deadline`.
    pub(super) fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        if deadline < self.armed {
            self.arm(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if self.armed >= deadline {
                return Poll::Ready(());
            }
            self.arm(deadline);
        }
    }

    fn arm(&mut self, deadline: Instant) {
        self.armed = deadline;
        self.sleep.as_mut().reset(deadline.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_set_for_an_earlier_deadline_does_not_ring_for_the_next() {
        let mut timer = Timer::new();
        let start = tokio::time::Instant::now();
        let after = |seconds| start.into_std() + Duration::from_secs(seconds);
        assert!(std::future::poll_fn(|c| Poll::Ready(timer.poll(after(1), c))).await.is_pending());
        for seconds in [3, 4, 9] {
            std::future::poll_fn(|context| timer.poll(after(seconds), context)).await;
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
    }
}

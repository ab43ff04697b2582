//! What an HTTP/2 client may send unasked: its window, taken from the budget before the connection is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::{EndpointBudget, Reservation};

/// The smallest window of a connection; the protocol knows no smaller one (RFC 9113 §6.9.2).
const SMALL: u32 = 65_535;
/// As large as a fast link over some distance needs: 1 Gbit/s and 8 ms.
const LARGE: u32 = 1_048_576;
/// Frames that are being read and written.
const FRAMES: u64 = 32_768;

/// The windows of an endpoint's connections.
///
/// Together they take at most half of the endpoint's bytes, so that messages always have the other half; and a window
/// is large only while they take less than a quarter.
#[derive(Debug)]
pub(super) struct Windows {
    taken: AtomicU64,
    limit_bytes: u64,
    large: u32,
}

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    windows: Arc<Windows>,
    reservation: Reservation,
    bytes: u32,
}

impl Windows {
    pub(super) fn new(limit_bytes: u64, connection_bytes: u64) -> Arc<Self> {
        let large = u32::try_from(connection_bytes).unwrap_or(LARGE).clamp(SMALL, LARGE);
        Arc::new(Self { taken: AtomicU64::new(0), limit_bytes, large })
    }

    /// A window for a new connection, if there is room for one.
    pub(super) fn open(self: &Arc<Self>, budget: &Arc<EndpointBudget>) -> Option<Window> {
        let large = self.try_open(budget, self.large, self.limit_bytes / 4);
        large.or_else(|| self.try_open(budget, SMALL, self.limit_bytes / 2))
    }

    fn try_open(
        self: &Arc<Self>,
        budget: &Arc<EndpointBudget>,
        bytes: u32,
        share_bytes: u64,
    ) -> Option<Window> {
        let cost = u64::from(bytes) + FRAMES;
        let fits = self.taken.fetch_add(cost, Ordering::AcqRel) + cost <= share_bytes;
        match fits.then(|| budget.reserve(cost)).flatten() {
            Some(reservation) => Some(Window { windows: Arc::clone(self), reservation, bytes }),
            None => {
                self.taken.fetch_sub(cost, Ordering::AcqRel);
                None
            }
        }
    }
}

impl Window {
    /// Bytes of DATA that may come unasked, on the connection and on each stream.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.windows.taken.fetch_sub(self.reservation.bytes(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::PodBudget;

    #[test]
    fn windows_leave_half_of_the_budget_to_messages() {
        let limit = 8 << 20;
        let budget = EndpointBudget::new(PodBudget::new(limit), limit, 1);
        let windows = Windows::new(limit, 1 << 20);
        let open: Vec<_> = std::iter::from_fn(|| windows.open(&budget)).collect();
        assert_eq!(open[0].bytes(), LARGE);
        assert_eq!(open.iter().filter(|window| window.bytes() == LARGE).count(), 1);
        assert_eq!(open.last().map(Window::bytes), Some(SMALL));
        assert!(
            budget.used_bytes() <= limit / 2 && budget.used_bytes() > limit / 2 - (SMALL as u64 + FRAMES)
        );
        drop(open);
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(windows.open(&budget).map(|window| window.bytes()), Some(LARGE));
    }

    #[test]
    fn an_exhausted_budget_opens_no_window() {
        let budget = EndpointBudget::new(PodBudget::new(1 << 30), 1_000, 1);
        assert!(Windows::new(1 << 30, 1 << 20).open(&budget).is_none());
    }
}

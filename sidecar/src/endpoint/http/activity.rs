//! What a connection is doing, and how long it may go on like that.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the head of a request, from its first byte.
    pub head: Duration,
    /// Without progress in the body of a request.
    pub body: Duration,
    /// Without a request.
    pub idle: Duration,
    /// For reading anything of an answer.
    pub unread: Duration,
}

impl Default for Timeouts {
    /// 10 seconds for a head, 30 for progress in a body or an answer, 75 without a request.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            unread: Duration::from_secs(30),
        }
    }
}

/// Which patience has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// The head of a request is not complete.
    Head,
    /// No request.
    Idle,
    /// An answer is not read.
    Unread,
}

/// What a connection is doing. Times are milliseconds since it was opened, 0 for "not".
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Requests in progress.
    requests: AtomicU32,
    /// Since when there is none.
    quiet_since: AtomicU64,
    /// When the first byte after the last request came.
    head_since: AtomicU64,
    /// Since when the kernel takes no bytes.
    blocked_since: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            quiet_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn at(&self, millis: u64) -> Instant {
        self.opened + Duration::from_millis(millis.saturating_sub(1))
    }

    /// Bytes came.
    pub(super) fn heard(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A head was complete.
    pub(super) fn request_begins(&self) {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// A body was complete: what comes now is the next head.
    pub(super) fn body_ends(&self) {
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// A request is answered or given up.
    pub(super) fn request_ends(&self) {
        self.quiet_since.store(self.now(), Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::AcqRel);
    }

    /// The kernel took bytes, or did not.
    pub(super) fn wrote(&self, any: bool) {
        let blocked = self.blocked_since.load(Ordering::Relaxed) != 0;
        match (any, blocked) {
            (true, true) => self.blocked_since.store(0, Ordering::Relaxed),
            (false, false) => self.blocked_since.store(self.now(), Ordering::Relaxed),
            _ => {}
        }
    }

    /// Until when the client has time, and for what; none while it is our turn. `framed` connections (HTTP/2) mix
    /// heads with other frames, so only silence counts.
    pub(super) fn deadline(&self, timeouts: &Timeouts, framed: bool) -> Option<(Instant, Lapse)> {
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked != 0 {
            return Some((self.at(blocked) + timeouts.unread, Lapse::Unread));
        }
        if self.requests.load(Ordering::Acquire) > 0 {
            return None;
        }
        let quiet = self.quiet_since.load(Ordering::Relaxed);
        match self.head_since.load(Ordering::Relaxed) {
            head if head != 0 && !framed => Some((self.at(head.max(quiet)) + timeouts.head, Lapse::Head)),
            _ => Some((self.at(quiet) + timeouts.idle, Lapse::Idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lapse(activity: &Activity, framed: bool) -> Option<Lapse> {
        activity.deadline(&Timeouts::default(), framed).map(|(_, lapse)| lapse)
    }

    #[test]
    fn patience_follows_what_the_client_does() {
        let activity = Activity::new();
        assert_eq!(lapse(&activity, false), Some(Lapse::Idle));
        activity.heard();
        assert_eq!(lapse(&activity, false), Some(Lapse::Head));
        assert_eq!(lapse(&activity, true), Some(Lapse::Idle), "HTTP/2 frames are not all heads");
        activity.request_begins();
        assert_eq!(lapse(&activity, false), None, "the request has timers of its own");
        activity.heard();
        activity.body_ends();
        activity.wrote(false);
        assert_eq!(lapse(&activity, false), Some(Lapse::Unread));
        activity.wrote(true);
        activity.request_ends();
        assert_eq!(lapse(&activity, false), Some(Lapse::Idle), "the body's bytes are no head");
    }
}

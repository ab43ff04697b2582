//! Watching a round: how many messages are acknowledged when, and whether the books balance at every look.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use crate::load::Loads;
use crate::sidecar;
use crate::until::within;

/// How often goodput is looked at, and the books.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_AT_BOOKS: Duration = Duration::from_millis(500);
/// Over which time goodput is measured.
const WINDOW: Duration = Duration::from_millis(1_000);

/// What was seen so far.
#[derive(Default)]
pub(super) struct Watch {
    acknowledged: Mutex<Vec<(Instant, u64)>>,
    unbalanced: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Watch {
    /// Notes goodput until [`Watch::end`].
    pub(super) fn goodput(&self, loads: &Loads) {
        while !self.pause(LOOK) {
            self.acknowledged.lock().push((Instant::now(), loads.acknowledged()));
        }
    }

    /// Looks at the books of the edges with these admin ports until [`Watch::end`].
    pub(super) fn books(&self, admins: &[SocketAddr]) {
        while !self.pause(LOOK_AT_BOOKS) {
            for &admin in admins {
                let Some(answer) = sidecar::get(admin, "/ledger").filter(|answer| answer.status == 200)
                else {
                    continue;
                };
                let ledger: Value = serde_json::from_str(&answer.body).expect("a ledger");
                self.unbalanced.lock().extend(sidecar::unbalanced(&ledger));
            }
        }
    }

    fn pause(&self, time: Duration) -> bool {
        within(time, || self.over.load(Ordering::Relaxed).then_some(())).is_some()
    }

    /// Nothing more is looked at.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Where the books did not balance.
    pub(super) fn take_unbalanced(&self) -> Vec<String> {
        std::mem::take(&mut self.unbalanced.lock())
    }

    /// Acknowledgements a second between two times.
    pub(super) fn rate(&self, from: Instant, to: Instant) -> f64 {
        let samples = self.acknowledged.lock();
        let at = |time: Instant| samples.iter().rev().find(|(then, _)| *then <= time);
        match (at(from), at(to)) {
            (Some((from, before)), Some((to, after))) if to > from => {
                (after - before) as f64 / (*to - *from).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// Acknowledgements a second of late.
    pub(super) fn rate_now(&self) -> f64 {
        let now = Instant::now();
        self.rate(now.checked_sub(WINDOW).unwrap_or(now), now)
    }

    /// The lowest that goodput was since a time.
    pub(super) fn lowest_since(&self, since: Instant) -> f64 {
        let ends: Vec<_> = self
            .acknowledged
            .lock()
            .iter()
            .map(|(time, _)| *time)
            .filter(|time| *time > since + LOOK)
            .collect();
        let rates = ends.into_iter().map(|end| self.rate(end.checked_sub(WINDOW / 2).unwrap_or(end), end));
        rates.fold(f64::INFINITY, f64::min)
    }
}

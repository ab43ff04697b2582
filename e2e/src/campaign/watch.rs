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
pub(super) struct Watch {
    began: Instant,
    acknowledged: Mutex<Vec<(Instant, u64)>>,
    unbalanced: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Watch {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            acknowledged: Mutex::default(),
            unbalanced: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Notes goodput until [`Watch::end`].
    pub(super) fn goodput(&self, loads: &Loads) {
        while !self.pause(LOOK) {
            self.acknowledged.lock().push((Instant::now(), loads.acknowledged()));
        }
    }

    /// Looks at the books of the edges with these admin ports until [`Watch::end`].
    pub(super) fn books(&self, admins: &[SocketAddr]) {
        while !self.pause(LOOK_AT_BOOKS) {
            for (edge, &admin) in admins.iter().enumerate() {
                let Some(answer) = sidecar::get(admin, "/ledger").filter(|answer| answer.status == 200)
                else {
                    continue;
                };
                let ledger: Value = serde_json::from_str(&answer.body).expect("a ledger");
                let seconds = self.began.elapsed().as_secs_f64();
                let lines = sidecar::unbalanced(&ledger).into_iter();
                self.unbalanced
                    .lock()
                    .extend(lines.map(|line| format!("pod {edge} at {seconds:.3} s: {line}")));
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

    /// Acknowledgements a second between two times, or since the first look.
    pub(super) fn rate(&self, from: Instant, to: Instant) -> f64 {
        let samples = self.acknowledged.lock();
        let at = |time: Instant| samples.iter().rev().find(|(then, _)| *then <= time);
        match (at(from).or(samples.first()), at(to)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_from_before_the_first_look_counts_from_that() {
        let watch = Watch::new();
        let at = |millis| watch.began + Duration::from_millis(millis);
        *watch.acknowledged.lock() = (1..=20).map(|look| (at(look * 100), look * 10)).collect();
        assert_eq!(watch.rate(at(1_000), at(2_000)).round(), 100.0);
        assert_eq!(watch.rate(at(0), at(2_000)).round(), 100.0);
        assert_eq!(watch.rate(at(0), at(50)), 0.0);
        assert_eq!(watch.lowest_since(at(0)).round(), 100.0);
    }
}

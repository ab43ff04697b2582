//! Several loads at once.

use std::time::{Duration, Instant};

use super::Load;
use crate::checker::History;
use crate::until::{SOON, until};

/// Loads that run side by side, so that each protocol lives through the same trouble.
pub struct Loads(Vec<Load>);

impl Loads {
    /// Loads that were started.
    pub fn new(loads: impl IntoIterator<Item = Load>) -> Self {
        Self(loads.into_iter().collect())
    }

    /// Positive answers so far, of all.
    pub fn acknowledged(&self) -> u64 {
        self.0.iter().map(Load::acknowledged).sum()
    }

    /// Connections that the server ended or refused so far.
    pub fn closes(&self) -> u64 {
        self.0.iter().map(Load::closes).sum()
    }

    /// Attempts to connect that came to nothing so far.
    pub fn unreachable(&self) -> u64 {
        self.0.iter().map(Load::unreachable).sum()
    }

    /// Transient negative answers so far.
    pub fn transient(&self) -> u64 {
        self.0.iter().map(Load::transient).sum()
    }

    /// The longest that a positive answer took since the last call.
    pub fn take_longest(&self) -> Duration {
        self.0.iter().map(Load::take_longest).max().unwrap_or_default()
    }

    /// Waits until each of them has so many more positive answers.
    #[track_caller]
    pub fn wait_acknowledged(&self, more: u64) {
        let goals: Vec<_> = self.0.iter().map(|load| load.acknowledged() + more).collect();
        until(&format!("{more} more acknowledgements on each load"), SOON * 2, || {
            self.0.iter().zip(&goals).all(|(load, &goal)| load.acknowledged() >= goal).then_some(())
        });
    }

    /// Waits until no acknowledgement has come for `quiet`, and returns how many there are.
    #[track_caller]
    pub fn settled(&self, quiet: Duration) -> u64 {
        let mut before = (self.acknowledged(), Instant::now());
        until(&format!("no further acknowledgement for {quiet:?}"), SOON * 2, || {
            let now = self.acknowledged();
            if now != before.0 {
                before = (now, Instant::now());
            }
            (before.1.elapsed() > quiet).then_some(now)
        })
    }

    /// [`Load::finish`] of all.
    #[track_caller]
    pub fn finish(self, deadline: Duration) -> History {
        let mut history = History::default();
        for load in self.0 {
            history.merge(load.finish(deadline));
        }
        history
    }

    /// [`Load::abandon`] of all.
    pub fn abandon(self) -> History {
        let mut history = History::default();
        for load in self.0 {
            history.merge(load.abandon());
        }
        history
    }
}

impl std::ops::Index<usize> for Loads {
    type Output = Load;

    fn index(&self, index: usize) -> &Load {
        &self.0[index]
    }
}

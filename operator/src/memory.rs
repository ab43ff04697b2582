//! What the operator remembers of a pipeline between two reconciles. All of it may be lost: it only saves work, and
//! keeps times.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use penstock_crds::pipeline::{IngestPipelineStatus, TopicStatus};

use crate::finding::Finding;
use crate::topics::Key;

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. Nobody tells of a Secret that is mended, or of a Kafka that is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What is remembered of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The status that we wrote last, and when: the watch may not have told it yet.
    pub status: Option<(IngestPipelineStatus, Instant)>,
    /// Since when something outside the pipeline has been wrong.
    pub failing_since: Option<Instant>,
    /// How many reconciles in a row have failed.
    pub failures: u32,
    /// The last look at the topics that succeeded.
    pub topics: Option<Topics>,
}

/// A look at the topics.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The generation of the pipeline.
    pub generation: i64,
    /// How Kafka was reached, and with which versions of Secrets.
    pub access: Key,
    /// Topics lost to other pipelines at the time.
    pub lost: Vec<String>,
    /// When, for asking again.
    pub at: Instant,
    /// When, for people.
    pub time: Timestamp,
    /// What was found.
    pub ready: Finding,
    /// What was found of durability.
    pub durable: Finding,
    /// The topics.
    pub topics: Vec<TopicStatus>,
}

/// All pipelines, by uid.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Remembered>>);

impl Memory {
    /// What is remembered of a pipeline.
    #[must_use]
    pub fn of(&self, uid: &str) -> Remembered {
        self.0.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered of a pipeline.
    pub fn change<T>(&self, uid: &str, change: impl FnOnce(&mut Remembered) -> T) -> T {
        change(self.0.lock().entry(uid.to_owned()).or_default())
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// The pause before the next try after so many failures in a row, with `jitter` of 0 to 1 to keep pipelines that failed
/// together apart.
#[must_use]
pub fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled =
        FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE).mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    #[test]
    fn pauses_grow_to_twenty_seconds() {
        assert_eq!(pause(1, 0.5), Duration::from_secs(1));
        assert_eq!(pause(3, 0.5), Duration::from_secs(4));
        for failures in [10, 31, 32, 33, u32::MAX] {
            assert_eq!(pause(failures, 0.5), Duration::from_secs(20));
        }
        assert!(pause(1, 0.0) < pause(1, 1.0));
    }
}

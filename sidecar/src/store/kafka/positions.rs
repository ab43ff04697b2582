//! Where each partition's log has got to, as far as the reports tell: what is produced later is stored later. A report
//! that contradicts this comes from another log.

use std::collections::HashMap;
use std::time::Instant;

use super::native::Batch;

/// The last known position of each partition, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Positions(HashMap<(usize, i32), Last>);

#[derive(Clone, Copy, Debug)]
struct Last {
    offset: i64,
    produced: Instant,
}

/// What a report of success is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The batch is stored.
    Sound,
    /// Nobody can know whether the batch is stored.
    ///
    /// librdkafka takes a batch that failed for stored when a later one of the partition succeeds, because brokers
    /// refuse a gap in the sequence. But a broker that has nothing of this producer in the partition takes any
    /// sequence number as the first (KIP-360): there the gap is real, and the batch is lost.
    Unknown,
    /// What was produced later is stored before what was there.
    Rewound,
}

impl Positions {
    /// The topic is another one now, or not known to be the same.
    pub(super) fn forget(&mut self, topic: usize) {
        self.0.retain(|(of, _), _| *of != topic);
    }

    /// Weighs a report of success.
    pub(super) fn weigh(&mut self, batch: &Batch) -> Standing {
        if batch.implied {
            return Standing::Unknown;
        }
        let Some(offset) = batch.base_offset else { return Standing::Sound };
        let this = Last { offset, produced: batch.produced };
        let last = self.0.entry((batch.topic, batch.partition)).or_insert(this);
        if offset < last.offset {
            // A report of a former leader may overtake one of the new: then it was also produced before.
            return if this.produced > last.produced { Standing::Rewound } else { Standing::Sound };
        }
        *last = this;
        Standing::Sound
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn batch(base_offset: Option<i64>, millis: u64, start: Instant) -> Batch {
        let produced = start + Duration::from_millis(millis);
        Batch {
            topic: 0,
            partition: 1,
            produced,
            base_offset,
            implied: false,
            error: None,
            named: false,
            len: 1,
        }
    }

    #[test]
    fn what_is_produced_later_and_stored_before_is_in_another_log() {
        let (mut positions, start) = (Positions::default(), Instant::now());
        assert_eq!(positions.weigh(&batch(Some(100), 10, start)), Standing::Sound);
        assert_eq!(positions.weigh(&batch(Some(90), 5, start)), Standing::Sound, "only its report is late");
        assert_eq!(positions.weigh(&batch(Some(0), 20, start)), Standing::Rewound);
        positions.forget(0);
        assert_eq!(positions.weigh(&batch(Some(0), 20, start)), Standing::Sound);
        assert_eq!(positions.weigh(&batch(Some(1), 30, start)), Standing::Sound);
    }

    #[test]
    fn a_duplicate_is_sound_and_a_conclusion_is_not() {
        let start = Instant::now();
        let duplicate = batch(None, 0, start);
        assert_eq!(Positions::default().weigh(&duplicate), Standing::Sound);
        let concluded = Batch { implied: true, ..duplicate };
        assert_eq!(Positions::default().weigh(&concluded), Standing::Unknown);
    }
}

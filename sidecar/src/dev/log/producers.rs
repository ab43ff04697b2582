//! Idempotent producers (KIP-98): which batch a partition expects next from each, and which ones it has already.
//!
//! Stricter than Kafka in one point: a producer that the partition does not know begins at 0. State never expires
//! here, so anything else means that an earlier batch was not stored, and this one must wait for it.

use std::collections::{HashMap, VecDeque};

use super::batch::Header;

/// Batches that are remembered per producer: as many as it may have in flight.
const REMEMBERED: usize = 5;

/// All producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers(HashMap<i64, Producer>);

#[derive(Debug)]
struct Producer {
    epoch: i16,
    last: VecDeque<Stored>,
}

#[derive(Debug)]
struct Stored {
    first_sequence: i32,
    last_sequence: i32,
    offset: i64,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Append,
    /// It is there already, at this offset.
    Duplicate(i64),
    /// Something that goes before it is missing, or it is older than what is remembered.
    OutOfOrder,
    /// A newer incarnation of the producer has taken over.
    StaleEpoch,
}

impl Producers {
    /// Judges a batch of an idempotent producer.
    pub(super) fn judge(&self, batch: &Header) -> Verdict {
        let first = batch.base_sequence;
        let Some(producer) = self.0.get(&batch.producer_id) else {
            return if first == 0 { Verdict::Append } else { Verdict::OutOfOrder };
        };
        if batch.producer_epoch < producer.epoch {
            return Verdict::StaleEpoch;
        }
        if batch.producer_epoch > producer.epoch {
            return if first == 0 { Verdict::Append } else { Verdict::OutOfOrder };
        }
        let last = last_sequence(batch);
        let known = producer
            .last
            .iter()
            .find(|stored| stored.first_sequence == first && stored.last_sequence == last);
        if let Some(stored) = known {
            return Verdict::Duplicate(stored.offset);
        }
        let expected = producer.last.back().map_or(0, |stored| next(stored.last_sequence));
        if first == expected { Verdict::Append } else { Verdict::OutOfOrder }
    }

    /// Remembers a batch that was stored.
    pub(super) fn stored(&mut self, batch: &Header) {
        let producer = self
            .0
            .entry(batch.producer_id)
            .or_insert_with(|| Producer { epoch: batch.producer_epoch, last: VecDeque::new() });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.last.clear();
        }
        if producer.last.len() == REMEMBERED {
            producer.last.pop_front();
        }
        producer.last.push_back(Stored {
            first_sequence: batch.base_sequence,
            last_sequence: last_sequence(batch),
            offset: batch.base_offset,
        });
    }
}

/// Sequence numbers go from 0 to `i32::MAX` and begin again at 0.
fn next(sequence: i32) -> i32 {
    sequence.wrapping_add(1) & i32::MAX
}

fn last_sequence(batch: &Header) -> i32 {
    batch.base_sequence.wrapping_add(batch.records() - 1) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::super::batch::made_for_a_test;
    use super::*;

    fn batch(epoch: i16, sequence: i32, records: i32) -> Header {
        Header::read(&made_for_a_test(Some((7, epoch, sequence)), records, 0, b"")).unwrap()
    }

    #[test]
    fn a_batch_is_appended_once_and_in_order() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(&batch(0, 3, 2)), Verdict::OutOfOrder, "an unknown producer begins at 0");
        for sequence in [0, 3, 6] {
            let mut next = batch(0, sequence, 3);
            next.base_offset = 100 + i64::from(sequence);
            assert_eq!(producers.judge(&next), Verdict::Append);
            producers.stored(&next);
        }
        assert_eq!(producers.judge(&batch(0, 3, 3)), Verdict::Duplicate(103));
        assert_eq!(producers.judge(&batch(0, 3, 2)), Verdict::OutOfOrder, "not the batch that was stored");
        assert_eq!(producers.judge(&batch(0, 12, 3)), Verdict::OutOfOrder, "a gap");
        assert_eq!(producers.judge(&batch(0, 9, 3)), Verdict::Append);
    }

    #[test]
    fn a_new_epoch_begins_at_0_and_shuts_the_old_one_out() {
        let mut producers = Producers::default();
        producers.stored(&batch(0, 0, 5));
        assert_eq!(producers.judge(&batch(1, 5, 1)), Verdict::OutOfOrder);
        assert_eq!(producers.judge(&batch(1, 0, 1)), Verdict::Append);
        producers.stored(&batch(1, 0, 1));
        assert_eq!(producers.judge(&batch(0, 5, 1)), Verdict::StaleEpoch);
        assert_eq!(producers.judge(&batch(1, 1, 1)), Verdict::Append);
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        producers.stored(&batch(0, i32::MAX - 1, 2));
        assert_eq!(producers.judge(&batch(0, 0, 1)), Verdict::Append);
        producers.stored(&batch(0, i32::MAX, 3));
        assert_eq!(producers.judge(&batch(0, 2, 1)), Verdict::Append);
    }
}

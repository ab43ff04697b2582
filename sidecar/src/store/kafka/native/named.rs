//! Which records of a batch a broker named (KIP-467), as far as librdkafka lets on.
//!
//! librdkafka gives the batch-mates of a named record an error of their own, `_INVALID_DIFFERENT_RECORD`; but when the
//! broker named exactly one record, it then overwrites all errors of the batch with `INVALID_RECORD`
//! (`rd_kafka_interceptors_on_acknowledgement_queue`, librdkafka 2.12.1). What is left is the address of each message's
//! error text: a named record has one of its own, batch-mates share one, and so do all messages of a batch that the
//! broker refused as such. The texts are never read: those of named records are freed before the report comes.

use rdkafka::error::RDKafkaErrorCode as Code;

/// Notes of one batch whose error is `INVALID_RECORD`. With any other batch error nothing is noted: librdkafka gives
/// `INVALID_RECORD` also to each of several records whose timestamp, which is ours, is out of range.
#[derive(Debug, Default)]
pub(super) struct Names {
    notes: Vec<(Option<Code>, usize)>,
    /// Where the text for batch-mates is, once that is known.
    mates_text: Option<usize>,
}

impl Names {
    pub(super) fn note(&mut self, error: Option<Code>, text: usize) {
        self.notes.push((error, text));
    }

    /// For each message whether the broker named it for sure.
    pub(super) fn judge(&mut self) -> impl Iterator<Item = bool> {
        let told = self.notes.iter().find(|(error, _)| *error == Some(Code::InvalidDifferentRecord));
        self.mates_text =
            told.map(|(_, text)| *text).or_else(|| self.shared_by_all_but_one()).or(self.mates_text);
        let (alone, some) = (self.notes.len() == 1, self.are_some_named());
        let sure = alone || (some && (self.notes.len() > 2 || self.mates_text.is_some()));
        let mates_text = self.mates_text;
        self.notes.iter().map(move |(error, text)| {
            sure && *error == Some(Code::InvalidRecord) && (alone || Some(*text) != mates_text)
        })
    }

    /// Ends the batch. Returns whether records were named, even if nobody can tell which.
    pub(super) fn end(&mut self) -> bool {
        let named = self.notes.len() == 1 || self.are_some_named();
        self.notes.clear();
        named
    }

    fn are_some_named(&self) -> bool {
        self.notes.iter().any(|(_, text)| self.notes.first().is_some_and(|(_, first)| first != text))
    }

    /// The text of a batch of three or more in which one message has another.
    fn shared_by_all_but_one(&self) -> Option<usize> {
        let &[(_, first), (_, second), (_, third), ..] = self.notes.as_slice() else { return None };
        let shared = if first == second || first == third { first } else { second };
        (self.notes.iter().filter(|(_, text)| *text != shared).count() == 1).then_some(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVALID: Code = Code::InvalidRecord;
    const MATE: Code = Code::InvalidDifferentRecord;

    fn judge(names: &mut Names, batch: &[(Code, usize)]) -> (Vec<bool>, bool) {
        batch.iter().for_each(|(error, text)| names.note(Some(*error), *text));
        let named = names.judge().collect();
        (named, names.end())
    }

    #[test]
    fn batch_mates_are_told_from_named_records() {
        let mut names = Names::default();
        assert_eq!(
            judge(&mut names, &[(INVALID, 1), (MATE, 9), (INVALID, 2)]),
            (vec![true, false, true], true)
        );
        assert_eq!(judge(&mut names, &[(INVALID, 9), (INVALID, 1)]), (vec![false, true], true));
        assert_eq!(judge(&mut names, &[(INVALID, 2), (INVALID, 1)]), (vec![true, true], true));
    }

    #[test]
    fn one_among_several_is_told_by_its_text() {
        let mut names = Names::default();
        let batch = [(INVALID, 9), (INVALID, 1), (INVALID, 9), (INVALID, 9)];
        assert_eq!(judge(&mut names, &batch), (vec![false, true, false, false], true));
        assert_eq!(
            judge(&mut Names::default(), &[(INVALID, 1), (INVALID, 9), (INVALID, 9)]).0,
            [true, false, false]
        );
        assert_eq!(judge(&mut names, &[(INVALID, 1), (INVALID, 9)]), (vec![true, false], true));
    }

    #[test]
    fn of_two_nobody_is_refused_before_it_is_known_which() {
        assert_eq!(judge(&mut Names::default(), &[(INVALID, 1), (INVALID, 9)]), (vec![false, false], true));
    }

    #[test]
    fn a_record_alone_in_its_batch_is_named() {
        assert_eq!(judge(&mut Names::default(), &[(INVALID, 0)]), (vec![true], true));
    }

    #[test]
    fn a_verdict_on_the_batch_names_nobody() {
        for text in [0, 5] {
            let batch = [(INVALID, text), (INVALID, text), (INVALID, text)];
            assert_eq!(judge(&mut Names::default(), &batch), (vec![false; 3], false));
        }
    }

    #[test]
    fn all_named_one_by_one_are_all_refused() {
        let batch = [(INVALID, 1), (INVALID, 2), (INVALID, 3)];
        assert_eq!(judge(&mut Names::default(), &batch), (vec![true; 3], true));
    }
}

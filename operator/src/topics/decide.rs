//! From what is declared and what is there to the steps between them. Pure.

use penstock_crds::pipeline::{TopicSpec, TopicStatus};

use super::durable;
use super::judge::{Outcome, judge};
use super::seen::Seen;
use super::step::{Failures, Step};
use super::wanted::Wanted;
use crate::finding::Finding;
use crate::reason::{Reason, Remedy};

/// What is to be done and what is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to carry out.
    pub steps: Vec<Step>,
    /// `status.topics`, in the order of the spec.
    pub topics: Vec<TopicStatus>,
    /// `topics` holds an intent to create that is not in the stored status: it must be there before the steps are
    /// carried out. Else the stored status may stay until they are.
    pub must_record: bool,
    /// For `TopicsReady`.
    pub ready: Finding,
    /// For `Durable`.
    pub durable: Finding,
}

/// Judges each topic by itself, so that one that fails keeps no other from being handled. `failures` are of the steps that
/// have just been carried out.
#[must_use]
pub fn decide(wanted: &Wanted<'_>, seen: &Seen, failures: &Failures) -> Decision {
    let mut steps = Vec::new();
    let mut topics = Vec::with_capacity(wanted.topics.len());
    let mut outcomes = Vec::with_capacity(wanted.topics.len());
    let mut must_record = false;
    for index in 0..wanted.topics.len() {
        let Some(verdict) = judge(index, wanted, seen, failures) else { continue };
        must_record |= verdict.intends && !is_recorded(wanted, &verdict.status);
        steps.extend(verdict.steps);
        topics.push(verdict.status);
        outcomes.push(verdict.outcome);
    }
    let durable = durable::judge(wanted.topics.iter().map(TopicSpec::kafka_name), seen);
    Decision { steps, topics, must_record, ready: ready(&outcomes), durable }
}

fn is_recorded(wanted: &Wanted<'_>, status: &TopicStatus) -> bool {
    wanted.recorded.iter().any(|record| {
        record.name == status.name && record.topic_name == status.topic_name && record.managed == Some(true)
    })
}

fn ready(outcomes: &[Outcome]) -> Finding {
    let wrong: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Wrong { reason, message } => Some((*reason, message)),
            Outcome::AsDeclared | Outcome::Waiting { .. } => None,
        })
        .collect();
    let worst = wrong.iter().find(|(reason, _)| reason.remedy() == Remedy::Spec).or(wrong.first());
    if let Some((reason, message)) = worst {
        let more = match wrong.len() {
            1 => String::new(),
            2 => " (and one more topic)".to_owned(),
            count => format!(" (and {} more topics)", count - 1),
        };
        return Finding::fails(*reason, format!("{message}{more}"));
    }
    let mut waiting = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Waiting { reason, what } => Some((*reason, what.as_str())),
        Outcome::AsDeclared | Outcome::Wrong { .. } => None,
    });
    if let Some((reason, first)) = waiting.next() {
        let all: Vec<_> = std::iter::once(first).chain(waiting.map(|(_, what)| what)).collect();
        return Finding::fails(reason, all.join("; "));
    }
    Finding::holds(Reason::AsDeclared, "the topics are as declared")
}

#[cfg(test)]
mod tests;

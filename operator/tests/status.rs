//! From what was found to conditions: kstatus to the letter, times that move on a change only.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use penstock_crds::pipeline::IngestPipelineStatus;
use penstock_operator::finding::Finding;
use penstock_operator::reason::{Reason, Remedy};
use penstock_operator::status::{Found, STALLED_AFTER, condition, next, paused, ready};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn served() -> Found {
    Found {
        topics_ready: Some(Finding::holds(Reason::AsDeclared, "as declared")),
        edge_available: Some(Finding::holds(Reason::Available, "available")),
        durable: Some(Finding::fails(Reason::SingleReplica, "one broker")),
        ..Found::nothing("p")
    }
}

fn failing(reason: Reason) -> Found {
    Found { obstacle: Some(Finding::fails(reason, "it is so")), ..served() }
}

fn of<'s>(status: &'s IngestPipelineStatus, kind: &str) -> Option<&'s Condition> {
    status.conditions.iter().flatten().find(|known| known.type_ == kind)
}

fn short(status: &IngestPipelineStatus, kind: &str) -> Option<String> {
    of(status, kind).map(|known| format!("{}/{}", known.status, known.reason))
}

#[test]
fn a_served_pipeline_is_ready_and_neither_reconciling_nor_stalled() {
    let status = next(&IngestPipelineStatus::default(), 3, &served(), Duration::ZERO, at(0));
    assert_eq!(short(&status, condition::READY).as_deref(), Some("True/Available"));
    assert_eq!(short(&status, condition::RECONCILING), None);
    assert_eq!(short(&status, condition::STALLED), None);
    assert_eq!(
        short(&status, condition::DURABLE).as_deref(),
        Some("False/SingleReplica"),
        "and decides on nothing"
    );
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().flatten().all(|known| known.observed_generation == Some(3)));
}

#[test]
fn only_one_of_reconciling_and_stalled_is_there_while_it_is_not_ready() {
    for reason in Reason::ALL.iter().filter(|reason| reason.remedy() != Remedy::None) {
        for failing_for in [Duration::ZERO, STALLED_AFTER - Duration::from_secs(1), STALLED_AFTER] {
            let status = next(&IngestPipelineStatus::default(), 1, &failing(*reason), failing_for, at(0));
            let stalled = match reason.remedy() {
                Remedy::Spec => true,
                Remedy::Outside => failing_for >= STALLED_AFTER,
                _ => false,
            };
            let what = format!("{reason} for {failing_for:?}");
            assert_eq!(of(&status, condition::STALLED).is_some(), stalled, "{what}");
            assert_eq!(of(&status, condition::RECONCILING).is_some(), !stalled, "{what}");
            assert_eq!(short(&status, condition::READY), Some(format!("False/{reason}")), "{what}");
        }
    }
}

#[test]
fn times_move_when_the_status_of_a_condition_does() {
    let before =
        next(&IngestPipelineStatus::default(), 1, &failing(Reason::RollingOut), Duration::ZERO, at(0));
    let same = next(&before, 1, &failing(Reason::RollingOut), Duration::ZERO, at(60));
    assert_eq!(before, same, "a second look changes nothing");
    let other = next(&before, 1, &failing(Reason::KafkaUnreachable), Duration::ZERO, at(60));
    assert_eq!(of(&other, condition::READY).unwrap().last_transition_time, Time(at(0)), "still False");
    let served = next(&other, 1, &served(), Duration::ZERO, at(120));
    assert_eq!(of(&served, condition::READY).unwrap().last_transition_time, Time(at(120)));
}

#[test]
fn what_only_a_person_can_mend_is_told_first() {
    let found = Found {
        topics_ready: Some(Finding::fails(Reason::UnsupportedTopicChange, "fewer partitions")),
        edge_available: Some(Finding::fails(Reason::RollingOut, "on its way")),
        ..served()
    };
    assert_eq!(ready(&found).reason, Reason::UnsupportedTopicChange);
    let required = Found { require_durable: true, ..served() };
    let verdict = ready(&required);
    assert_eq!(verdict.reason, Reason::NotDurable);
    assert!(verdict.message.contains("one broker"), "{}", verdict.message);
}

#[test]
fn conditions_of_others_stay_and_what_was_not_looked_at_is_kept() {
    let mut before = next(&IngestPipelineStatus::default(), 1, &served(), Duration::ZERO, at(0));
    let theirs = Condition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: "ByThem".to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(at(0)),
    };
    before.conditions.as_mut().unwrap().push(theirs.clone());
    let missing = Found {
        obstacle: Some(Finding::fails(Reason::ReferenceNotFound, "no Secret")),
        ..Found::nothing("p")
    };
    let after = next(&before, 2, &missing, Duration::ZERO, at(60));
    assert_eq!(of(&after, "Approved"), Some(&theirs));
    assert_eq!(
        of(&after, condition::TOPICS_READY),
        of(&before, condition::TOPICS_READY),
        "of generation 1, as it was"
    );
    assert_eq!(short(&after, condition::READY).as_deref(), Some("False/ReferenceNotFound"));
}

#[test]
fn a_pause_adds_one_condition_and_moves_nothing() {
    let before = next(&IngestPipelineStatus::default(), 1, &served(), Duration::ZERO, at(0));
    let held = paused(&before, 2, at(60));
    assert_eq!(held.observed_generation, Some(1), "the new generation is not acted upon");
    assert_eq!(of(&held, condition::READY), of(&before, condition::READY));
    assert_eq!(short(&held, condition::PAUSED).as_deref(), Some("True/Paused"));
    assert_eq!(paused(&held, 2, at(90)), held);
    let on = next(&held, 2, &served(), Duration::ZERO, at(120));
    assert_eq!(of(&on, condition::PAUSED), None);
}

//! The checker finds each violation in a history made for it, and none in a good one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Disturbance, History, Late, Message, Outcome, Receipt, Verdict, check};
use crate::kafka::Record;

const TOPIC: &str = "t";

fn message(sequence: u64, outcome: Outcome) -> Message {
    let payload = format!("{}padding", Message::identity("x", 1, sequence)).into_bytes();
    Message {
        client: 1,
        key: Some("k".into()),
        sequence,
        payload,
        sends: 1,
        sent: None,
        answered: None,
        once: false,
        outcome,
    }
}

fn acknowledged(sequence: u64) -> Message {
    message(sequence, Outcome::Acknowledged(None))
}

fn with_receipt(sequence: u64, partition: i32, offset: Option<i64>, id: &str) -> Message {
    let receipt = Receipt { id: id.into(), topic: TOPIC.into(), partition, offset };
    message(sequence, Outcome::Acknowledged(Some(receipt)))
}

fn record(sequence: u64, offset: i64) -> Record {
    Record {
        topic: Arc::from(TOPIC),
        partition: 0,
        offset,
        key: Some(b"k".to_vec()),
        payload: message(sequence, Outcome::Open).payload,
        headers: vec![("ce_id".into(), format!("id-{sequence}").into_bytes())],
        timestamp: 0,
    }
}

fn judge(messages: Vec<Message>, records: &[Record]) -> Verdict {
    check(&History { messages, ..History::default() }, records)
}

/// The only violation found is this one, so often.
#[track_caller]
fn assert_only(verdict: &Verdict, name: &str, count: usize) {
    let found: Vec<_> = verdict.violations().iter().map(|(name, lines)| (*name, lines.len())).collect();
    assert_eq!(found, [(name, count)], "{verdict}");
}

#[test]
fn a_good_history_has_no_violation() {
    let messages = vec![
        acknowledged(0),
        with_receipt(1, 0, Some(1), "id-1"),
        with_receipt(2, 0, None, "id-2"),
        message(3, Outcome::Open),
        message(4, Outcome::Refused("0x99".into())),
        message(5, Outcome::Open),
    ];
    let verdict = judge(messages, &[record(0, 0), record(1, 1), record(2, 2), record(3, 3)]);
    verdict.assert_kept();
    assert_eq!((verdict.sent, verdict.acknowledged, verdict.stored), (6, 3, 4));
}

#[test]
fn an_acknowledged_message_that_is_not_stored_is_lost() {
    let verdict = judge(vec![acknowledged(0), acknowledged(1)], &[record(0, 0)]);
    assert_only(&verdict, "lost", 1);
    assert!(verdict.lost[0].starts_with("x:1:1 "), "{verdict}");
}

#[test]
fn a_record_that_nobody_sent_is_foreign() {
    assert_only(&judge(vec![acknowledged(0)], &[record(0, 0), record(9, 1)]), "stored but never sent", 1);
}

#[test]
fn a_record_with_a_changed_payload_is_foreign() {
    let mut changed = record(0, 0);
    changed.payload.push(b'!');
    assert_only(&judge(vec![acknowledged(0)], &[changed]), "stored but never sent", 1);
}

#[test]
fn a_record_under_another_key_is_foreign() {
    let mut changed = record(0, 0);
    changed.key = None;
    assert_only(&judge(vec![acknowledged(0)], &[changed]), "stored but never sent", 1);
}

#[test]
fn a_refused_message_must_not_be_stored() {
    let messages = vec![acknowledged(0), message(1, Outcome::Refused("400".into()))];
    assert_only(&judge(messages, &[record(0, 0), record(1, 1)]), "refused yet stored", 1);
}

#[test]
fn first_copies_follow_the_order_of_sending() {
    let messages = vec![acknowledged(0), acknowledged(1), acknowledged(2)];
    let verdict = judge(messages, &[record(0, 0), record(2, 1), record(1, 2)]);
    assert_only(&verdict, "out of order", 1);
}

#[test]
fn a_gap_that_was_never_acknowledged_is_no_disorder() {
    let messages = vec![acknowledged(0), message(1, Outcome::Open), acknowledged(2)];
    judge(messages, &[record(0, 0), record(2, 1)]).assert_kept();
}

#[test]
fn later_copies_of_resent_messages_are_counted_apart() {
    let mut messages = vec![acknowledged(0), acknowledged(1), acknowledged(2)];
    messages[0].sends = 2;
    messages[1].sends = 2;
    let records = [record(0, 0), record(1, 1), record(0, 2), record(2, 3), record(1, 4)];
    let verdict = judge(messages, &records);
    verdict.assert_kept();
    assert_eq!(verdict.duplicates, 2);
}

/// A message of QoS 2, sent twice, and its first copy.
fn once(sequence: u64) -> Message {
    Message { once: true, sends: 2, ..acknowledged(sequence) }
}

#[test]
fn copies_under_the_id_of_the_first_are_counted() {
    let verdict = judge(vec![once(0), acknowledged(1)], &[record(0, 0), record(1, 1), record(0, 2)]);
    verdict.assert_kept();
    assert_eq!((verdict.duplicates, verdict.duplicates_under_one_id), (1, 1));
}

#[test]
fn a_message_that_is_stored_once_must_not_have_two_ids() {
    let mut copy = record(0, 1);
    copy.headers = vec![("ce_id".into(), b"another".to_vec())];
    let verdict = judge(vec![once(0)], &[record(0, 0), copy.clone()]);
    assert_only(&verdict, "stored under two ids", 1);
    verdict.allow_two_ids().assert_kept();
    // At QoS 1, or when the session was forgotten, nothing else can be.
    let again = Message { once: false, ..once(0) };
    let verdict = judge(vec![again], &[record(0, 0), copy]);
    verdict.assert_kept();
    assert_eq!((verdict.duplicates, verdict.duplicates_under_one_id), (1, 0));
}

#[test]
fn one_id_must_not_stand_for_two_messages() {
    let mut other = record(1, 1);
    other.headers = record(0, 0).headers;
    assert_only(
        &judge(vec![acknowledged(0), acknowledged(1)], &[record(0, 0), other]),
        "two messages under one id",
        1,
    );
}

#[test]
fn a_forgotten_session_is_a_violation_unless_the_test_took_it() {
    let history = History {
        messages: vec![acknowledged(0)],
        forgotten_sessions: vec!["client 1".into()],
        ..History::default()
    };
    let verdict = check(&history, &[record(0, 0)]);
    assert_only(&verdict, "session forgotten", 1);
    verdict.allow_forgotten_sessions().assert_kept();
}

#[test]
fn more_copies_than_sends_are_our_doing() {
    let again = record(0, 1);
    let verdict = judge(vec![acknowledged(0)], &[record(0, 0), again.clone()]);
    assert_only(&verdict, "stored again under its id", 1);
    verdict.allow_repeats().assert_kept();
    let anew = Record { headers: vec![("ce_id".into(), b"another".to_vec())], ..again };
    let verdict = judge(vec![acknowledged(0)], &[record(0, 0), anew]);
    assert_only(&verdict, "stored more often than sent", 1);
    assert!(!verdict.allow_repeats().violations().is_empty());
}

#[test]
fn one_key_in_two_partitions_has_no_order() {
    let mut elsewhere = record(1, 0);
    elsewhere.partition = 1;
    let verdict = judge(vec![acknowledged(0), acknowledged(1)], &[record(0, 0), elsewhere]);
    assert_only(&verdict, "out of order", 1);
}

#[test]
fn different_keys_have_no_common_order() {
    let mut messages = vec![acknowledged(0), acknowledged(1)];
    messages[0].key = Some("other".into());
    let mut first = record(0, 1);
    first.key = Some(b"other".to_vec());
    judge(messages, &[record(1, 0), first]).assert_kept();
}

#[test]
fn a_receipt_must_name_the_place_of_its_message() {
    for wrong in [
        with_receipt(0, 0, Some(1), "id-0"),
        with_receipt(0, 1, Some(0), "id-0"),
        with_receipt(0, 1, None, "id-0"),
        with_receipt(0, 0, Some(0), "id-9"),
    ] {
        assert_only(&judge(vec![wrong, acknowledged(1)], &[record(0, 0), record(1, 1)]), "wrong receipt", 1);
    }
}

#[test]
fn a_receipt_may_name_a_later_copy() {
    let mut resent = with_receipt(0, 0, Some(1), "id-0");
    resent.sends = 2;
    judge(vec![resent], &[record(0, 0), record(0, 1)]).assert_kept();
}

#[test]
#[should_panic(expected = "nothing was proved")]
fn a_history_without_acknowledgements_proves_nothing() {
    judge(vec![message(0, Outcome::Open)], &[]).assert_kept();
}

#[test]
fn what_the_generator_saw_is_part_of_the_verdict() {
    let history = History {
        messages: vec![acknowledged(0)],
        irregular: vec!["PUBACK 2 before 1".into()],
        ..History::default()
    };
    assert_only(&check(&history, &[record(0, 0)]), "irregular", 1);
}

/// A history of one message that is lost: sent after a second by way of one pod, answered after three by way of another.
fn lost_on_the_way(began: Instant, pods: [usize; 2]) -> History {
    let at = |seconds| began + Duration::from_secs(seconds);
    let mut history = History { began: Some(began), ..History::default() };
    history.connections.push(Some(pods[0]));
    let sent = history.moment(at(1));
    history.connections.extend([None, Some(pods[1])]);
    let answered = history.moment(at(3));
    history.messages.push(Message { sent, answered, sends: 3, ..acknowledged(0) });
    history.late.push(Late { message: 0, sent: at(2), took: Duration::from_secs(1) });
    history
}

#[test]
fn a_violation_says_when_and_on_which_pods_and_under_which_faults() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let mut history = lost_on_the_way(began, [7, 8]);
    // What was noted by others first does not change what a message says of itself.
    let mut before = lost_on_the_way(began, [4, 5]);
    before.messages[0].payload = b"x:2:0 ".to_vec();
    before.merge(history);
    history = before;
    let disturbance =
        |what: &str, from, to| Disturbance { what: what.to_owned(), from: at(from), to: at(to) };
    history.disturbances = vec![
        disturbance("[Earlier]", 0, 0),
        disturbance("[First]", 0, 2),
        disturbance("[Second]", 2, 9),
        disturbance("[Later]", 4, 9),
    ];
    let verdict = check(&history, &[]);
    let told = "x:1:0 (sent 3 times, Acknowledged(None)), sent at 1.000 s, answered at 3.000 s, on pod 7, then ?, then \
                8, under [First], [Second]";
    assert_eq!(verdict.lost[1], told);
    assert_eq!(verdict.late[1], format!("{told}: 1s after it was sent for the last time"));
    assert!(verdict.lost[0].contains("on pod 4, then ?, then 5, under"), "{verdict}");
}

#[test]
fn a_message_takes_eight_bytes_for_each_time_and_connection() {
    assert_eq!(size_of::<Option<super::Moment>>(), 8);
}

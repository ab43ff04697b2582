//! Wills that a session store keeps: published when due, by whichever pod lives, under one id, and not if their clients came
//! back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::Redis;
use penstock_e2e::sessions::{EXPIRY, Owner, Pod};
use penstock_e2e::until::{SOON, START, throughout, until};
use penstock_sidecar::session::store::{Departure, Farewell, KeptWill};

const SECOND: Duration = Duration::from_secs(1);

fn pod(redis: &Redis, name: &str) -> Pod {
    let pod = Pod::start(redis, name);
    until("the pod is connected to Redis", START, || pod.store().traffic().connected.then_some(()));
    pod
}

fn will(id: &str, delay: Duration, grace: Duration) -> KeptWill {
    KeptWill { id: id.into(), delay, grace, message: id.as_bytes().into() }
}

#[track_caller]
fn connect(pod: &Pod, client_id: &str, clean: bool, will: &KeptWill) -> Owner {
    pod.connect_with(client_id, "", clean, Some(will)).expect("a session")
}

fn lost(will: &KeptWill) -> Farewell {
    Farewell::after(Departure::Lost, will.delay, will.grace, EXPIRY)
}

fn ids(pod: &Pod) -> Vec<String> {
    pod.published().into_iter().map(|(id, _)| id).collect()
}

fn keys(redis: &Redis) -> usize {
    redis.server(0).cli(&["KEYS", "*:w:*"]).lines().filter(|key| !key.is_empty()).count()
}

#[test]
fn a_will_is_published_after_its_delay_until_it_is_persisted_and_then_no_more() {
    let redis = Redis::standalone().start();
    let (a, b) = (pod(&redis, "a"), pod(&redis, "b"));
    let last = will("will-1", 2 * SECOND, Duration::ZERO);
    let owner = connect(&a, "device", false, &last);
    for pod in [&a, &b] {
        pod.persist_wills(false);
    }
    a.leave(&owner, true, lost(&last)).expect("its owner");
    throughout("the Will waits", SECOND, || ids(&a).is_empty() && ids(&b).is_empty());
    until("it is published", SOON, || (ids(&a).len() + ids(&b).len() > 0).then_some(()));
    assert_eq!(keys(&redis), 1, "it is kept until it is persisted");
    for pod in [&a, &b] {
        pod.persist_wills(true);
    }
    // The pod that had it holds it for a while.
    redis.server(0).cli(&["ZADD", "penstock:{e2e/telemetry/0}:wills", "0", "device"]);
    until("it is removed", SOON, || (keys(&redis) == 0).then_some(()));
    let all: Vec<_> = [&a, &b].into_iter().flat_map(|pod| pod.published()).collect();
    assert!(
        all.len() >= 2 && all.iter().all(|(id, message)| id == "will-1" && message == b"will-1"),
        "{all:?}"
    );
    let published = all.len();
    throughout("it is not published again", 3 * SECOND, || ids(&a).len() + ids(&b).len() == published);
}

#[test]
fn a_client_that_comes_back_or_says_goodbye_has_no_will_published() {
    let redis = Redis::standalone().start();
    let a = pod(&redis, "a");
    let last = will("back", 2 * SECOND, Duration::ZERO);
    let owner = connect(&a, "device", false, &last);
    a.leave(&owner, true, lost(&last)).expect("its owner");
    a.connect("device").expect("its session");
    let owner = connect(&a, "polite", false, &will("goodbye", Duration::ZERO, Duration::ZERO));
    a.leave(&owner, true, Farewell::after(Departure::Said, SECOND, SECOND, EXPIRY)).expect("its owner");
    assert_eq!(keys(&redis), 0);
    throughout("none is published", 4 * SECOND, || ids(&a).is_empty());
}

#[test]
fn a_will_that_is_due_is_published_although_its_client_comes_back_at_once() {
    let redis = Redis::standalone().start();
    let a = pod(&redis, "a");
    let names: Vec<_> = (0..5).map(|number| format!("due-{number}")).collect();
    for name in &names {
        let due = will(name, Duration::ZERO, Duration::ZERO);
        let owner = connect(&a, name, false, &due);
        a.leave(&owner, true, lost(&due)).expect("its owner");
        a.connect(name).expect("its session");
    }
    until("all are published", SOON, || (ids(&a).len() >= names.len()).then_some(()));
    assert_eq!(ids(&a), names);
    until("none is kept", SOON, || (keys(&redis) == 0).then_some(()));
}

#[test]
fn a_will_that_was_not_persisted_is_published_although_its_client_came_back_meanwhile() {
    let redis = Redis::standalone().start();
    let a = pod(&redis, "a");
    a.persist_wills(false);
    let due = will("due", Duration::ZERO, Duration::ZERO);
    let owner = connect(&a, "device", false, &due);
    a.leave(&owner, true, lost(&due)).expect("its owner");
    until("it was tried", SOON, || (ids(&a) == ["due"]).then_some(()));
    a.connect("device").expect("its session");
    assert_eq!(keys(&redis), 1, "it is kept");
    a.persist_wills(true);
    // The pod holds it for a while.
    let again = r"return redis.call('ZADD', KEYS[1], 0, 'device\0due')";
    redis.server(0).cli(&["EVAL", again, "1", "penstock:{e2e/telemetry/0}:wills"]);
    until("it was tried again", SOON, || (ids(&a) == ["due", "due"]).then_some(()));
    until("it is removed", SOON, || (keys(&redis) == 0).then_some(()));
}

#[test]
fn a_clean_start_ends_the_session_and_with_it_the_wait_but_not_after_a_drain() {
    let redis = Redis::standalone().start();
    let a = pod(&redis, "a");
    let last = will("ended", 60 * SECOND, Duration::ZERO);
    let owner = connect(&a, "device", false, &last);
    a.leave(&owner, true, lost(&last)).expect("its owner");
    let next = will("next", 60 * SECOND, Duration::ZERO);
    connect(&a, "device", true, &next);
    until("the old Will is published", SOON, || (ids(&a) == ["ended"]).then_some(()));
    let drained = will("drained", Duration::ZERO, 60 * SECOND);
    let owner = connect(&a, "other", false, &drained);
    let farewell = Farewell::after(Departure::Drained, drained.delay, drained.grace, EXPIRY);
    a.leave(&owner, true, farewell).expect("its owner");
    connect(&a, "other", true, &next);
    throughout("no other is published", 3 * SECOND, || ids(&a).len() == 1);
}

#[test]
fn another_pod_publishes_the_wills_of_a_dead_one_but_for_clients_that_came_to_it() {
    let redis = Redis::standalone().start();
    let (a, b) = (pod(&redis, "a"), pod(&redis, "b"));
    let of = |id: &str| will(id, Duration::ZERO, 3 * SECOND);
    connect(&a, "gone", false, &of("gone"));
    connect(&a, "came-back", false, &of("came-back"));
    connect(&a, "late", false, &of("late"));
    drop(a);
    let came_back = connect(&b, "came-back", false, &of("second"));
    // Its lease runs out, and then the grace.
    until("the pod is seen to be dead", START, || {
        let wills = redis.server(0).cli(&["ZRANGE", "penstock:{e2e/telemetry/0}:wills", "0", "-1"]);
        (wills.lines().count() == 2).then_some(())
    });
    assert!(ids(&b).is_empty());
    connect(&b, "late", false, &of("third"));
    until("the Will of the client that is gone", SOON, || (ids(&b) == ["gone"]).then_some(()));
    throughout("no other is published", 5 * SECOND, || ids(&b).len() == 1);
    b.write(&came_back, 0, &[]).expect("an owner's write");
    until("nothing is left of the dead pod", SOON, || {
        (redis.server(0).cli(&["SMEMBERS", "penstock:{e2e/telemetry/0}:pods"]) == "b").then_some(())
    });
}

#[test]
fn a_pod_that_was_taken_for_dead_and_is_not_has_its_sessions_again() {
    let redis = Redis::standalone().start();
    let (a, b) = (pod(&redis, "a"), pod(&redis, "b"));
    let last = will("alive", Duration::ZERO, 20 * SECOND);
    let owner = connect(&a, "device", false, &last);
    let wills = || redis.server(0).cli(&["ZCARD", "penstock:{e2e/telemetry/0}:wills"]);
    // As if it had not been heard of for the time of its lease.
    until("it is taken for dead", START, || {
        redis.server(0).cli(&["DEL", "penstock:{e2e/telemetry/0}:l:a"]);
        (wills() == "1").then_some(())
    });
    until("its session is its own again", SOON, || (wills() == "0").then_some(()));
    until("it may write", SOON, || a.write(&owner, 0, &[]).ok());
    assert!(ids(&a).is_empty() && ids(&b).is_empty());
}

#[test]
fn a_will_that_was_tried_while_its_pod_was_taken_for_dead_waits_for_its_client_the_next_time() {
    let redis = Redis::standalone().start();
    let (a, b) = (pod(&redis, "a"), pod(&redis, "b"));
    for pod in [&a, &b] {
        pod.persist_wills(false);
    }
    let last = will("tried", Duration::ZERO, Duration::ZERO);
    let owner = connect(&a, "device", false, &last);
    let tried = || ids(&a).len() + ids(&b).len();
    until("its pod is taken for dead, and it is tried", START, || {
        redis.server(0).cli(&["DEL", "penstock:{e2e/telemetry/0}:l:a"]);
        (tried() > 0).then_some(())
    });
    until("the session is the pod's again", SOON, || {
        let waiting = redis.server(0).cli(&["ZCARD", "penstock:{e2e/telemetry/0}:wills"]);
        (waiting == "0").then_some(())
    });
    for pod in [&a, &b] {
        pod.persist_wills(true);
    }
    until("it may leave", SOON, || {
        a.leave(&owner, true, Farewell::Due { wait: 20 * SECOND, for_grace: false }).ok()
    });
    let before = tried();
    a.connect("device").expect("its session");
    assert_eq!(keys(&redis), 0);
    throughout("it is not published", 3 * SECOND, || tried() == before);
}

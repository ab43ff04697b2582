//! Wills of kept sessions: after their delay, by whichever pod is there, under one id, and not if the client came back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use penstock_e2e::device::{self, Device, EXPIRY_SECONDS};
use penstock_e2e::load::wire::{self, Connect, Version};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::until::{SOON, START, throughout, until};
use penstock_e2e::{Kafka, Redis};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
const SECOND: Duration = Duration::from_secs(1);

/// Two pods that wait so long for clients of a pod that is gone.
#[track_caller]
fn pods<'k>(kafka: &'k Kafka, redis: &Redis, grace_seconds: u32) -> Pods<'k> {
    Pods::two(kafka, redis, |pipeline| pipeline.set("/spec/endpoints/0/mqtt/willGraceSeconds", grace_seconds))
}

/// A CONNECT that keeps its session, with a Will that goes to the key of a new name.
fn with_will(version: Version, purpose: &str, delay_seconds: u32) -> (Connect, String) {
    let name = client_id(purpose);
    let connect = Connect::kept(version, &name, EXPIRY_SECONDS);
    (connect.will(&device::topic(&name), b"will", delay_seconds), name)
}

#[track_caller]
fn count(pods: &Pods<'_>, name: &str) -> usize {
    pods.stored(name).len()
}

/// Waits for a Will; its copies have one id.
#[track_caller]
fn assert_published(pods: &Pods<'_>, name: &str, deadline: Duration) {
    until(&format!("the Will of {name}"), deadline, || (count(pods, name) > 0).then_some(()));
    let ids: HashSet<_> = pods.ids(name).into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn a_will_waits_for_its_delay_and_3_has_none() {
    let redis = Redis::standalone().start();
    let pods = pods(Kafka::shared(), &redis, 0);
    let (connect, late) = with_will(Version::V5, "late", 4);
    drop(Device::connect(pods[0].mqtt(), &connect));
    let lost = Instant::now();
    let (connect, at_once) = with_will(Version::V311, "at-once", 0);
    drop(Device::connect(pods[0].mqtt(), &connect));
    assert_published(&pods, &at_once, SOON);
    throughout("it waits", (3 * SECOND).saturating_sub(lost.elapsed()), || count(&pods, &late) == 0);
    assert_published(&pods, &late, SOON);
    let record = &pods.stored(&late)[0];
    assert_eq!((record.text(), record.header("ce_subject")), ("will", Some(&*device::topic(&late))));
}

#[test]
fn a_client_that_comes_back_in_time_has_no_will_published() {
    let redis = Redis::standalone().start();
    let pods = pods(Kafka::shared(), &redis, 0);
    let mut back = Vec::new();
    for pod in [0, 1] {
        let (connect, name) = with_will(Version::V5, "back", 2);
        drop(Device::connect(pods[0].mqtt(), &connect));
        let device = Device::kept(pods[pod].mqtt(), Version::V5, &name);
        assert!(device.session_present);
        back.push((device, name));
    }
    throughout("none is published", 5 * SECOND, || back.iter().all(|(_, name)| count(&pods, name) == 0));
    // Nor afterwards: the connection that came back had no Will.
    let names: Vec<_> = back.into_iter().map(|(_, name)| name).collect();
    throughout("none is published", 3 * SECOND, || names.iter().all(|name| count(&pods, name) == 0));
}

#[test]
fn a_normal_disconnect_takes_a_kept_will_back_and_any_other_leaves_it() {
    let redis = Redis::standalone().start();
    let pods = pods(Kafka::shared(), &redis, 0);
    let mut polite = Vec::new();
    for version in BOTH {
        let (connect, name) = with_will(version, "polite", 0);
        let mut device = Device::connect(pods[0].mqtt(), &connect);
        device.raw.send(&wire::DISCONNECT);
        assert_eq!(device.raw.packets_until_closed(SOON), []);
        polite.push(name);
    }
    let leave = |delay, reason, expiry| {
        let (connect, name) = with_will(Version::V5, "leaves", delay);
        let mut device = Device::connect(pods[0].mqtt(), &connect);
        device.raw.send(&wire::disconnect(reason, expiry));
        assert_eq!(device.raw.packets_until_closed(SOON), []);
        name
    };
    polite.push(leave(1, 0, Some(0)));
    assert_published(&pods, &leave(1, 4, None), SOON);
    // The session ends here, and with it the wait.
    assert_published(&pods, &leave(300, 4, Some(0)), SOON);
    for name in polite {
        assert_eq!(count(&pods, &name), 0, "{name}");
    }
}

#[test]
fn a_will_does_not_wait_longer_than_its_session_is_kept() {
    let redis = Redis::standalone().start();
    let pods = pods(Kafka::shared(), &redis, 0);
    let name = client_id("short");
    let connect = Connect::kept(Version::V5, &name, 3).will(&device::topic(&name), b"will", 300);
    drop(Device::connect(pods[0].mqtt(), &connect));
    throughout("the session is kept", 2 * SECOND, || count(&pods, &name) == 0);
    assert_published(&pods, &name, SOON);
}

#[test]
fn a_takeover_is_the_end_of_a_connection_and_clean_start_that_of_its_session() {
    let redis = Redis::standalone().start();
    let pods = pods(Kafka::shared(), &redis, 0);
    for pod in [0, 1] {
        for (delay, clean, published) in [(0, false, true), (300, true, true), (300, false, false)] {
            let (connect, name) = with_will(Version::V5, "heir", delay);
            let mut older = Device::connect(pods[0].mqtt(), &connect);
            let mut heir = Connect::kept(Version::V5, &name, EXPIRY_SECONDS);
            heir.clean = clean;
            let _newer = Device::connect(pods[pod].mqtt(), &heir);
            older.raw.packets_until_closed(SOON);
            if published {
                assert_published(&pods, &name, SOON);
            } else {
                throughout("it waits", SECOND, || count(&pods, &name) == 0);
            }
        }
    }
}

#[test]
fn the_wills_of_a_killed_pod_wait_for_their_clients_and_come_from_another_pod() {
    let redis = Redis::standalone().start();
    let mut pods = pods(Kafka::shared(), &redis, 4);
    let clients: Vec<_> = BOTH
        .into_iter()
        .flat_map(|version| ["gone", "back", "clean"].map(|purpose| (version, purpose)))
        .map(|(version, purpose)| {
            let (connect, name) = with_will(version, purpose, 0);
            (Device::connect(pods[0].mqtt(), &connect), version, purpose, name)
        })
        .collect();
    pods[0].kill9();
    let returned: Vec<_> = clients
        .iter()
        .filter_map(|(_, version, purpose, name)| match *purpose {
            "back" => Some(Device::kept(pods[1].mqtt(), *version, name)),
            "clean" => Some(Device::clean(pods[1].mqtt(), *version, name)),
            _ => None,
        })
        .collect();
    assert_eq!(returned.len(), 4);
    throughout("the lease and the grace", 4 * SECOND, || {
        clients.iter().all(|(.., name)| count(&pods, name) == 0)
    });
    for (_, _, purpose, name) in &clients {
        if *purpose == "gone" {
            assert_published(&pods, name, START);
        }
    }
    throughout("no other is published", 5 * SECOND, || {
        clients.iter().all(|(_, _, purpose, name)| *purpose == "gone" || count(&pods, name) == 0)
    });
}

#[test]
fn the_wills_of_a_drained_pod_wait_for_their_clients_and_come_from_another_pod() {
    let redis = Redis::standalone().start();
    let mut pods = pods(Kafka::shared(), &redis, 8);
    let connect = |version, purpose, delay| {
        let (connect, name) = with_will(version, purpose, delay);
        (Device::connect(pods[0].mqtt(), &connect), version, name)
    };
    let gone = BOTH.map(|version| connect(version, "gone", 0));
    let back = BOTH.map(|version| connect(version, "back", 0));
    let later = connect(Version::V5, "later", 300);
    let not_kept = client_id("not-kept");
    let connect = Connect::new(Version::V5, &not_kept).will(&device::topic(&not_kept), b"will", 0);
    let _not_kept = Device::connect(pods[0].mqtt(), &connect);
    pods[0].sigterm();
    assert_eq!(pods[0].wait_exit_code(SOON), 0);
    let drained = Instant::now();
    let _returned = back.each_ref().map(|(_, version, name)| {
        let device = Device::kept(pods[1].mqtt(), *version, name);
        assert!(device.session_present, "{version:?}");
        device
    });
    let none = |clients: &[&str]| clients.iter().all(|name| count(&pods, name) == 0);
    // They left up to a second before the pod did.
    throughout("the grace", (6 * SECOND).saturating_sub(drained.elapsed()), || {
        none(&[&gone[0].2, &gone[1].2])
    });
    for (.., name) in &gone {
        assert_published(&pods, name, SOON);
    }
    throughout("no other is published", 3 * SECOND, || none(&[&back[0].2, &back[1].2, &later.2, &not_kept]));
}

#[test]
fn a_will_that_kafka_does_not_take_is_published_later_under_its_id() {
    let redis = Redis::standalone().start();
    let kafka = Kafka::single().start();
    let pods = Pods::two(&kafka, &redis, |pipeline| pipeline.ack_timeout(2));
    kafka.broker(0).stop();
    let (connect, name) = with_will(Version::V5, "held", 1);
    drop(Device::connect(pods[0].mqtt(), &connect));
    let lost = Instant::now();
    until("it was tried in vain", SOON, || (lost.elapsed() > 6 * SECOND).then_some(()));
    kafka.broker(0).cont();
    assert_published(&pods, &name, START);
    until("it is done with", START, || redis.server(0).cli(&["KEYS", "*:w:*"]).is_empty().then_some(()));
    let ids: HashSet<_> = pods.ids(&name).into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    pods.assert_ledgers_balance();
}

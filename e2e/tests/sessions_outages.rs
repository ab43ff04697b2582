//! What becomes of sessions under load when Redis hangs, dies, forgets or moves, and when pods die: nothing acknowledged is
//! lost, keys keep their order, and a copy has the id of the first unless Redis forgot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::checker::{Verdict, check};
use penstock_e2e::device::{Device, EXPIRY_SECONDS};
use penstock_e2e::load::wire::{Connect, Packet, Version};
use penstock_e2e::load::{Loads, Plan};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::{ANSWER, Raw};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Redis};

const FINISH: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);
/// Places in [`loads`].
const AT_QOS_1: [usize; 2] = [0, 2];
const AT_QOS_2: [usize; 2] = [1, 3];

/// Clients of both versions at QoS 1 and 2 with kept sessions, which turn to the other pod when they lose one.
fn loads(pods: &Pods<'_>) -> Loads {
    let plan = |version, qos| {
        Plan::mqtt(pods[0].mqtt(), version).or(pods[1].mqtt()).keep_session(EXPIRY_SECONDS).qos(qos)
    };
    let plans = [plan(Version::V311, 1), plan(Version::V311, 2), plan(Version::V5, 1), plan(Version::V5, 2)];
    Loads::new(plans.map(|plan| plan.clients(4).devices(2).rate(200).start()))
}

#[track_caller]
fn judge(pods: &Pods<'_>, loads: Loads) -> Verdict {
    let history = loads.finish(FINISH);
    let verdict = check(&history, &pods.kafka.read(&pods.topic));
    pods.assert_ledgers_balance();
    verdict
}

/// Waits until QoS 2 has come to a standstill: nothing is answered before Redis has its intent.
#[track_caller]
fn wait_for_standstill(loads: &Loads) {
    let completed = || AT_QOS_2.map(|at| loads[at].completed());
    let mut last = completed();
    until("QoS 2 waits for Redis", SOON, || {
        let before = last;
        last = completed();
        let quiet = penstock_e2e::until::within(SECOND, || (completed() != last).then_some(())).is_none();
        (quiet && last == before).then_some(())
    });
}

/// While Redis is away a session cannot be had, and who wants none is let in.
#[track_caller]
fn assert_only_clean_clients_are_let_in(pods: &Pods<'_>) {
    for (version, refused) in [(Version::V311, 3), (Version::V5, 0x89)] {
        let connect = Connect::kept(version, &client_id("new"), EXPIRY_SECONDS);
        let (mut raw, packet) = Raw::mqtt_with(pods[0].mqtt(), &connect);
        assert!(
            matches!(packet, Packet::ConnAck { code, session_present: false, .. } if code == refused),
            "{packet:?}"
        );
        assert!(raw.is_closed_within(ANSWER));
        let mut clean = Device::clean(pods[0].mqtt(), version, &client_id("new"));
        clean.send(1, 1, "x");
        assert!(matches!(clean.raw.packet(), Packet::PubAck { id: 1, reason: 0, .. }));
        // Its handshakes are in memory.
        clean.publish(2, "x");
        assert_eq!(clean.release(2), 0);
    }
}

/// Goes on at QoS 1 in sessions that are in use while Redis is away.
#[track_caller]
fn assert_qos_1_goes_on(loads: &Loads) {
    for at in AT_QOS_1 {
        loads[at].wait_acknowledged(100);
        assert_eq!(loads[at].closes(), 0, "a client at QoS 1 does not notice");
    }
}

#[test]
fn redis_that_hangs_holds_qos_2_and_nothing_else() {
    let (redis, kafka) = (Redis::standalone().start(), Kafka::shared());
    let pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    loads.wait_acknowledged(100);
    redis.server(0).stop();
    wait_for_standstill(&loads);
    assert_qos_1_goes_on(&loads);
    assert_only_clean_clients_are_let_in(&pods);
    assert!(pods[0].is_ready() && pods[1].is_ready(), "a loss of Redis takes no endpoint away");
    until("the metric says that Redis is away", SOON, || {
        (pods[0].metric_sum("penstock_session_store_connected") < 0.5).then_some(())
    });
    redis.server(0).cont();
    loads.wait_acknowledged(100);
    // What Redis has is what it had: no copy has another id, no session is lost.
    assert_kept_with_clean_ones(&judge(&pods, loads));
}

/// The clean clients' records are no part of the load.
#[track_caller]
fn assert_kept_with_clean_ones(verdict: &Verdict) {
    let mut verdict = verdict.clone();
    verdict.foreign.retain(|line| !line.ends_with("nobody sent it"));
    verdict.assert_kept();
}

#[test]
fn redis_killed_and_started_again_with_its_log_has_every_session() {
    let (redis, kafka) = (Redis::standalone().persistent().start(), Kafka::shared());
    let pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    for _ in 0..2 {
        loads.wait_acknowledged(100);
        redis.server(0).kill();
        wait_for_standstill(&loads);
        assert_qos_1_goes_on(&loads);
        redis.server(0).restart();
    }
    loads.wait_acknowledged(100);
    let verdict = judge(&pods, loads);
    assert_eq!(verdict.forgotten_sessions, Vec::<String>::new());
    // A server that restarted may lack its tail for all we know.
    verdict.allow_two_ids().assert_kept();
}

#[test]
fn redis_that_comes_back_with_nothing_loses_nothing_that_was_acknowledged() {
    let (redis, kafka) = (Redis::standalone().start(), Kafka::shared());
    let pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    loads.wait_acknowledged(100);
    redis.server(0).kill();
    wait_for_standstill(&loads);
    redis.server(0).restart();
    loads.wait_acknowledged(200);
    judge(&pods, loads).allow_forgotten_sessions().allow_two_ids().assert_kept();
}

#[test]
fn redis_that_forgets_everything_under_connected_clients_is_told_anew() {
    let (redis, kafka) = (Redis::standalone().start(), Kafka::shared());
    let pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    for _ in 0..5 {
        loads.wait_acknowledged(200);
        redis.flush_all();
    }
    loads.wait_acknowledged(200);
    assert_eq!(loads.closes(), 0, "no client notices");
    judge(&pods, loads).allow_forgotten_sessions().allow_two_ids().assert_kept();
}

#[test]
fn a_failover_of_redis_under_load_loses_nothing() {
    let (redis, kafka) = (Redis::sentinels().start(), Kafka::shared());
    let pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    loads.wait_acknowledged(200);
    let old = redis.primary();
    old.kill();
    redis.wait_for_failover(old);
    assert_qos_1_goes_on(&loads);
    loads.wait_acknowledged(200);
    // The replica may lack what was under way.
    judge(&pods, loads).allow_forgotten_sessions().allow_two_ids().assert_kept();
}

#[test]
fn pods_killed_in_turn_under_load_leave_every_session_to_the_other() {
    let (redis, kafka) = (Redis::standalone().start(), Kafka::shared());
    let mut pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    for turn in 0..4 {
        loads.wait_acknowledged(200);
        pods[turn % 2].kill9();
        loads.wait_acknowledged(200);
        pods[turn % 2].restart();
    }
    loads.wait_acknowledged(200);
    judge(&pods, loads).assert_kept();
}

#[test]
fn pods_drained_in_turn_under_load_leave_every_session_to_the_other() {
    let (redis, kafka) = (Redis::standalone().start(), Kafka::shared());
    let mut pods = Pods::two(kafka, &redis, |pipeline| pipeline);
    let loads = loads(&pods);
    for turn in 0..4 {
        loads.wait_acknowledged(200);
        pods[turn % 2].sigterm();
        assert_eq!(pods[turn % 2].wait_exit_code(SOON), 0);
        loads.wait_acknowledged(200);
        pods[turn % 2].restart();
    }
    loads.wait_acknowledged(200);
    let verdict = judge(&pods, loads);
    verdict.assert_kept();
    assert_eq!(verdict.duplicates, 0, "what is drained is answered");
}

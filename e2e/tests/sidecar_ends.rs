//! How a sidecar ends: killed, asked, or asked by the hook; and what its clients get.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl;
use penstock_e2e::load::Loads;
use penstock_e2e::load::wire::{Packet, Version};
use penstock_e2e::raw::Raw;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar, sidecar};

const FINISH: Duration = Duration::from_secs(60);

fn loads(sidecar: &Sidecar) -> Loads {
    let plans = [sidecar.mqtt3_load(), sidecar.mqtt5_load(), sidecar.http_load(), sidecar.http2_load()];
    Loads::new(plans.map(|plan| plan.clients(3).devices(2).rate(400).start()))
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("kill9", 3);
    let mut sidecar = Sidecar::run(&Pipeline::telemetry(kafka, &topic)).start();
    let loads = loads(&sidecar);
    for _ in 0..3 {
        loads.wait_acknowledged(100);
        sidecar.kill9();
        sidecar.restart();
    }
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    check(&history, &kafka.read(&topic)).assert_kept();
}

#[test]
fn sigterm_under_load_answers_what_is_in_flight_and_exits_0() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("sigterm", 3);
    let mut sidecar = Sidecar::run(&Pipeline::telemetry(kafka, &topic)).start();
    let loads = loads(&sidecar);
    loads.wait_acknowledged(100);
    sidecar.sigterm();
    assert_eq!(sidecar.wait_exit_code(SOON), 0, "{}", sidecar.log());
    sidecar.wait_log("drained");
    assert!(sidecar.log().contains("\"in_flight\":0"), "{}", sidecar.log());
    sidecar.restart();
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    // Not one message was cut off: those in flight were answered before their connection ended.
    check(&history, &kafka.read(&topic)).assert_kept();
    assert!(
        history.closes.iter().any(|close| close.reason == Some(0x8B)),
        "MQTT 5 is told Server shutting down"
    );
}

#[test]
fn a_drain_is_not_ready_and_accepts_first() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("drain", 1);
    let pipeline = Pipeline::telemetry(kafka, &topic).set("/spec/edge/drain/acceptSeconds", 3);
    let mut sidecar = Sidecar::run(&pipeline).start();
    let mut early = Raw::mqtt(sidecar.mqtt(), Version::V5, "early");
    let started = Instant::now();
    sidecar.sigterm();
    until("not ready", SOON, || (sidecar.get("/readyz")?.status == 503).then_some(()));
    assert_eq!(sidecar.get("/livez").unwrap().status, 200);
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "while draining"]);
    assert_eq!(response.status, 200, "still accepting: {response:?}");
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "the machine is too slow for this test to say anything"
    );
    let packets = early.packets_until_closed(SOON);
    assert!(matches!(packets[..], [Packet::Disconnect { reason: 0x8B, .. }]), "{packets:?}");
    assert!(started.elapsed() >= Duration::from_millis(2_900), "not before the accept time was over");
    assert_eq!(sidecar.wait_exit_code(SOON), 0);
}

#[test]
fn the_hook_waits_for_the_accept_time_and_sigterm_does_the_rest() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("hook", 1);
    let folder = penstock_e2e::folder::fresh("hook-");
    let socket = folder.path().join("control");
    let mut sidecar = Sidecar::run(&Pipeline::telemetry(kafka, &topic)).control(&socket).start();
    let started = Instant::now();
    let output = sidecar::command(&["drain", "--control", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert!(started.elapsed() >= Duration::from_millis(900), "phase 1 takes acceptSeconds");
    assert!(!sidecar.is_ready());
    let response = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", "before SIGTERM"]);
    assert_eq!(response.status, 200, "{response:?}");
    sidecar.sigterm();
    assert_eq!(sidecar.wait_exit_code(SOON), 0);
    assert!(!socket.exists(), "the socket is gone");
}

#[test]
fn what_kafka_never_confirms_is_abandoned_and_counted_at_the_end() {
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("abandoned", 1);
    let mut sidecar = Sidecar::run(&Pipeline::telemetry(&kafka, &topic).ack_timeout(3)).start();
    kafka.broker(0).stop();
    let load = sidecar.mqtt5_load().clients(2).rate(100).start();
    until("some are in flight", SOON, || (sidecar.total("inFlight") > 10).then_some(()));
    sidecar.sigterm();
    assert_eq!(sidecar.wait_exit_code(SOON), 0, "{}", sidecar.log());
    assert!(sidecar.log().contains("\"in_flight\":0"), "{}", sidecar.log());
    let history = load.abandon();
    assert_eq!(history.acknowledged(), 0);
    kafka.broker(0).cont();
}

#[test]
fn the_ledger_balances_in_every_snapshot_under_load() {
    let kafka = Kafka::shared();
    let topic = kafka.create_topic("ledger", 6);
    let sidecar = Sidecar::run(&Pipeline::telemetry(kafka, &topic)).start();
    let loads = loads(&sidecar);
    let goal = loads.acknowledged() + 2_000;
    let mut snapshots = 0;
    until("2,000 acknowledgements under watch", SOON * 2, || {
        sidecar.assert_ledger_balances();
        assert_metrics_balance(&sidecar.metrics());
        snapshots += 1;
        (loads.acknowledged() > goal).then_some(())
    });
    assert!(snapshots > 20);
    let history = loads.finish(FINISH);
    check(&history, &kafka.read(&topic)).assert_kept();
    let total = sidecar.assert_ledger_balances()["total"].clone();
    assert_eq!(total["acknowledged"].as_u64().unwrap(), history.acknowledged() as u64, "{total}");
}

/// The same equation in the metrics, for each endpoint.
fn assert_metrics_balance(metrics: &str) {
    for endpoint in ["mqtt", "rest"] {
        let of = |name: &str| -> u64 {
            let sample = format!("penstock_messages_{name}{{endpoint=\"{endpoint}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&sample));
            line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse().unwrap()
        };
        let ends = ["acknowledged", "refused", "dead_lettered", "duplicate", "abandoned", "dropped"];
        let ended: u64 = ends.iter().map(|end| of(&format!("{end}_total"))).sum();
        assert_eq!(of("received_total"), ended + of("in_flight"), "{endpoint}: {metrics}");
    }
}

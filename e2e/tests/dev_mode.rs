//! `penstock-sidecar dev`: what it acknowledged is there after kill -9 and after a full disk.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::checker::check;
use penstock_e2e::clients::curl;
use penstock_e2e::dice::Dice;
use penstock_e2e::disk::SmallDisk;
use penstock_e2e::kafka;
use penstock_e2e::load::Loads;
use penstock_e2e::{Pipeline, Sidecar, folder};

const TOPIC: &str = "telemetry";
const FINISH: Duration = Duration::from_secs(60);

/// As it is written for a real cluster, which is not there.
fn pipeline() -> Pipeline {
    Pipeline::on("kafka.invalid:9092", TOPIC)
        .set("/spec/topics/0/partitions", 6)
        .set("/spec/topics/0/replicationFactor", 3)
        .set("/spec/topics/0/minInSyncReplicas", 2)
}

fn loads(sidecar: &Sidecar) -> Loads {
    let plans = [sidecar.mqtt3_load(), sidecar.mqtt5_load(), sidecar.http_load(), sidecar.http2_load()];
    Loads::new(plans.map(|plan| plan.clients(3).devices(2).rate(400).start()))
}

#[test]
fn kill_9_of_sidecar_and_broker_under_load_loses_nothing_acknowledged() {
    let data = folder::fresh("dev-");
    let mut sidecar = Sidecar::run(&pipeline()).dev(data.path()).start();
    assert!(sidecar.log().contains("One replica in place of those that spec.topics declares: telemetry"));
    let loads = loads(&sidecar);
    for _ in 0..3 {
        loads.wait_acknowledged(100);
        sidecar.kill9();
        sidecar.restart();
    }
    loads.wait_acknowledged(100);
    let history = loads.finish(FINISH);
    check(&history, &kafka::read(&sidecar.embedded_kafka(), TOPIC)).assert_kept();
}

#[test]
fn a_full_disk_is_transient_to_senders_said_once_and_over_when_there_is_space() {
    let folder = folder::fresh("small-disk-");
    let disk = SmallDisk::mount(folder.path(), 8 << 20);
    let mut sidecar = Sidecar::run(&pipeline().ack_timeout(2)).dev(&folder.path().join("data")).start();
    let loads = loads(&sidecar);
    loads.wait_acknowledged(50);
    disk.fill();
    loads.settled(Duration::from_secs(3));
    // A small one might still go into the last page of its partition's file, and so might one that compresses well.
    let mut dice = Dice::of(0);
    let no_room: String = (0..4_096).map(|_| format!("{:016x}", dice.roll())).collect();
    let refused = curl(sidecar.http(), "/v1/p/d/telemetry", &["-d", &no_room]);
    refused.assert_problem(503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(sidecar.is_ready() && sidecar.is_running());
    disk.relieve();
    loads.wait_acknowledged(50);
    let history = loads.finish(FINISH);
    // What was answered as transient may be stored nevertheless.
    let mut records = kafka::read(&sidecar.embedded_kafka(), TOPIC);
    records.retain(|record| record.text() != no_room);
    check(&history, &records).assert_kept();
    let log = sidecar.log();
    assert_eq!(log.matches("the disk is full: nothing is acknowledged").count(), 1, "{log}");
    assert!(log.contains("takes messages again"), "{log}");
    sidecar.assert_ledger_balances();
}

#[test]
fn a_disk_that_is_full_at_the_start_ends_dev_mode_with_advice() {
    let folder = folder::fresh("small-disk-");
    let disk = SmallDisk::mount(folder.path(), 1 << 20);
    disk.fill();
    let data = folder.path().join("data");
    let ended = Sidecar::run(&pipeline()).dev(&data).run_to_end();
    assert_eq!(ended.code, 4, "{}", ended.text);
    for part in [data.to_str().unwrap(), "the disk is full", "--data"] {
        assert!(ended.text.contains(part), "{part} in: {}", ended.text);
    }
}

#[test]
fn a_second_process_on_the_folder_is_told_who_has_it() {
    let data = folder::fresh("dev-");
    let sidecar = Sidecar::run(&pipeline()).dev(data.path()).start();
    let ended = Sidecar::run(&pipeline()).dev(data.path()).run_to_end();
    assert_eq!(ended.code, 4, "{}", ended.text);
    let holder = format!("in use by process {}", sidecar.pid());
    for part in [data.path().to_str().unwrap(), &holder, "--data"] {
        assert!(ended.text.contains(part), "{part} in: {}", ended.text);
    }
}

//! Sessions and QoS 2 handshakes on a whole cluster with real Redis: pods are killed and rolled, and Redis fails over.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stdout, reason = "how clients were told to leave is worth reading")]

use std::time::{Duration, Instant};

use penstock_e2e::checker::{Close, History, check};
use penstock_e2e::cluster::Installed;
use penstock_e2e::device::{self, Device, EXPIRY_SECONDS};
use penstock_e2e::kafka::Record;
use penstock_e2e::load::wire::Version;
use penstock_e2e::load::{Loads, Plan, WILL};
use penstock_e2e::raw::Next;
use penstock_e2e::until::{SOON, START, throughout, until};
use penstock_e2e::{Pipeline, Redis};
use serde_json::json;

const MQTT: u16 = 1883;
const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
/// How long Wills wait for clients whose pods are gone.
const GRACE_SECONDS: u32 = 5;
/// How a pod that ends tells its clients (MQTT 5 §3.14.2.1, Server shutting down).
const SHUTTING_DOWN: u8 = 0x8B;

/// Two pods that keep sessions in `redis`.
fn pipeline(cluster: &Installed, redis: &Redis, namespace: &str) -> Pipeline {
    cluster
        .telemetry(namespace)
        .set("/spec/endpoints/0/mqtt/maximumQoS", "ExactlyOnce")
        .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", EXPIRY_SECONDS)
        .set("/spec/endpoints/0/mqtt/willGraceSeconds", GRACE_SECONDS)
        .set("/spec/sessions", redis.spec())
}

/// Loads of both versions at both QoS with kept sessions, through the Service.
fn loads(cluster: &Installed, namespace: &str, change: impl Fn(Plan) -> Plan) -> Loads {
    let address = cluster.mqtt(namespace);
    let plans = VERSIONS.into_iter().flat_map(|version| {
        [1, 2].map(|qos| Plan::mqtt(address, version).qos(qos).keep_session(EXPIRY_SECONDS))
    });
    Loads::new(plans.map(|plan| change(plan.within(cluster.place())).start()).collect::<Vec<_>>())
}

/// Ends the loads and splits what Kafka has into the loads' records and all others.
fn ended(cluster: &Installed, loads: Loads, topic: &str) -> (History, Vec<Record>, Vec<Record>) {
    let history = loads.finish(SOON * 4);
    assert_eq!(history.refused(), 0, "refused for good");
    let (ours, others) =
        cluster.kafka.read(topic).into_iter().partition(|record: &Record| record.text().starts_with("load"));
    (history, ours, others)
}

#[test]
fn a_client_whose_pod_is_killed_in_mid_handshake_goes_on_with_it_on_the_other_pod() {
    let cluster = &*Installed::alone();
    let redis = cluster.redis(Redis::standalone());
    cluster.apply_ready(&pipeline(cluster, &redis, "killed").ack_timeout(10));
    let [first, second] = &cluster.pods("killed")[..] else { panic!("two pods") };
    let (killed, other) = (cluster.pod("killed", first, MQTT), cluster.pod("killed", second, MQTT));
    let loads = loads(cluster, "killed", |plan| plan.clients(2).rate(50));
    loads.wait_acknowledged(50);
    let broker = cluster.kafka.broker(0);
    let (stored, known) = cluster.place().inside(|| {
        let mut client = Device::kept(killed, Version::V5, "device");
        let receipt = client.publish(1, "stored").expect("a receipt");
        // The intent of the second is in Redis; whether Kafka has the message nobody knows.
        broker.stop();
        client.send(2, 2, "in between");
        let answer = client.raw.next(Duration::from_secs(2));
        assert!(matches!(answer, Next::Nothing), "Kafka has not stored it");
        cluster.kill_pod("killed", first, "penstock-sidecar");
        broker.cont();

        let mut client = Device::kept(other, Version::V5, "device");
        assert!(client.session_present);
        let again = client.publish_again(2, "in between").expect("a receipt");
        let known = client.publish_again(1, "stored").expect("the receipt of before");
        assert_eq!((&known.id, known.offset), (&receipt.id, receipt.offset));
        assert_eq!(
            [client.release(1), client.release(2), client.release(2)],
            [0, 0, device::unknown(Version::V5)]
        );
        client.assert_quiet();
        (receipt.id, again.id)
    });
    cluster.wait_ready("killed", "telemetry");
    loads.wait_acknowledged(50);
    let (history, records, others) = ended(cluster, loads, "killed");
    check(&history, &records).assert_kept();
    let ids = |text: &str| -> Vec<&str> {
        let records = others.iter().filter(|record| record.text() == text);
        records.filter_map(|record| record.header("ce_id")).collect()
    };
    assert_eq!(ids("stored"), [&*stored]);
    let copies = ids("in between");
    assert!(!copies.is_empty() && copies.iter().all(|id| *id == known), "{copies:?} of {known}");
}

#[test]
fn a_rolling_update_under_two_thousand_clients_loses_nothing_and_tells_them_one_by_one() {
    const CLIENTS: u32 = 500;
    const CLIENT_SECONDS: u32 = 8;
    let cluster = &*Installed::alone();
    let redis = cluster.redis(Redis::standalone());
    let pipeline = pipeline(cluster, &redis, "crowd")
        .set("/spec/edge/drain", json!({"acceptSeconds": 3, "clientSeconds": CLIENT_SECONDS}));
    cluster.apply_ready(&pipeline);
    let loads = loads(cluster, "crowd", |plan| plan.clients(CLIENTS).rate(100).will());
    loads.wait_acknowledged(CLIENTS.into());
    let began = Instant::now();

    cluster.apply_ready(&pipeline.clone().ack_timeout(10));
    cluster.wait_pods("crowd", 2);
    println!("rolled out after {:.1?}", began.elapsed());
    loads.wait_acknowledged(CLIENTS.into());
    assert_eq!(loads.unreachable(), 0, "somebody found nobody listening");
    let (history, records, others) = ended(cluster, loads, "crowd");
    check(&history, &records).assert_kept();

    let told: Vec<_> = history.closes.iter().filter(|close| close.reason == Some(SHUTTING_DOWN)).collect();
    assert!(told.len() >= 2 * CLIENTS as usize, "{} of {} were told why", told.len(), 2 * CLIENTS);
    let (busiest, spread) = spread(&told);
    println!("{} closes, at most {busiest} in a second, over {spread} seconds", told.len());
    // Each pod tells its clients evenly over its own time; the times of the two may be the same.
    let even = told.len() as f64 / f64::from(CLIENT_SECONDS);
    assert!((busiest as f64) < 2.5 * even, "{busiest} in one second, {even:.0} would be even");
    assert!(spread >= CLIENT_SECONDS as usize * 2 / 3, "all within {spread} s");

    // Wills of clients that came back would be due by now.
    throughout("no Will is published", Duration::from_secs(u64::from(GRACE_SECONDS) + 3), || {
        others.iter().chain(&cluster.kafka.read("crowd")).all(|record| record.text() != WILL)
    });
}

/// The most closes in a second, and the number of seconds that have some.
fn spread(closes: &[&Close]) -> (usize, usize) {
    let first = closes.iter().map(|close| close.at).min().expect("closes");
    let mut seconds = std::collections::BTreeMap::<u64, usize>::new();
    for close in closes {
        *seconds.entry((close.at - first).as_secs()).or_default() += 1;
    }
    (seconds.values().copied().max().unwrap_or_default(), seconds.len())
}

#[test]
fn redis_fails_over_under_load_and_nothing_acknowledged_is_lost() {
    let cluster = &*Installed::alone();
    let redis = cluster.redis(Redis::sentinels());
    cluster.apply_ready(&pipeline(cluster, &redis, "failover").ack_timeout(5));
    let loads = loads(cluster, "failover", |plan| plan.clients(4).rate(100));
    loads.wait_acknowledged(100);
    let old = redis.primary();
    old.kill();
    // QoS 1 of sessions that are there needs no Redis.
    for qos1 in [&loads[0], &loads[2]] {
        qos1.wait_acknowledged(20);
    }
    redis.wait_for_failover(old);
    loads.wait_acknowledged(100);
    until("the pods have their sessions again", START, || {
        let sessions = redis.primary().cli(&["KEYS", "penstock:*:s:*"]);
        (sessions.lines().count() >= 16).then_some(())
    });
    let (history, records, others) = ended(cluster, loads, "failover");
    assert!(others.is_empty(), "{others:?}");
    // The replica may not have had the last that the primary confirmed.
    check(&history, &records).allow_two_ids().allow_forgotten_sessions().assert_kept();
}

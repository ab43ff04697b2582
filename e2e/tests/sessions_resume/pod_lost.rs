//! A pod is killed in the middle of handshakes: its clients complete them on another one.

use std::collections::HashSet;
use std::time::Duration;

use penstock_e2e::checker::Receipt;
use penstock_e2e::device::{Device, unknown};
use penstock_e2e::load::wire::{Packet, Publish, Version, pubrel};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::Next;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Redis};

use super::{BOTH, handshakes};

#[test]
fn after_pubrec_another_pod_completes_what_a_killed_one_began() {
    let redis = Redis::standalone().start();
    let mut pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let clients = BOTH.map(|version| {
        let name = client_id("after");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        assert!(!device.session_present);
        let receipts: Vec<_> = (1..=20).map(|id| device.publish(id, &format!("m{id}"))).collect();
        (version, name, receipts, device)
    });
    pods[0].kill9();
    for (version, name, receipts, _) in clients {
        let mut device = Device::kept(pods[1].mqtt(), version, &name);
        assert!(device.session_present, "{version:?}");
        for id in 1..=20_u16 {
            // Half of the clients' PUBRECs may have been lost on their way.
            if id % 2 == 0 {
                let receipt = device.publish_again(id, &format!("m{id}"));
                assert_eq!(id_of(&receipt), id_of(&receipts[usize::from(id) - 1]), "one id for one message");
            }
            assert_eq!(device.release(id), 0, "{version:?} {id}");
            assert_eq!(device.release(id), unknown(version), "{version:?} {id}");
        }
        assert_one_id_each(&pods, &name, 20);
        assert_eq!(handshakes(&redis, &name), Some(vec![]));
    }
}

#[test]
fn before_pubrec_another_pod_stores_what_a_killed_one_may_have_stored() {
    let redis = Redis::standalone().start();
    let kafka = Kafka::single().start();
    let mut pods = Pods::two(&kafka, &redis, |pipeline| pipeline.ack_timeout(60));
    let clients = BOTH.map(|version| {
        let name = client_id("before");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        device.publish(1, "m1");
        assert_eq!(device.release(1), 0);
        (version, name, device)
    });
    kafka.broker(0).stop();
    let clients = clients.map(|(version, name, mut device)| {
        for id in 1..=10 {
            device.send(2, id, &format!("m{}", id + 1));
        }
        until("the intents are in Redis", SOON, || (handshakes(&redis, &name)?.len() == 10).then_some(()));
        assert_eq!(device.raw.next(Duration::from_millis(500)), Next::Nothing, "an intent is no PUBREC");
        (version, name, device)
    });
    pods[0].kill9();
    for (version, name, _) in &clients {
        let mut device = Device::kept(pods[1].mqtt(), *version, name);
        assert!(device.session_present, "{version:?}");
        device.send_again(1, "m2");
        assert_eq!(device.raw.next(Duration::from_millis(500)), Next::Nothing, "nor is an inherited one");
    }
    kafka.broker(0).cont();
    for (version, name, _) in &clients {
        let mut device = Device::kept(pods[1].mqtt(), *version, name);
        assert!(device.session_present, "{version:?}");
        for id in 1..=10 {
            device.publish_again(id, &format!("m{}", id + 1));
            assert_eq!(device.release(id), 0, "{version:?} {id}");
        }
        assert_one_id_each(&pods, name, 11);
    }
}

#[test]
fn a_release_is_known_to_the_next_pod_before_pubcomp() {
    let redis = Redis::standalone().start();
    let mut pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let clients = BOTH.map(|version| {
        let name = client_id("released");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        device.publish(1, "one");
        assert_eq!(device.release(1), 0);
        (version, name, device)
    });
    pods[0].kill9();
    for (version, name, _) in clients {
        let mut device = Device::kept(pods[1].mqtt(), version, &name);
        assert!(device.session_present);
        assert_eq!(device.release(1), unknown(version), "{version:?}: its PUBCOMP was lost");
        // The identifier names a new message now, though it looks like the old one.
        device.publish_again(1, "one");
        assert_eq!(device.release(1), 0);
        let ids = pods.ids(&name);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 2, "{version:?}: {ids:?}");
        assert!(ids[0].ends_with("-1") && ids[1].ends_with("-2"), "the session counts on: {ids:?}");
        assert_eq!(ids[0].split('-').next(), ids[1].split('-').next(), "one incarnation");
    }
}

#[test]
fn an_error_pubrec_is_a_release_for_the_next_pod_too() {
    let redis = Redis::standalone().start();
    let mut pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let name = client_id("error");
    let mut device = Device::kept(pods[0].mqtt(), Version::V5, &name);
    let publish = Publish { qos: 2, ..Publish::new(Version::V5, "nobody/asked", b"x", 1) };
    device.raw.send(&publish.encode());
    let packet = device.raw.packet();
    assert!(matches!(packet, Packet::PubRec { id: 1, reason: 0x90, .. }), "{packet:?}");
    pods[0].kill9();
    let mut device = Device::kept(pods[1].mqtt(), Version::V5, &name);
    assert!(device.session_present);
    assert_eq!(device.release(1), 0x92);
}

#[test]
fn what_redis_keeps_of_a_session_is_what_is_in_flight() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let name = client_id("small");
    let mut device = Device::kept(pods[0].mqtt(), Version::V5, &name);
    let bytes = || -> u64 {
        redis.server(0).cli(&["MEMORY", "USAGE", &super::session_key(&name)]).parse().expect("a number")
    };
    device.publish(1, "x");
    device.release(1);
    let before = bytes();
    for window in (1..=20_000_u16).collect::<Vec<_>>().chunks(100) {
        for &id in window {
            device.send(2, id, "x");
        }
        for &id in window {
            device.pubrec(id);
        }
        device.raw.send(&window.iter().flat_map(|&id| pubrel(id)).collect::<Vec<_>>());
        for _ in window {
            device.raw.packet();
        }
    }
    assert_eq!(handshakes(&redis, &name), Some(vec![]));
    let after = bytes();
    // A hash that once had more than 128 fields is a table until the session ends.
    assert!(after <= 2 * before + 4_096, "{before} bytes became {after}");
}

#[test]
fn sessions_move_between_pods_on_every_kind_of_redis() {
    for (kind, redis) in [
        ("Sentinel", Redis::sentinels().start()),
        ("Cluster", Redis::cluster().start()),
        ("TLS and ACL", Redis::standalone().tls().user("penstock", "s3cret").start()),
    ] {
        let mut pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
        let begin = |version| {
            let name = client_id("kind");
            let mut device = Device::kept(pods[0].mqtt(), version, &name);
            device.publish(1, "released there");
            assert_eq!(device.release(1), 0);
            device.publish(2, "released here");
            (version, name, device)
        };
        let clients: Vec<_> = BOTH.into_iter().cycle().take(20).map(begin).collect();
        pods[0].kill9();
        for (version, name, _) in &clients {
            let mut device = Device::kept(pods[1].mqtt(), *version, name);
            assert!(device.session_present, "{kind}: {name}");
            assert_eq!(device.release(1), unknown(*version), "{kind}: {name}");
            device.publish_again(2, "released here");
            assert_eq!(device.release(2), 0, "{kind}: {name}");
            assert_one_id_each(&pods, name, 2);
        }
    }
}

fn id_of(receipt: &Option<Receipt>) -> Option<&str> {
    receipt.as_ref().map(|receipt| &*receipt.id)
}

/// Copies of a message have one id, and no two messages have the same.
#[track_caller]
fn assert_one_id_each(pods: &Pods<'_>, name: &str, messages: usize) {
    let records = pods.stored(name);
    let pairs: HashSet<_> = records.iter().map(|record| (record.header("ce_id"), record.text())).collect();
    let texts: HashSet<_> = records.iter().map(|record| record.text()).collect();
    let ids: HashSet<_> = records.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!((pairs.len(), texts.len(), ids.len()), (messages, messages, messages), "{pairs:?}");
}

//! A client that comes again while it is connected: the newer connection has the session, and the older one can do nothing
//! more in its name ([MQTT-3.1.4-3]).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use penstock_e2e::device::{Device, EXPIRY_SECONDS, unknown};
use penstock_e2e::load::wire::{Connect, Packet, Version, pubrel};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::ANSWER;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Redis};

use super::{BOTH, handshakes};

/// The last word to the older connection, and nothing before it.
#[track_caller]
pub(super) fn assert_told(device: &mut Device, version: Version) {
    let packets = device.raw.packets_until_closed(ANSWER);
    match (version, &packets[..]) {
        (Version::V311, []) | (Version::V5, [Packet::Disconnect { reason: 0x8E, .. }]) => {}
        _ => panic!("{version:?}: {packets:?}"),
    }
}

#[test]
fn a_client_that_connects_to_another_pod_is_taken_over_well_within_a_second() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("to-and-fro");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "held");
        for turn in 1..=20 {
            let started = Instant::now();
            let mut newer = Device::kept(pods[turn % 2].mqtt(), version, &name);
            assert!(newer.session_present, "{version:?} {turn}");
            assert_told(&mut older, version);
            assert!(
                started.elapsed() < Duration::from_secs(1),
                "{version:?} {turn}: {:?}",
                started.elapsed()
            );
            newer.publish_again(1, "held");
            older = newer;
        }
        assert_eq!(older.release(1), 0);
        assert_eq!(pods.ids(&name).iter().collect::<HashSet<_>>().len(), 1);
    }
    pods.assert_ledgers_balance();
}

#[test]
fn a_client_that_connects_to_the_same_pod_takes_its_handshakes_along() {
    let redis = Redis::standalone().start();
    let kafka = Kafka::single().start();
    let pods = Pods::two(&kafka, &redis, |pipeline| pipeline.ack_timeout(60));
    for version in BOTH {
        let name = client_id("same");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "answered");
        kafka.broker(0).stop();
        older.send(2, 2, "under way");
        until("its intent", SOON, || (handshakes(&redis, &name)?.len() == 2).then_some(()));
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present);
        newer.send_again(2, "under way");
        kafka.broker(0).cont();
        assert_told(&mut older, version);
        newer.pubrec(2);
        assert_eq!((newer.release(2), newer.release(1)), (0, 0), "{version:?}");
        let records = pods.stored(&name);
        let pairs: HashSet<_> =
            records.iter().map(|record| (record.header("ce_id"), record.text())).collect();
        assert_eq!(pairs.len(), 2, "{version:?}: {pairs:?}");
    }
    pods.assert_ledgers_balance();
}

#[test]
fn a_pod_that_slept_through_a_takeover_can_neither_answer_nor_release() {
    let redis = Redis::standalone().start();
    let mut pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("asleep");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "one");
        pods[0].stop();
        // The pod will find these when it wakes.
        older.raw.send(&pubrel(1));
        older.send(2, 2, "two");
        let mut newer = Device::kept(pods[1].mqtt(), version, &name);
        assert!(newer.session_present);
        newer.publish(3, "three");
        pods[0].cont();
        assert_told(&mut older, version);
        assert_eq!(handshakes(&redis, &name).map(HashSet::from_iter), Some(HashSet::from([1, 3])));
        newer.publish_again(2, "two");
        assert_eq!((newer.release(1), newer.release(2), newer.release(3)), (0, 0, 0), "{version:?}");
        let texts: Vec<_> = pods.stored(&name).iter().map(|record| record.text().to_owned()).collect();
        assert!(texts.iter().filter(|text| *text == "two").count() == 1, "{version:?}: {texts:?}");
    }
}

#[test]
fn a_message_under_way_is_not_acknowledged_to_a_connection_that_lost_its_session() {
    let redis = Redis::standalone().start();
    let kafka = Kafka::single().start();
    let pods = Pods::two(&kafka, &redis, |pipeline| pipeline.ack_timeout(60));
    for version in BOTH {
        let name = client_id("late");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        kafka.broker(0).stop();
        older.send(2, 1, "x");
        until("its intent", SOON, || (handshakes(&redis, &name)?.len() == 1).then_some(()));
        let mut newer = Device::kept(pods[1].mqtt(), version, &name);
        newer.send_again(1, "x");
        assert_told(&mut older, version);
        kafka.broker(0).cont();
        newer.pubrec(1);
        assert_eq!(newer.release(1), 0);
        assert_eq!(pods.ids(&name).iter().collect::<HashSet<_>>().len(), 1, "{version:?}");
    }
}

#[test]
fn clean_start_forgets_what_was_kept_on_this_pod_or_another() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for version in BOTH {
        for (pod, connected) in [(0, true), (1, true), (0, false), (1, false)] {
            let what = format!("{version:?}, pod {pod}, connected: {connected}");
            let name = client_id("clean");
            let mut older = Device::kept(pods[0].mqtt(), version, &name);
            older.publish(1, "x");
            let older = connected.then_some(older);
            // In 3.1.1 the new session ends with the connection.
            let mut connect = Connect::kept(version, &name, EXPIRY_SECONDS);
            connect.clean = true;
            let mut newer = Device::connect(pods[pod].mqtt(), &connect);
            assert!(!newer.session_present, "{what}");
            if let Some(mut older) = older {
                assert_told(&mut older, version);
            }
            assert_eq!(newer.release(1), unknown(version), "{what}");
            newer.publish_again(1, "x");
            assert_eq!(newer.release(1), 0, "{what}");
            let ids = pods.ids(&name);
            let incarnations: HashSet<_> = ids.iter().map(|id| id.split('-').next()).collect();
            assert_eq!((ids.len(), incarnations.len()), (2, 2), "{what}: {ids:?}");
            drop(newer);
            if version == Version::V311 {
                until("nothing is kept", SOON, || handshakes(&redis, &name).is_none().then_some(()));
            }
            let again = Device::kept(pods[0].mqtt(), version, &name);
            assert_eq!(again.session_present, version == Version::V5, "{what}");
        }
    }
}

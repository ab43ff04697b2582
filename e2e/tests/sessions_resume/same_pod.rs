//! A client that comes again to the pod that has its older connection: the session goes from one to the other without
//! Redis, and nothing is said in its name before Redis has confirmed that it is still this pod's.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use penstock_e2e::device::{Device, EXPIRY_SECONDS, topic, unknown};
use penstock_e2e::load::wire::{Connect, Packet, Version, pubrel};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::{Next, Raw};
use penstock_e2e::until::{SOON, throughout, until};
use penstock_e2e::{Kafka, Redis};

use super::taken_over::assert_told;
use super::{BOTH, handshakes, session_key};

/// At once, as nobody far away is asked.
const AT_ONCE: Duration = Duration::from_millis(500);

/// How many sessions Redis has given to a connection: only then it reads one whole.
#[track_caller]
fn given(redis: &Redis) -> u64 {
    redis.commands().get("hgetall").copied().unwrap_or(0)
}

#[test]
fn a_takeover_on_the_same_pod_is_not_had_from_redis_and_any_other_is() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("here");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "held");
        let before = given(&redis);
        for turn in 1..=20 {
            let mut newer = Device::kept(pods[0].mqtt(), version, &name);
            assert!(newer.session_present, "{version:?} {turn}");
            assert_told(&mut older, version);
            newer.publish_again(1, "held");
            older = newer;
        }
        assert_eq!(given(&redis), before, "{version:?}");
        assert_eq!(older.release(1), 0, "{version:?}");
        assert_eq!(pods.stored(&name).len(), 1, "{version:?}");
        // To and fro between pods.
        let mut newer = Device::kept(pods[1].mqtt(), version, &name);
        assert_told(&mut older, version);
        assert_eq!(given(&redis), before + 1, "{version:?}");
        newer.publish(2, "there");
        let mut connect = Connect::kept(version, &name, EXPIRY_SECONDS);
        connect.clean = true;
        let clean = Device::connect(pods[1].mqtt(), &connect);
        assert!(!clean.session_present, "{version:?}");
        assert_told(&mut newer, version);
        assert_eq!(given(&redis), before + 2, "{version:?}: Clean Start");
    }
    // Another expiry must be in Redis before it is promised.
    let name = client_id("here");
    let mut older = Device::kept(pods[0].mqtt(), Version::V5, &name);
    let before = given(&redis);
    let newer = Device::connect(pods[0].mqtt(), &Connect::kept(Version::V5, &name, EXPIRY_SECONDS - 1));
    assert!(newer.session_present);
    assert_told(&mut older, Version::V5);
    assert_eq!(given(&redis), before + 1);
    pods.assert_ledgers_balance();
}

#[test]
fn a_takeover_on_the_same_pod_does_not_wait_for_redis_that_hangs() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let clients = BOTH.map(|version| {
        let name = client_id("hangs");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        let receipt = device.publish(1, "held");
        (version, name, receipt, device)
    });
    let clean_name = client_id("clean");
    let clean_older = Device::kept(pods[0].mqtt(), Version::V5, &clean_name);
    redis.server(0).stop();
    let heir = |version: Version, name: &str, older: &mut Device| {
        let started = Instant::now();
        let mut newer = Device::kept(pods[0].mqtt(), version, name);
        assert!(started.elapsed() < AT_ONCE, "{version:?}: {:?}", started.elapsed());
        assert!(newer.session_present, "{version:?}");
        assert_told(older, version);
        newer.send(1, 7, "at QoS 1");
        assert!(matches!(newer.raw.packet(), Packet::PubAck { id: 7, reason: 0, .. }), "{version:?}");
        newer
    };
    let clients = clients.map(|(version, name, receipt, mut older)| {
        let newer = heir(version, &name, &mut older);
        (version, name, receipt, newer)
    });
    // A session that is to end must end in Redis.
    let mut connect = Connect::kept(Version::V5, &clean_name, EXPIRY_SECONDS);
    connect.clean = true;
    let (_, packet) = Raw::mqtt_with(pods[0].mqtt(), &connect);
    assert!(matches!(packet, Packet::ConnAck { code: 0x89, .. }), "{packet:?}");
    drop(clean_older);
    // The heirs go on, and so do theirs.
    until("the pod knows that Redis is away", SOON, || {
        (pods[0].metric_sum("penstock_session_store_connected") < 0.5).then_some(())
    });
    let clients = clients.map(|(version, name, receipt, mut older)| {
        older.send(1, 8, "still at QoS 1");
        assert!(matches!(older.raw.packet(), Packet::PubAck { id: 8, reason: 0, .. }), "{version:?}");
        let newer = heir(version, &name, &mut older);
        (version, name, receipt, newer)
    });
    redis.server(0).cont();
    until("Redis is back", SOON, || {
        (pods[0].metric_sum("penstock_session_store_connected") > 0.5).then_some(())
    });
    for (version, name, receipt, mut device) in clients {
        assert_eq!(device.publish_again(1, "held"), receipt, "{version:?}");
        assert_eq!(device.release(1), 0, "{version:?}");
        device.publish(2, "new");
        assert_eq!(device.release(2), 0, "{version:?}");
        let held = pods.stored(&name).iter().filter(|record| record.text() == "held").count();
        assert_eq!(held, 1, "{version:?}");
    }
    pods.assert_ledgers_balance();
}

#[test]
fn what_an_heir_repeats_at_qos_2_while_redis_hangs_is_not_answered() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("held");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "held");
        redis.server(0).stop();
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present);
        newer.send_again(1, "held");
        newer.raw.send(&pubrel(2));
        let packets = newer.raw.packets_until_closed(SOON);
        assert!(
            packets.iter().all(|packet| matches!(packet, Packet::Disconnect { reason: 0x89, .. })),
            "{version:?}: {packets:?}"
        );
        redis.server(0).cont();
        let mut newer = until("Redis is back", SOON, || {
            let connect = Connect::kept(version, &name, EXPIRY_SECONDS);
            let (_, packet) = Raw::mqtt_with(pods[0].mqtt(), &connect);
            matches!(packet, Packet::ConnAck { code: 0, .. })
                .then(|| Device::kept(pods[0].mqtt(), version, &name))
        });
        assert!(newer.session_present, "{version:?}");
        newer.publish_again(1, "held");
        assert_eq!(newer.release(1), 0, "{version:?}");
        assert_eq!(pods.ids(&name).iter().collect::<HashSet<_>>().len(), 1, "{version:?}");
    }
    pods.assert_ledgers_balance();
}

#[test]
fn releases_that_an_heir_must_keep_until_redis_answers_are_all_answered() {
    let redis = Redis::standalone().start();
    let receive_maximum = 20;
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| {
        pipeline.set("/spec/endpoints/0/mqtt/receiveMaximum", receive_maximum)
    });
    for version in BOTH {
        let name = client_id("kept");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "x");
        redis.server(0).stop();
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present, "{version:?}");
        // More than it keeps: the rest is read when there is room.
        let ids = 100..100 + 10 * receive_maximum;
        newer.raw.send(&ids.clone().flat_map(pubrel).collect::<Vec<_>>());
        assert_eq!(newer.raw.next(AT_ONCE), Next::Nothing, "{version:?}: nobody knows yet");
        redis.server(0).cont();
        // In whatever order: those that came last need not wait.
        let mut answered: Vec<_> = ids
            .clone()
            .map(|_| match newer.raw.packet() {
                Packet::PubComp { id, reason, .. } if reason == unknown(version) => id,
                other => panic!("{version:?}: {other:?}"),
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, ids.collect::<Vec<_>>(), "{version:?}");
        assert_eq!(newer.release(1), 0, "{version:?}");
    }
}

#[test]
fn a_message_whose_pubrec_the_client_never_had_is_stored_under_one_id() {
    let redis = Redis::standalone().start();
    let kafka = Kafka::single().start();
    let pods = Pods::two(&kafka, &redis, |pipeline| pipeline.ack_timeout(60));
    for version in BOTH {
        // It was on its way to the client: the receipt goes along, though Redis does not have it.
        let name = client_id("unread");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "unread");
        let given_before = given(&redis);
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present);
        newer.publish_again(1, "unread");
        assert_eq!(newer.release(1), 0, "{version:?}");
        assert_eq!(pods.stored(&name).len(), 1, "{version:?}: it is known to be stored");
        // There is no PUBREC: nobody knows whether it is stored, and it is produced again.
        let name = client_id("under-way");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(2, "before");
        assert_eq!(older.release(2), 0);
        kafka.broker(0).stop();
        older.send(2, 1, "under way");
        until("its intent", SOON, || (handshakes(&redis, &name)? == [1]).then_some(()));
        assert_eq!(older.raw.next(AT_ONCE), Next::Nothing, "an intent is no PUBREC");
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present);
        assert_told(&mut older, version);
        newer.send_again(1, "under way");
        assert_eq!(newer.raw.next(AT_ONCE), Next::Nothing, "nor is the older connection's intent");
        kafka.broker(0).cont();
        newer.pubrec(1);
        assert_eq!(newer.release(1), 0, "{version:?}");
        assert_eq!(pods.ids(&name).iter().collect::<HashSet<_>>().len(), 2, "{version:?}");
        assert_eq!(given(&redis), given_before + 1, "{version:?}: of one session there was none yet");
    }
    pods.assert_ledgers_balance();
}

#[test]
fn an_heir_of_a_pod_that_missed_a_takeover_says_nothing_in_the_name_of_the_session() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for version in BOTH {
        let name = client_id("missed");
        let mut older = Device::kept(pods[0].mqtt(), version, &name);
        older.publish(1, "same looks");
        // Another pod had the session and released the message, and this one was not told.
        let key = session_key(&name);
        redis.server(0).cli(&["HSET", &key, "c", "1000", "t", "1", "o", "elsewhere"]);
        redis.server(0).cli(&["HDEL", &key, "1"]);
        let before = given(&redis);
        let mut heir = Device::kept(pods[0].mqtt(), version, &name);
        // Another message, which has never come here, and a release of one that the other pod had.
        heir.send_again(1, "same looks");
        heir.raw.send(&pubrel(2));
        assert_told(&mut heir, version);
        assert_told(&mut older, version);
        assert_eq!(given(&redis), before, "{version:?}");
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present, "{version:?}");
        newer.publish_again(1, "same looks");
        assert_eq!(newer.release(1), 0, "{version:?}");
        let ids = pods.ids(&name);
        assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (2, 2), "{version:?}: {ids:?}");
    }
    pods.assert_ledgers_balance();
}

#[test]
fn a_will_that_waits_goes_along_and_one_that_does_not_is_had_from_redis() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let name = client_id("will");
    let connect = |payload: &str, delay_seconds: u32| {
        let kept = Connect::kept(Version::V5, &name, EXPIRY_SECONDS);
        kept.will(&topic(&name), payload.as_bytes(), delay_seconds)
    };
    let mut older = Device::connect(pods[0].mqtt(), &connect("waits", 1));
    let mut before = given(&redis);
    let mut newer = Device::connect(pods[0].mqtt(), &connect("waits", 1));
    assert!(newer.session_present);
    assert_told(&mut older, Version::V5);
    assert_eq!(given(&redis), before, "the Will that is there is the one that is wanted");
    throughout("it is not due while the client is there", Duration::from_secs(2), || {
        pods.stored(&name).is_empty()
    });
    for (payload, delay_seconds) in [("another", 1), ("another", 2), ("at once", 0), ("at once", 0)] {
        older = newer;
        newer = Device::connect(pods[0].mqtt(), &connect(payload, delay_seconds));
        assert_told(&mut older, Version::V5);
        before += 1;
        assert_eq!(given(&redis), before, "{payload} {delay_seconds}");
    }
    until("that of the older connection", SOON, || (pods.stored(&name).len() == 1).then_some(()));
    older = newer;
    newer = Device::connect(pods[0].mqtt(), &connect("waits", 1));
    assert_told(&mut older, Version::V5);
    older = newer;
    newer = Device::connect(pods[0].mqtt(), &connect("waits", 1));
    assert_told(&mut older, Version::V5);
    assert_eq!(given(&redis), before + 1);
    drop((older, newer));
    until("that of the heir", SOON, || (pods.stored(&name).len() == 3).then_some(()));
    let texts: Vec<_> = pods.stored(&name).iter().map(|record| record.text().to_owned()).collect();
    assert_eq!(texts, ["at once", "at once", "waits"]);
    pods.assert_ledgers_balance();
}

//! Sessions in a real Redis: who owns one, who is told, what a server that forgets, hangs or moves does to them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use penstock_e2e::Redis;
use penstock_e2e::sessions::{EXPIRY, Owner, Pod, intend, keep};
use penstock_e2e::until::{SOON, START, throughout, until};
use penstock_sidecar::session::record::Change;
use penstock_sidecar::session::redis::LinkError;
use penstock_sidecar::session::store::{Away, Farewell, Notice, StoreError};

/// A pod that has its connections.
fn pod(redis: &Redis, name: &str) -> Pod {
    let pod = Pod::start(redis, name);
    until("the pod is connected to Redis", START, || pod.store().traffic().connected.then_some(()));
    pod
}

/// An operation, asked again until Redis is there.
#[track_caller]
fn available<T>(mut operation: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    until("Redis is there", START, || match operation() {
        Err(StoreError::Unavailable(_)) => None,
        ended => Some(ended),
    })
}

fn connected(pod: &Pod, client_id: &str) -> Owner {
    available(|| pod.connect(client_id)).expect("a session")
}

#[test]
fn a_takeover_is_quick_tells_the_old_owner_and_fences_it_for_good() {
    let redis = Redis::standalone().start();
    let (a, b) = (pod(&redis, "a"), pod(&redis, "b"));
    let old = connected(&a, "device");
    a.write(&old, 0, &[intend(1, 1)]).expect("the owner may write");
    let new = connected(&b, "device");
    assert!(new.taken.present && new.taken.before.as_deref() == Some("a"), "{new:?}");
    assert_eq!(new.taken.incarnation, old.taken.incarnation);
    assert_eq!(new.taken.open.keys().collect::<Vec<_>>(), [&1]);
    let count = new.taken.fence.count;
    let told = Notice::Taken { client_id: "device".into(), count, clean: false };
    until("the old owner is told", Duration::from_millis(500), || a.notices().contains(&told).then_some(()));
    assert_eq!(a.write(&old, 1, &[intend(2, 2)]), Err(StoreError::Fenced));
    assert_eq!(a.leave(&old, false, Farewell::Discard), Err(StoreError::Fenced));
    assert_eq!(a.reclaim(&mut old.clone(), &[]), Err(StoreError::Fenced));
    b.write(&new, 1, &[keep(1, 1)]).expect("the new owner may write");
    // To and fro, two hundred times.
    let mut times: Vec<_> = (0..200)
        .map(|turn| {
            let started = Instant::now();
            connected(if turn % 2 == 0 { &a } else { &b }, "device");
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("takeover: median {:?}, p99 {:?}", times[100], times[198]);
    assert!(times[198] < Duration::from_millis(500), "{times:?}");
}

#[test]
fn a_session_belongs_to_the_identity_that_made_it() {
    let redis = Redis::standalone().start();
    let pod = pod(&redis, "a");
    pod.connect_with("device", "alice", false, None).expect("a session");
    let other = pod.connect_with("device", "bob", true, None).expect_err("another identity");
    assert!(matches!(other, StoreError::WrongIdentity(_)), "{other:?}");
    let again = pod.connect_with("device", "alice", true, None).expect("the same identity");
    assert!(!again.taken.present);
}

#[test]
fn a_session_ends_when_it_is_not_kept_and_outlives_a_dead_pod_by_its_expiry() {
    let redis = Redis::standalone().start();
    let a = pod(&redis, "a");
    let life = || -> i64 {
        let life = redis.server(0).cli(&["PTTL", "penstock:{e2e/telemetry/0}:s:device"]);
        life.parse().expect("a number")
    };
    let hour = i64::try_from(EXPIRY.as_millis()).expect("an hour");
    let owner = connected(&a, "device");
    assert!(life() > hour, "{}", life());
    a.leave(&owner, true, Farewell::Discard).expect("its owner");
    assert!((hour - 10_000..=hour).contains(&life()), "{}", life());
    let owner = connected(&a, "device");
    assert!(owner.taken.present && owner.taken.before.is_none(), "{owner:?}");
    a.leave(&owner, false, Farewell::Discard).expect("its owner");
    assert_eq!(life(), -2);
    assert!(!connected(&a, "device").taken.present);
}

#[test]
fn commands_that_are_due_together_share_a_round_trip_and_are_one_each() {
    let redis = Redis::standalone().start();
    let pod = pod(&redis, "a");
    let owners: Vec<_> = (0..1_000).map(|n| connected(&pod, &format!("device-{n}"))).collect();
    let calls = || redis.commands().get("evalsha").copied().unwrap_or(0);
    let (before, calls_before) = (pod.store().traffic(), calls());
    let results = pod.write_all(&owners, &[intend(1, 1), keep(1, 1), Change::Release { packet_id: 1 }]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let after = pod.store().traffic();
    assert_eq!(after.commands - before.commands, 1_000);
    let trips = after.round_trips - before.round_trips;
    println!("1000 writes in {trips} round trips");
    assert!(trips <= 50, "{trips} round trips");
    // The keeper's own come on top.
    let calls = calls() - calls_before;
    assert!((1_000..=1_020).contains(&calls), "{calls} commands");
}

#[test]
fn a_server_without_scripts_gets_them() {
    let redis = Redis::standalone().start();
    let pod = pod(&redis, "a");
    let owner = connected(&pod, "device");
    for number in 1..=20 {
        redis.server(0).cli(&["SCRIPT", "FLUSH"]);
        pod.write(&owner, number - 1, &[intend(1, number)]).expect("an owner's write");
    }
}

#[test]
fn a_server_that_forgot_everything_is_told_anew_under_another_name() {
    let redis = Redis::standalone().start();
    let pod = pod(&redis, "a");
    let mut owner = connected(&pod, "device");
    pod.write(&owner, 0, &[intend(1, 1)]).expect("an owner's write");
    let incarnation = owner.taken.incarnation;
    redis.flush_all();
    assert_eq!(pod.write(&owner, 1, &[intend(2, 2)]), Err(StoreError::Forgot));
    pod.reclaim(&mut owner, &[intend(2, 1)]).expect("nobody else has it");
    assert_ne!(owner.taken.incarnation, incarnation);
    pod.write(&owner, 1, &[keep(2, 1)]).expect("an owner's write");
    // One who idles is told when its session is renewed.
    let idle = connected(&pod, "idle");
    redis.flush_all();
    let told = Notice::Forgot { client_id: "idle".into(), count: idle.taken.fence.count };
    redis.server(0).cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("the owner is told", SOON, || pod.notices().contains(&told).then_some(()));
}

#[test]
fn a_server_that_restarted_is_not_built_upon() {
    for redis in [Redis::standalone(), Redis::standalone().persistent()] {
        let redis = redis.start();
        let pod = pod(&redis, "a");
        let mut owner = connected(&pod, "device");
        pod.write(&owner, 0, &[intend(1, 1)]).expect("an owner's write");
        redis.server(0).kill();
        let away = until("it is seen that Redis is gone", SOON, || {
            pod.write(&owner, 1, &[])
                .err()
                .filter(|error| *error == StoreError::Unavailable(Away::Disconnected))
        });
        assert_eq!(away.reason(), "Disconnected");
        redis.server(0).restart();
        let found = available(|| pod.write(&owner, 1, &[intend(2, 2)]));
        assert_eq!(found, Err(StoreError::Forgot));
        available(|| pod.reclaim(&mut owner, &[])).expect("nobody else has it");
        pod.write(&owner, 0, &[intend(2, 1)]).expect("an owner's write");
    }
}

#[test]
fn a_server_that_hangs_is_taken_for_away_and_its_late_answers_do_no_harm() {
    let redis = Redis::standalone().start();
    let pod = pod(&redis, "a");
    let owner = connected(&pod, "device");
    redis.server(0).stop();
    let started = Instant::now();
    let away = pod.write(&owner, 0, &[intend(1, 1)]).expect_err("no answer");
    assert!(matches!(away, StoreError::Unavailable(Away::Timeout | Away::Lost)), "{away:?}");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    until("it is refused at once", SOON, || {
        let started = Instant::now();
        let away = pod.connect("other").expect_err("no Redis");
        assert!(matches!(away, StoreError::Unavailable(_)), "{away:?}");
        (started.elapsed() < Duration::from_millis(100)).then_some(())
    });
    redis.server(0).cont();
    // The write may have been done when the server went on; both ends of it are right.
    let again = connected(&pod, "device");
    assert!(again.taken.present && again.taken.issued <= 1, "{again:?}");
    assert_eq!(pod.write(&owner, 0, &[]), Err(StoreError::Fenced));
}

#[test]
fn after_a_failover_under_load_every_owner_finds_that_the_store_may_have_forgotten() {
    let redis = Redis::sentinels().user("penstock", "opens-sesame").start();
    let pod = pod(&redis, "a");
    let mut owners: Vec<_> = (0..50).map(|n| connected(&pod, &format!("device-{n}"))).collect();
    let old = redis.primary();
    let mut number = 0;
    let killed = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            until("a load of a second", SOON, || (redis.commands()["evalsha"] > 200).then_some(()));
            old.kill();
            Instant::now()
        });
        // Every owner writes until it is told that the store forgot, which none may miss.
        let mut open: Vec<usize> = (0..owners.len()).collect();
        until("every owner is told", START, || {
            number += 1;
            open.retain(|&index| match pod.write(&owners[index], 0, &[intend(1, number)]) {
                Ok(()) | Err(StoreError::Unavailable(_)) => true,
                Err(StoreError::Forgot) => false,
                Err(other) => panic!("{other:?}"),
            });
            open.is_empty().then_some(())
        });
        killer.join().expect("a killed primary")
    });
    println!("served again {:?} after the death of the primary", killed.elapsed());
    redis.wait_for_failover(old);
    for owner in &mut owners {
        available(|| pod.reclaim(owner, &[])).expect("nobody else has it");
        pod.write(owner, 0, &[intend(1, 1)]).expect("an owner's write");
    }
    // The old primary comes back as a replica of the new one, and nobody asks it.
    old.restart();
    throughout("owners write", Duration::from_secs(3), || {
        owners.iter().all(|owner| pod.write(owner, 0, &[intend(1, 2)]).is_ok())
    });
}

#[test]
fn sessions_are_kept_by_servers_of_every_kind_with_users_and_tls() {
    for (what, redis) in [
        ("one server", Redis::standalone().user("penstock", "opens-sesame").tls().start()),
        ("Sentinels", Redis::sentinels().user("penstock", "opens-sesame").tls().start()),
        ("a cluster", Redis::cluster().user("penstock", "opens-sesame").tls().start()),
    ] {
        let (a, b) = (pod(&redis, "a"), pod(&redis, "b"));
        for n in 0..40 {
            let client_id = format!("device-{n}");
            let old = connected(&a, &client_id);
            a.write(&old, 0, &[intend(1, 1)]).unwrap_or_else(|error| panic!("{what}: {error}"));
            let new = connected(&b, &client_id);
            assert_eq!(new.taken.open.len(), 1, "{what}: {new:?}");
            assert_eq!(a.write(&old, 1, &[]), Err(StoreError::Fenced), "{what}");
        }
        let told = || a.notices().len();
        let mut sum = 0;
        until(&format!("{what}: the old owner is told of each"), SOON, || {
            sum += told();
            (sum >= 40).then_some(())
        });
    }
}

#[test]
fn a_server_of_a_cluster_that_dies_takes_only_its_own_sessions_away() {
    let redis = Redis::cluster().set("cluster-require-full-coverage", "no").start();
    let pod = pod(&redis, "a");
    let owners: Vec<_> = (0..40).map(|n| connected(&pod, &format!("device-{n}"))).collect();
    redis.server(0).kill();
    let write = |owner: &Owner| pod.write(owner, 0, &[]);
    let going_on = until("some are away and some are not", START, || {
        let away = owners.iter().filter(|owner| write(owner).is_err()).count();
        (away > 0 && away < owners.len()).then_some(owners.len() - away)
    });
    println!("{going_on} of 40 go on");
    redis.server(0).restart();
    for owner in &owners {
        let result = available(|| write(owner));
        assert!(matches!(result, Ok(()) | Err(StoreError::Forgot)), "{result:?}");
    }
}

#[test]
fn a_slot_that_moves_to_another_server_is_followed() {
    let redis = Redis::cluster().start();
    let pod = pod(&redis, "a");
    let mut owner = connected(&pod, "device");
    let key = until("the key of the session", SOON, || {
        redis.servers().iter().find_map(|server| {
            server
                .cli(&["KEYS", "*:s:device"])
                .lines()
                .next()
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
        })
    });
    let slot = redis.server(0).cli(&["CLUSTER", "KEYSLOT", &key]);
    let has = |index: &usize| redis.server(*index).cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) != "0";
    let from = (0..3).find(has).expect("the server that has it");
    let to = (from + 1) % 3;
    let id = |index: usize| redis.server(index).cli(&["CLUSTER", "MYID"]);
    redis.server(to).cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    redis.server(from).cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    let port = redis.server(to).port().to_string();
    for key in redis.server(from).cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).lines() {
        redis.server(from).cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }
    for index in [to, from] {
        redis.server(index).cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
    }
    // Another server may have another past.
    assert_eq!(available(|| pod.write(&owner, 0, &[])), Err(StoreError::Forgot));
    pod.reclaim(&mut owner, &[]).expect("nobody else has it");
    pod.write(&owner, 0, &[intend(1, 1)]).expect("an owner's write");
    assert!(redis.server(to).cli(&["EXISTS", &key]) == "1");
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let redis = Redis::standalone().user("penstock", "opens-sesame").start();
    let pod = Pod::start_with(&redis, "a", "not-the-password");
    let problem = until("it is told", SOON, || pod.store().problem());
    assert!(matches!(problem, LinkError::Authentication { .. }), "{problem:?}");
    let text = format!("{problem} {problem:?}");
    assert!(text.contains("passwordSecret") && !text.contains("not-the-password"), "{text}");
    assert_eq!(pod.connect("device").err(), Some(StoreError::Unavailable(Away::Disconnected)));
    // The right one is used when it is there.
    pod.set_password("opens-sesame");
    connected(&pod, "device");
    assert_eq!(pod.store().problem(), None);
}

#[test]
fn a_full_memory_and_too_few_replicas_are_told_and_harm_nothing() {
    let redis = Redis::standalone().start();
    let pod = pod(&redis, "a");
    let owner = connected(&pod, "device");
    for (setting, bad, good) in [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")] {
        redis.server(0).cli(&["CONFIG", "SET", setting, bad]);
        let refused = pod.write(&owner, 0, &[intend(1, 1)]);
        assert!(matches!(refused, Err(StoreError::Unavailable(Away::Refused(_)))), "{setting}: {refused:?}");
        redis.server(0).cli(&["CONFIG", "SET", setting, good]);
        pod.write(&owner, 0, &[intend(1, 1)]).expect("an owner's write");
    }
}

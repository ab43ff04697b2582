//! How long a session is kept: Session Expiry Interval (§3.1.2.11.2) and, in 3.1.1, CleanSession.

use std::time::{Duration, Instant};

use penstock_e2e::device::{Device, EXPIRY_SECONDS};
use penstock_e2e::load::wire::{self, Connect, SESSION_EXPIRY, Version};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Redis};

use super::{BOTH, handshakes};

#[test]
fn connack_tells_the_expiry_that_holds_where_it_is_not_what_was_asked() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for (asked, told) in [
        (0, None),
        (1, None),
        (EXPIRY_SECONDS, None),
        (EXPIRY_SECONDS + 1, Some(EXPIRY_SECONDS)),
        (u32::MAX, Some(EXPIRY_SECONDS)),
    ] {
        for clean in [true, false] {
            let mut connect = Connect::kept(Version::V5, &client_id("asks"), asked);
            connect.clean = clean;
            let device = Device::connect(pods[0].mqtt(), &connect);
            assert_eq!(device.connack.number(SESSION_EXPIRY), told, "{asked}, clean {clean}");
            assert!(!device.session_present);
        }
    }
    // None asked for is 0.
    let device = Device::clean(pods[0].mqtt(), Version::V5, &client_id("asks"));
    assert_eq!(device.connack.number(SESSION_EXPIRY), None);
}

#[test]
fn a_session_is_there_until_it_expires_and_then_it_is_not() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| {
        pipeline.set("/spec/endpoints/0/mqtt/sessionExpirySeconds", 3)
    });
    for version in BOTH {
        let name = client_id("expires");
        let connect = Connect::kept(version, &name, 100);
        let mut device = Device::connect(pods[0].mqtt(), &connect);
        device.publish(1, "x");
        drop(device);
        let mut device = Device::connect(pods[1].mqtt(), &connect);
        assert!(device.session_present, "{version:?}");
        assert_eq!(device.release(1), 0);
        // It does not expire under a client that is there.
        let connected = Instant::now();
        until("longer than its expiry", SOON, || {
            (connected.elapsed() > Duration::from_secs(5)).then_some(())
        });
        assert!(handshakes(&redis, &name).is_some(), "{version:?}");
        drop(device);
        let gone = Instant::now();
        until("it expires", SOON, || handshakes(&redis, &name).is_none().then_some(()));
        assert!(gone.elapsed() > Duration::from_millis(2_800), "{version:?}: {:?}", gone.elapsed());
        assert!(!Device::connect(pods[1].mqtt(), &connect).session_present, "{version:?}");
    }
}

#[test]
fn disconnect_may_say_another_expiry() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    for (seconds, kept) in [(0, false), (1, false), (EXPIRY_SECONDS, true), (u32::MAX, true)] {
        let name = client_id("leaves");
        let mut device = Device::kept(pods[0].mqtt(), Version::V5, &name);
        device.raw.send(&wire::disconnect(0, Some(seconds)));
        assert_eq!(device.raw.packets_until_closed(SOON), []);
        if !kept {
            until("it is gone", SOON, || handshakes(&redis, &name).is_none().then_some(()));
        }
        let again = Device::kept(pods[1].mqtt(), Version::V5, &name);
        assert_eq!(again.session_present, kept, "{seconds}");
        let life: i64 = redis.server(0).cli(&["TTL", &super::session_key(&name)]).parse().expect("a number");
        assert!(life <= i64::from(3 * EXPIRY_SECONDS), "never longer than the pipeline allows: {life}");
    }
    // A normal DISCONNECT ends no session that has an expiry.
    for version in BOTH {
        let name = client_id("leaves");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        device.publish(1, "x");
        device.raw.send(&wire::DISCONNECT);
        assert_eq!(device.raw.packets_until_closed(SOON), []);
        let mut again = Device::kept(pods[1].mqtt(), version, &name);
        assert!(again.session_present);
        assert_eq!(again.release(1), 0, "{version:?}");
    }
}

#[test]
fn a_session_that_was_kept_goes_on_and_ends_with_a_connection_that_does_not_keep_it() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let name = client_id("once-more");
    let mut device = Device::kept(pods[0].mqtt(), Version::V5, &name);
    device.publish(1, "x");
    drop(device);
    // Clean Start 0 and no expiry: what is there goes on, for the last time.
    let mut device = Device::connect(pods[1].mqtt(), &Connect::kept(Version::V5, &name, 0));
    assert!(device.session_present);
    assert_eq!(device.release(1), 0);
    drop(device);
    until("nothing is kept", SOON, || handshakes(&redis, &name).is_none().then_some(()));
    assert!(!Device::kept(pods[0].mqtt(), Version::V5, &name).session_present);
}

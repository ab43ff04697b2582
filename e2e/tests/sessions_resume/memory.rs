//! Sessions in the memory of the one pod: they outlive a connection, and end with the process.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use penstock_e2e::device::{Device, EXPIRY_SECONDS, unknown};
use penstock_e2e::load::wire::{Connect, Packet};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::ANSWER;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline};
use serde_json::json;

use super::BOTH;

pub(super) fn in_memory(pipeline: Pipeline) -> Pipeline {
    pipeline
        .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", EXPIRY_SECONDS)
        .set("/spec/sessions", json!({"memory": {}}))
        .set("/spec/edge/replicas", 1)
}

#[test]
fn a_client_that_comes_back_to_its_pod_goes_on_and_one_that_comes_to_a_new_process_begins_anew() {
    let mut pods = Pods::one(Kafka::shared(), in_memory);
    let clients = BOTH.map(|version| {
        let name = client_id("memory");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        assert!(!device.session_present);
        let receipt = device.publish(1, "one");
        device.publish(2, "two");
        // Taken over on the pod, and come back after a lost connection.
        let mut newer = Device::kept(pods[0].mqtt(), version, &name);
        assert!(newer.session_present, "{version:?}");
        assert!(
            device
                .raw
                .packets_until_closed(ANSWER)
                .iter()
                .all(|packet| matches!(packet, Packet::Disconnect { reason: 0x8E, .. }))
        );
        assert_eq!(newer.publish_again(1, "one"), receipt);
        drop(newer);
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        assert!(device.session_present, "{version:?}");
        assert_eq!(device.publish_again(1, "one"), receipt);
        assert_eq!(device.release(1), 0);
        assert_eq!(device.release(1), unknown(version));
        assert_eq!(pods.ids(&name).len(), 2, "{version:?}: what is in memory is not stored twice");
        (version, name)
    });
    pods[0].assert_ledger_balances();
    pods[0].restart();
    for (version, name) in clients {
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        assert!(!device.session_present, "{version:?}");
        assert_eq!(device.release(2), unknown(version));
        device.publish_again(2, "two");
        assert_eq!(pods.ids(&name).iter().collect::<HashSet<_>>().len(), 3, "{version:?}");
    }
}

#[test]
fn a_session_in_memory_expires_and_is_forgotten_by_clean_start() {
    let pods = Pods::one(Kafka::shared(), in_memory);
    for version in BOTH {
        let name = client_id("memory");
        let mut device = Device::kept(pods[0].mqtt(), version, &name);
        device.publish(1, "x");
        drop(device);
        let mut clean = Device::clean(pods[0].mqtt(), version, &name);
        assert!(!clean.session_present);
        assert_eq!(clean.release(1), unknown(version));
        drop(clean);
        assert!(!Device::kept(pods[0].mqtt(), version, &name).session_present, "{version:?}");
    }
    let pods = Pods::one(Kafka::shared(), |pipeline| {
        in_memory(pipeline).set("/spec/endpoints/0/mqtt/sessionExpirySeconds", 2)
    });
    for version in BOTH {
        let name = client_id("memory");
        let connect = Connect::kept(version, &name, 100);
        drop(Device::connect(pods[0].mqtt(), &connect));
        assert!(Device::connect(pods[0].mqtt(), &connect).session_present, "{version:?}");
        let gone = Instant::now();
        until("longer than its expiry", SOON, || (gone.elapsed() > Duration::from_secs(4)).then_some(()));
        assert!(!Device::connect(pods[0].mqtt(), &connect).session_present, "{version:?}");
    }
}

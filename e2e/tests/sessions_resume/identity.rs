//! A session belongs to the identity that made it.

use penstock_e2e::credentials::bcrypt_line;
use penstock_e2e::device::{Device, EXPIRY_SECONDS};
use penstock_e2e::load::wire::{Connect, Packet, Version};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::{ANSWER, Raw};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Redis};
use serde_json::json;

use super::handshakes;

#[test]
fn another_identity_gets_no_session_of_somebody_else_and_disturbs_nobody() {
    let redis = Redis::standalone().start();
    let users = [bcrypt_line("alice", "a", 4), bcrypt_line("bob", "b", 4)].concat();
    let pods = Pods::start(Kafka::shared(), 2, &[("secrets/devices/users", users)], |pipeline| {
        pipeline
            .set("/spec/endpoints/0/authentication", json!({"basic": {"usersSecret": {"name": "devices"}}}))
            .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", EXPIRY_SECONDS)
            .set("/spec/sessions", redis.spec())
    });
    for (version, refused) in [(Version::V311, 5), (Version::V5, 0x87)] {
        let name = client_id("whose");
        let as_alice = Connect::kept(version, &name, EXPIRY_SECONDS).login("alice", "a");
        let mut alice = Device::connect(pods[0].mqtt(), &as_alice);
        alice.publish(1, "x");
        let demand_refusal = |what: &str| {
            for pod in [0, 1] {
                for clean in [false, true] {
                    let mut as_bob = Connect::kept(version, &name, EXPIRY_SECONDS).login("bob", "b");
                    as_bob.clean = clean;
                    let (mut raw, packet) = Raw::mqtt_with(pods[pod].mqtt(), &as_bob);
                    assert!(
                        matches!(packet, Packet::ConnAck { code, session_present: false, .. } if code == refused),
                        "{what}, pod {pod}, clean {clean}: {packet:?}"
                    );
                    assert!(raw.is_closed_within(ANSWER));
                }
            }
        };
        demand_refusal("while she is connected");
        alice.assert_quiet();
        drop(alice);
        demand_refusal("while she is away");
        let mut alice = Device::connect(pods[1].mqtt(), &as_alice);
        assert!(alice.session_present, "{version:?}");
        assert_eq!(alice.release(1), 0);
        // When hers has ended it is his.
        drop(alice);
        let as_nobody = Connect { clean: true, properties: Vec::new(), ..as_alice };
        drop(Device::connect(pods[0].mqtt(), &as_nobody));
        until("it has ended", SOON, || handshakes(&redis, &name).is_none().then_some(()));
        let as_bob = Connect::kept(version, &name, EXPIRY_SECONDS).login("bob", "b");
        assert!(!Device::connect(pods[0].mqtt(), &as_bob).session_present);
    }
}

//! The generators work against a broker that is not ours.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::{SocketAddr, TcpStream};

use penstock_e2e::load::Plan;
use penstock_e2e::load::wire::Version;
use penstock_e2e::until::{SOON, START};
use penstock_e2e::{Process, folder, parts, ports};

#[test]
fn mosquitto_acknowledges_every_generated_message_and_a_restart_is_resent() {
    let folder = folder::fresh("mosquitto-");
    let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let configuration = folder.path().join("mosquitto.conf");
    std::fs::write(&configuration, format!("listener {} 127.0.0.1\nallow_anonymous true\n", address.port()))
        .unwrap();
    let start = || {
        let arguments = ["-c".as_ref(), configuration.as_os_str()];
        let mut process = Process::start("mosquitto", folder.path(), parts::program("mosquitto"), arguments);
        process.until("it takes connections", START, || TcpStream::connect(address).ok());
        process
    };
    let mut mosquitto = start();
    for version in [Version::V311, Version::V5] {
        let load = Plan::mqtt(address, version).clients(4).window(20).rate(4000).start();
        load.wait_acknowledged(1000);
        mosquitto.kill();
        mosquitto = start();
        load.wait_acknowledged(1000);
        let history = load.finish(SOON);
        assert_eq!(history.irregular, [""; 0]);
        assert_eq!(history.acknowledged(), history.messages.len());
        assert_eq!(history.closes.len(), 4);
    }
}

//! The generators work against a broker that is not ours.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use penstock_e2e::checker::History;
use penstock_e2e::load::Plan;
use penstock_e2e::load::wire::Version;
use penstock_e2e::pki::Authority;
use penstock_e2e::secure::Identity;
use penstock_e2e::until::{SOON, START, within};
use penstock_e2e::{Balancer, Process, folder, parts, ports};

/// Starts mosquitto on a port, with more lines of configuration.
fn start(folder: &Path, address: SocketAddr, more: &str) -> Process {
    let configuration = folder.join("mosquitto.conf");
    let listener = format!("listener {} 127.0.0.1\n", address.port());
    std::fs::write(&configuration, format!("{listener}allow_anonymous true\n{more}")).unwrap();
    let arguments = ["-c".as_ref(), configuration.as_os_str()];
    let mut process = Process::start("mosquitto", folder, parts::program("mosquitto"), arguments);
    process.until("it takes connections", START, || TcpStream::connect(address).ok());
    process
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free()))
}

/// Four clients of this plan, mosquitto killed and started again under them: everything is acknowledged, some of it when it was
/// sent again.
fn over_a_restart(plan: Plan, mosquitto: &mut Process, start: impl Fn() -> Process) -> History {
    let load = plan.clients(4).window(20).rate(4000).start();
    load.wait_acknowledged(1000);
    mosquitto.kill();
    *mosquitto = start();
    load.wait_acknowledged(1000);
    let history = load.finish(SOON);
    assert_eq!(history.irregular, [""; 0]);
    assert_eq!(history.acknowledged(), history.messages.len());
    assert_eq!(history.closes.len(), 4);
    history
}

#[test]
fn mosquitto_acknowledges_every_generated_message_and_a_restart_is_resent() {
    let (folder, address) = (folder::fresh("mosquitto-"), address());
    let start = || start(folder.path(), address, "");
    let mut mosquitto = start();
    for version in [Version::V311, Version::V5] {
        over_a_restart(Plan::mqtt(address, version), &mut mosquitto, start);
    }
}

#[test]
fn generators_speak_tls_and_tell_to_which_pod_each_message_went() {
    let authority = Authority::fresh();
    authority.issue("server", "/CN=server", &["DNS:localhost"]);
    // It gives up its rights, and with them those to read a key of ours.
    let files = ["ca.crt", "server.crt", "server.key"].map(|file| authority.path(file));
    let more = format!("cafile {}\ncertfile {}\nkeyfile {}\nuser root\n", files[0], files[1], files[2]);
    let (folder, address) = (folder::fresh("mosquitto-"), address());
    let start = || start(folder.path(), address, &more);
    let mut mosquitto = start();
    let balancer = Balancer::start();
    // Nobody is the first.
    balancer.serve(vec![self::address(), address]);
    let identity = Identity::new(&authority, None);
    for (version, qos) in [(Version::V311, 1), (Version::V5, 2)] {
        let plan = Plan::mqtt(balancer.address(), version).through(&balancer).secure(&identity).qos(qos);
        let history = over_a_restart(plan.clean_session(), &mut mosquitto, start);
        let lines: Vec<_> = history.messages.iter().map(|message| history.describe(message)).collect();
        assert!(lines.iter().all(|line| line.contains(", answered at ") && line.contains(", on pod 1")));
        let again = lines.iter().filter(|line| line.contains(", on pod 1, then 1"));
        assert!(again.count() > 0, "some were answered on another connection than they were sent on");
    }
}

#[test]
fn a_generator_tells_of_a_certificate_that_it_does_not_trust() {
    let (authority, other) = (Authority::fresh(), Authority::fresh());
    authority.issue("server", "/CN=server", &["DNS:localhost"]);
    let files = ["server.crt", "server.key"].map(|file| authority.path(file));
    let (folder, address) = (folder::fresh("mosquitto-"), address());
    let _mosquitto =
        start(folder.path(), address, &format!("certfile {}\nkeyfile {}\nuser root\n", files[0], files[1]));
    let load = Plan::mqtt(address, Version::V5).secure(&Identity::new(&other, None)).clients(1).start();
    let _ = within(Duration::from_secs(1), || None::<()>);
    let history = load.abandon();
    assert!(history.irregular[0].contains("TLS: invalid peer certificate"), "{:?}", history.irregular);
}

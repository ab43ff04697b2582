//! `make demo`: what a newcomer sees first works, and fails when it should.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::Path;
use std::process::Command;

use penstock_e2e::{folder, ports, sidecar};

/// The demo on free ports.
fn demo(data: &Path) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("demo.sh"));
    command.env("PENSTOCK_SIDECAR_BIN", sidecar::binary()).env("PENSTOCK_DEMO_DATA", data);
    for port in ["MQTT", "HTTP", "ADMIN", "KAFKA"] {
        command.env(format!("PENSTOCK_DEMO_{port}_PORT"), ports::free().to_string());
    }
    command
}

/// Whether it ended well, and what it printed.
fn run(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
fn the_demo_finds_every_message_and_goes_on_with_the_same_folder() {
    let folder = folder::fresh("demo-");
    for round in 0..2 {
        let (good, text) = run(demo(folder.path()));
        assert!(good, "round {round}: {text}");
        for part in ["penstock-offset:", "received PUBACK", "\"acknowledged\": 5", "5 found in the log"] {
            assert!(text.contains(part), "{part} in round {round}: {text}");
        }
        let offset = format!("penstock-offset: {round}\r");
        assert!(text.contains(&offset), "the second run stores after what the first one left: {text}");
    }
}

#[test]
fn the_demo_fails_when_the_log_has_not_what_was_acknowledged() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder::fresh("demo-");
    // A kcat that finds nothing.
    let kcat = folder.path().join("kcat");
    std::fs::write(&kcat, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&kcat, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = demo(&folder.path().join("data"));
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    let (good, text) = run(command);
    assert!(!good && text.contains("not every acknowledged message is where its receipt says"), "{text}");
}

#[test]
fn the_demo_says_which_port_is_taken() {
    let folder = folder::fresh("demo-");
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = demo(folder.path());
    command.env("PENSTOCK_DEMO_MQTT_PORT", &port);
    let (good, text) = run(command);
    assert!(!good && text.contains(&port) && text.contains("PENSTOCK_DEMO_MQTT_PORT="), "{text}");
}

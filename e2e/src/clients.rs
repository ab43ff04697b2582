//! Real clients: curl, mosquitto_pub, paho; for those that publish many messages see [`crate::publishers`].

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::load::wire::Version;
use crate::parts;
use crate::place::Place;
use crate::process::run;
use crate::raw::{Response, parse_response};

/// Runs curl and returns the response; `arguments` are added to `-sS -i`.
#[track_caller]
pub fn curl(address: SocketAddr, path: &str, arguments: &[&str]) -> Response {
    curl_in(&Place::here(), address, path, arguments)
}

/// As [`curl`], elsewhere.
#[track_caller]
pub fn curl_in(place: &Place, address: SocketAddr, path: &str, arguments: &[&str]) -> Response {
    let mut command = place.command(parts::program("curl"));
    command.args(["-sS", "-i", "--max-time", "60", "-H", "Expect:"]).args(arguments);
    let text = run(command.arg(format!("http://{address}{path}")));
    // curl writes HTTP/2 heads in the same form; interim responses are not asked for.
    let (response, _) = parse_response(text.as_bytes()).unwrap_or_else(|| panic!("not a response: {text}"));
    response
}

/// Runs curl over TLS and returns the response; `arguments` say what it trusts and shows.
#[track_caller]
pub fn curl_tls(address: SocketAddr, path: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(parts::program("curl"));
    command.args(["-sS", "-i", "--max-time", "60", "-H", "Expect:"]).args(arguments);
    command.arg(format!("https://localhost:{}{path}", address.port())).output().expect("curl runs")
}

/// Runs mosquitto_pub at QoS 1, and returns what it said.
#[track_caller]
pub fn mosquitto_pub(address: SocketAddr, version: Version, topic: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(parts::program("mosquitto_pub"));
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(["-V", if version == Version::V5 { "mqttv5" } else { "mqttv311" }, "-q", "1", "-t", topic]);
    command.args(arguments).output().expect("mosquitto_pub runs")
}

/// Runs `e2e/clients/paho_publish.py`, which publishes `count` messages and prints a JSON object about what it saw.
#[track_caller]
pub fn paho_publish(
    address: SocketAddr,
    version: Version,
    topic: &str,
    prefix: &str,
    count: usize,
) -> serde_json::Value {
    paho_publish_with(None, address, version, topic, prefix, count, &[])
}

/// As [`paho_publish`], with user name and password, and with `--ca FILE` for TLS and `--web-socket PATH`.
#[track_caller]
pub fn paho_publish_with(
    login: Option<(&str, &str)>,
    address: SocketAddr,
    version: Version,
    topic: &str,
    prefix: &str,
    count: usize,
    options: &[&str],
) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/paho_publish.py");
    let mut command = Command::new(parts::file("clients", "venv/bin/python"));
    if let Some((user, password)) = login {
        command.env("PAHO_USER", user).env("PAHO_PASSWORD", password);
    }
    let text = run(command
        .arg(script)
        .args([
            // The name in certificates, where there are any.
            if options.is_empty() { address.ip().to_string() } else { "localhost".to_owned() },
            address.port().to_string(),
            if version == Version::V5 { "5" } else { "311" }.to_owned(),
            topic.to_owned(),
            prefix.to_owned(),
            count.to_string(),
        ])
        .args(options));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

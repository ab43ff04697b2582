//! MQTT clients that nobody here wrote, publishing many messages in a session that is kept: each says what it was
//! answered, and the ledger checker judges.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::checker::{History, Message, Outcome, Receipt};
use crate::load::wire::Version;
use crate::{Process, folder, parts};

/// As many as there are packet identifiers: mosquitto_pub gives each line one at once, and leaves when the last is answered,
/// which with more would be an early one.
pub const MOSQUITTO_MESSAGES: u64 = 65_535;

/// A client and its language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// paho-mqtt for Python.
    PahoPython,
    /// Eclipse Paho for Java: the v3 client for 3.1.1, the v5 client for 5.
    PahoJava,
    /// mosquitto_pub, which sends the lines of a file. It leaves when an MQTT 5 server sends it away.
    Mosquitto,
    /// mqtt.js.
    MqttJs,
}

/// What to publish.
#[derive(Clone, Debug)]
pub struct Script {
    /// Where to.
    pub server: SocketAddr,
    /// Protocol version.
    pub version: Version,
    /// QoS of each message.
    pub qos: u8,
    /// Topic of each message.
    pub topic: String,
    /// The record key to which that topic leads.
    pub key: String,
    /// What tells its messages, and its client identifier, from those of others.
    pub name: String,
    /// How many messages.
    pub count: u64,
}

/// A client at work.
pub struct Publishing {
    script: Script,
    process: Process,
    publisher: Publisher,
    folder: TempDir,
}

impl Script {
    /// The payload of one message, which [`crate::checker`] knows again.
    pub fn payload(&self, number: u64) -> String {
        Message::identity(&self.name, 0, number)
    }

    /// What was sent and answered: `answers` are numbers of messages, with a receipt where there was one. `sends` is how
    /// often a message may have been sent.
    pub fn history(&self, answers: impl IntoIterator<Item = (u64, Option<Receipt>)>, sends: u32) -> History {
        let mut messages: Vec<_> = (0..self.count)
            .map(|sequence| Message {
                client: 0,
                key: Some(self.key.clone()),
                sequence,
                payload: self.payload(sequence).into_bytes(),
                sends,
                sent: None,
                answered: None,
                once: self.qos == 2,
                outcome: Outcome::Open,
            })
            .collect();
        for (number, receipt) in answers {
            messages[number as usize].outcome = Outcome::Acknowledged(receipt);
        }
        History { messages, ..History::default() }
    }
}

impl Publisher {
    /// Starts the client and returns at once.
    #[track_caller]
    pub fn start(self, script: Script) -> Publishing {
        let folder = folder::fresh("publisher-");
        let arguments = [
            script.server.ip().to_string(),
            script.server.port().to_string(),
            if script.version == Version::V5 { "5" } else { "311" }.to_owned(),
            script.topic.clone(),
            script.name.clone(),
            script.count.to_string(),
            script.qos.to_string(),
        ];
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let program = |name: &str| programs.join(name).display().to_string();
        let (command, before, environment) = match self {
            Self::PahoPython => {
                (parts::file("clients", "venv/bin/python"), vec![program("paho_publish.py")], None)
            }
            Self::PahoJava => {
                let libraries = format!("{}/*", parts::file("paho-java", "libs").display());
                let before =
                    ["-Xmx256m".to_owned(), "-cp".to_owned(), libraries, program("PahoPublish.java")];
                (parts::program("java"), before.to_vec(), None)
            }
            Self::MqttJs => {
                let modules = parts::file("mqttjs", "node_modules").display().to_string();
                (parts::program("node"), vec![program("mqttjs_publish.js")], Some(modules))
            }
            Self::Mosquitto => {
                assert!(script.count <= MOSQUITTO_MESSAGES, "mosquitto_pub cannot publish as many");
                let lines: String = (0..script.count).map(|number| script.payload(number) + "\n").collect();
                std::fs::write(folder.path().join("lines"), lines).expect("a file for the messages");
                let version = if script.version == Version::V5 { "mqttv5" } else { "mqttv311" };
                let publish = format!(
                    r#"exec "$0" -d -h "$1" -p "$2" -V {version} -t "$4" -i "mosquitto-$5" -q "$7" -c -l <lines 2>warnings"#
                );
                let program = parts::program("mosquitto_pub").display().to_string();
                (parts::program("sh"), vec!["-c".to_owned(), publish, program], None)
            }
        };
        let arguments = before.into_iter().chain(arguments);
        let environment = environment.as_deref().map(|modules| ("NODE_PATH", modules));
        let process =
            Process::start_with("publisher", folder.path(), command, arguments, environment.as_slice());
        Publishing { script, process, publisher: self, folder }
    }
}

impl Publishing {
    /// Waits until the client has every answer and has left. `restarts` is how often the test took its connection away:
    /// so often a message may have been sent again.
    ///
    /// # Panics
    /// When it fails, or has not ended after `deadline`.
    #[track_caller]
    pub fn finish(mut self, restarts: u32, deadline: Duration) -> History {
        let code = self.process.wait_exit_code(deadline);
        assert_eq!(code, 0, "{:?}\n{}", self.publisher, self.process.log_tail());
        let log = self.process.log();
        if self.publisher == Publisher::Mosquitto {
            let warnings = std::fs::read_to_string(self.folder.path().join("warnings")).expect("a file");
            // What a handshake gets that is over already, and is ended again.
            let refused = |line: &&str| !line.ends_with("failed: Packet Identifier not found.");
            assert_eq!(warnings.lines().find(refused), None, "a message was refused");
            return self.script.history(mosquitto_answers(&log, self.script.qos), 1 + restarts);
        }
        let line = log.lines().rev().find(|line| line.starts_with('{'));
        let answers: Value =
            serde_json::from_str(line.unwrap_or_else(|| panic!("no answers in {log}"))).expect("JSON");
        let none = Vec::new();
        let failed = answers["failed"].as_array().unwrap_or(&none);
        assert!(
            failed.is_empty(),
            "{:?}: {} messages failed, the first: {}",
            self.publisher,
            failed.len(),
            failed[0]
        );
        let connects = answers["connects"].as_u64().expect("a number of connections") as u32;
        let acknowledged = answers["acknowledged"].as_array().expect("a list");
        let numbers = acknowledged.iter().map(|answer| {
            let number = answer["number"].as_u64().expect("a number");
            (number, receipt(&answer["receipt"]))
        });
        self.script.history(numbers, connects.max(1 + restarts))
    }
}

/// The messages that mosquitto_pub was told to be kept, by its own log: it ends with code 0 also with fewer.
fn mosquitto_answers(log: &str, qos: u8) -> impl Iterator<Item = (u64, Option<Receipt>)> {
    // A PUBREC is shown without its reason code: a refusal has a warning beside it.
    let packet = if qos == 2 { " received PUBREC (Mid: " } else { " received PUBACK (Mid: " };
    log.lines().filter_map(move |line| {
        let (_, rest) = line.split_once(packet)?;
        let (packet_id, _) = rest.split_once(|next: char| !next.is_ascii_digit())?;
        Some((packet_id.parse::<u64>().ok()?.checked_sub(1)?, None))
    })
}

fn receipt(answer: &Value) -> Option<Receipt> {
    let text = |name: &str| answer[name].as_str();
    Some(Receipt {
        id: text("id")?.to_owned(),
        topic: text("topic")?.to_owned(),
        partition: text("partition")?.parse().ok()?,
        offset: text("offset").and_then(|offset| offset.parse().ok()),
    })
}

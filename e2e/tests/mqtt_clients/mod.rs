//! MQTT clients that nobody here wrote: each publishes, loses the edge with messages on the way, comes back, and nothing
//! that it was told is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod exactly_once;
mod rumqttc_publisher;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use self::rumqttc_publisher::Rumqttc;
use penstock_e2e::checker::{History, Verdict, check};
use penstock_e2e::load::wire::Version;
use penstock_e2e::publishers::{Publisher, Publishing, Script};
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
/// A client may take as long for its messages as small machines need.
const PATIENCE: Duration = Duration::from_secs(300);

/// Any of the clients.
#[derive(Clone, Copy, Debug)]
enum Client {
    Program(Publisher),
    Rumqttc,
}

enum Running {
    Program(Publishing),
    Rumqttc(Rumqttc),
}

impl Client {
    fn start(self, script: Script) -> Running {
        match self {
            Self::Program(publisher) => Running::Program(publisher.start(script)),
            Self::Rumqttc => Running::Rumqttc(Rumqttc::start(script)),
        }
    }
}

impl Running {
    #[track_caller]
    fn finish(self, restarts: u32, patience: Duration) -> History {
        match self {
            Self::Program(publishing) => publishing.finish(restarts, patience),
            Self::Rumqttc(publishing) => publishing.finish(restarts, patience),
        }
    }
}

/// The edge and its Kafka.
struct Site {
    kafka: Kafka,
    topic: String,
    sidecar: Sidecar,
}

impl Site {
    fn start(change: impl FnOnce(Pipeline) -> Pipeline) -> Self {
        let kafka = Kafka::single().start();
        let topic = kafka.create_topic("clients", 3);
        let pipeline = change(Pipeline::telemetry(&kafka, &topic).ack_timeout(60));
        let sidecar = Sidecar::run(&pipeline).start();
        Self { kafka, topic, sidecar }
    }

    fn script(&self, version: Version, qos: u8, count: u64) -> Script {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Script {
            server: self.sidecar.mqtt(),
            version,
            qos,
            topic: format!("v1/p/{name}/telemetry"),
            key: format!("p/{name}"),
            name,
            count,
        }
    }

    /// Takes the edge away by SIGKILL while Kafka is stopped, so that messages are on the way for sure, and brings both
    /// back.
    fn lose_the_edge(&mut self) {
        self.kafka.broker(0).stop();
        until("messages on the way", SOON, || (self.sidecar.total("inFlight") > 0).then_some(()));
        self.sidecar.kill9();
        self.kafka.broker(0).cont();
        self.sidecar.restart();
    }

    fn verdict(&self, history: &History) -> Verdict {
        let key = history.messages[0].key.clone().unwrap();
        let mut records = self.kafka.read(&self.topic);
        records.retain(|record| record.key() == Some(&key));
        check(history, &records)
    }
}

/// QoS 0, and QoS 1 through the death of the edge, in both versions.
#[track_caller]
fn publish_through_a_kill(client: Client) {
    let mut site = Site::start(|pipeline| pipeline);
    for version in BOTH {
        let script = site.script(version, 0, 1_000);
        let key = script.key.clone();
        client.start(script).finish(0, PATIENCE);
        until("everything of QoS 0 is stored", SOON, || {
            let records = site.kafka.read(&site.topic);
            (records.iter().filter(|record| record.key() == Some(&key)).count() == 1_000).then_some(())
        });

        site.kafka.broker(0).stop();
        let running = client.start(site.script(version, 1, 1_000));
        site.lose_the_edge();
        let verdict = site.verdict(&running.finish(1, PATIENCE));
        verdict.assert_kept();
        assert_eq!((verdict.acknowledged, verdict.stored), (1_000, 1_000), "{client:?} {version:?}");
    }
    site.sidecar.assert_ledger_balances();
}

#[test]
fn paho_for_python_loses_nothing_with_the_edge() {
    publish_through_a_kill(Client::Program(Publisher::PahoPython));
}

#[test]
fn paho_for_java_loses_nothing_with_the_edge() {
    publish_through_a_kill(Client::Program(Publisher::PahoJava));
}

#[test]
fn mosquitto_pub_loses_nothing_with_the_edge() {
    publish_through_a_kill(Client::Program(Publisher::Mosquitto));
}

#[test]
fn mqtt_js_loses_nothing_with_the_edge() {
    publish_through_a_kill(Client::Program(Publisher::MqttJs));
}

#[test]
fn rumqttc_loses_nothing_with_the_edge() {
    publish_through_a_kill(Client::Rumqttc);
}

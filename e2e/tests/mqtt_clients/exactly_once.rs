//! QoS 2 through two deaths of the edge, with sessions in Redis: no message is lost, none is stored under two ids.

use std::time::Duration;

use penstock_e2e::Redis;
use penstock_e2e::publishers::{MOSQUITTO_MESSAGES, Publisher};
use penstock_e2e::until::until;

use super::{BOTH, Client, Site};

/// How many messages each client publishes in each version, unless `PENSTOCK_QOS2_MESSAGES` says otherwise.
const MESSAGES: u64 = 5_000;
/// How long a message may take at the slowest.
const EACH: Duration = Duration::from_millis(5);

fn messages() -> u64 {
    let told = std::env::var("PENSTOCK_QOS2_MESSAGES").ok();
    told.map_or(MESSAGES, |count| count.parse().expect("a number of messages"))
}

#[track_caller]
fn publish_exactly_once_through_kills(client: Client) {
    let redis = Redis::standalone().start();
    let mut site = Site::start(|pipeline| {
        pipeline
            .set("/spec/endpoints/0/mqtt/maximumQoS", "ExactlyOnce")
            .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", 3_600)
            // paho for Java repeats a message with the alias of the connection that it was sent on first.
            .set("/spec/endpoints/0/mqtt/topicAliasMaximum", 0)
            .set("/spec/sessions", redis.spec())
    });
    let count = match client {
        Client::Program(Publisher::Mosquitto) => messages().min(MOSQUITTO_MESSAGES),
        _ => messages(),
    };
    let patience = super::PATIENCE + EACH * u32::try_from(count).unwrap();
    for version in BOTH {
        let running = client.start(site.script(version, 2, count));
        let before = site.sidecar.total("acknowledged");
        until("a third of the messages", patience, || {
            (site.sidecar.total("acknowledged") - before >= count / 3).then_some(())
        });
        // With messages for sure that have no PUBREC; then in full flow, with messages at every step.
        site.lose_the_edge();
        until("the first answers", patience, || (site.sidecar.total("acknowledged") > 0).then_some(()));
        site.sidecar.kill9();
        site.sidecar.restart();
        let verdict = site.verdict(&running.finish(2, patience));
        let verdict = if client.resends_without_dup() { verdict.allow_two_ids() } else { verdict };
        verdict.assert_kept();
        let expected = usize::try_from(count).unwrap();
        assert_eq!((verdict.acknowledged, verdict.stored), (expected, expected), "{client:?} {version:?}");
    }
    site.sidecar.assert_ledger_balances();
}

impl Client {
    /// Breaks [MQTT-3.3.1-1]: what it sends again is a new message for a server that goes by DUP.
    fn resends_without_dup(self) -> bool {
        matches!(self, Self::Program(Publisher::MqttJs))
    }
}

#[test]
fn paho_for_python_publishes_exactly_once_through_two_deaths_of_the_edge() {
    publish_exactly_once_through_kills(Client::Program(Publisher::PahoPython));
}

#[test]
fn mosquitto_pub_publishes_exactly_once_through_two_deaths_of_the_edge() {
    publish_exactly_once_through_kills(Client::Program(Publisher::Mosquitto));
}

#[test]
fn paho_for_java_publishes_exactly_once_through_two_deaths_of_the_edge() {
    publish_exactly_once_through_kills(Client::Program(Publisher::PahoJava));
}

#[test]
fn mqtt_js_loses_nothing_at_qos_2_through_two_deaths_of_the_edge() {
    publish_exactly_once_through_kills(Client::Program(Publisher::MqttJs));
}

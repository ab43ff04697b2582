//! The checker finds what it is there for: builds of the sidecar with one bug each are caught, and the same program without
//! a bug is not.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::time::Duration;

use penstock_e2e::checker::{Verdict, check};
use penstock_e2e::load::{Load, Plan};
use penstock_e2e::sidecar::unbalanced;
use penstock_e2e::until::{SOON, until, within};
use penstock_e2e::{Kafka, Pipeline, Redis, Sidecar};
use serde_json::Value;

const FINISH: Duration = Duration::from_secs(120);

/// A sidecar, with or without a bug, and what it writes to.
struct Site {
    kafka: Kafka,
    _redis: Redis,
    topic: String,
    sidecar: Sidecar,
}

impl Site {
    fn start(bug: Option<&'static str>, ack_timeout: u32) -> Self {
        let (kafka, redis) = (Kafka::single().start(), Redis::standalone().start());
        let topic = kafka.create_topic("planted", 1);
        let pipeline = Pipeline::telemetry(&kafka, &topic)
            .ack_timeout(ack_timeout)
            .set("/spec/endpoints/0/mqtt/maximumQoS", "ExactlyOnce")
            .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", 3_600)
            .set("/spec/sessions", redis.spec());
        let sidecar = Sidecar::run(&pipeline).planted(bug).start();
        Self { kafka, _redis: redis, topic, sidecar }
    }

    /// A load of one client, with many messages on the way.
    fn load(&self, plan: Plan) -> Load {
        let load = plan.clients(1).window(200).rate(2_000).payload_bytes(1_000).start();
        load.wait_acknowledged(50);
        load
    }

    fn verdict(&self, load: Load) -> Verdict {
        check(&load.finish(FINISH), &self.kafka.read(&self.topic))
    }

    /// Without Kafka, the edge dies with messages on the way that Kafka has never seen.
    fn lose_the_edge_without_kafka(&mut self) {
        self.kafka.broker(0).kill();
        until("messages on the way", SOON, || (self.sidecar.total("inFlight") > 0).then_some(()));
        // Long enough for whoever answers too early.
        let _ = within(Duration::from_millis(500), || None::<()>);
        self.sidecar.kill9();
        self.kafka.broker(0).restart();
        self.sidecar.restart();
    }
}

/// Runs a story with a bug, which has to be found under one of these names, and without, when nothing may be found.
#[track_caller]
fn assert_caught(
    bug: &'static str,
    names: &[&str],
    story: impl Fn(Option<&'static str>) -> BTreeSet<&'static str>,
) {
    let found = story(Some(bug));
    assert!(names.iter().any(|name| found.contains(name)), "{bug}: found {found:?}");
    assert_eq!(story(None), BTreeSet::new(), "without a bug");
}

fn names(verdict: &Verdict) -> BTreeSet<&'static str> {
    println!("{verdict}");
    verdict.violations().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn an_early_ack_is_caught() {
    assert_caught("early-ack", &["lost"], |bug| {
        let mut site = Site::start(bug, 30);
        let load = site.load(site.sidecar.mqtt3_load());
        site.lose_the_edge_without_kafka();
        names(&site.verdict(load))
    });
}

#[test]
fn a_dropped_delivery_error_is_caught() {
    assert_caught("dropped-delivery-error", &["lost"], |bug| {
        let site = Site::start(bug, 30);
        let load = site.load(site.sidecar.mqtt3_load());
        // Batches are refused until the sidecar has looked, and the topic takes them again.
        site.kafka.configure_topic(&site.topic, "max.message.bytes", "500");
        let _ = within(Duration::from_secs(2), || None::<()>);
        site.kafka.configure_topic(&site.topic, "max.message.bytes", "1000000");
        load.wait_acknowledged(50);
        names(&site.verdict(load))
    });
}

#[test]
fn a_retry_behind_later_messages_is_caught() {
    assert_caught("reordering-retry", &["out of order"], |bug| {
        let site = Site::start(bug, 30);
        let load = site.load(site.sidecar.mqtt3_load());
        load.wait_acknowledged(500);
        names(&site.verdict(load))
    });
}

#[test]
fn a_double_ack_is_caught() {
    assert_caught("double-ack", &["irregular"], |bug| {
        let site = Site::start(bug, 30);
        let load = site.load(site.sidecar.mqtt3_load());
        names(&site.verdict(load))
    });
}

#[test]
fn an_intent_taken_for_a_receipt_is_caught() {
    assert_caught("intent-for-receipt", &["lost"], |bug| {
        let mut site = Site::start(bug, 30);
        let load = site.load(site.sidecar.mqtt3_load().qos(2));
        site.lose_the_edge_without_kafka();
        names(&site.verdict(load))
    });
}

#[test]
fn what_is_forgotten_in_flight_when_the_edge_drains_is_caught() {
    assert_caught("forgotten-in-flight", &["books"], |bug| {
        // What is in flight is given up after that.
        let mut site = Site::start(bug, 3);
        let load = site.load(site.sidecar.mqtt3_load());
        site.kafka.broker(0).stop();
        until("messages on the way", SOON, || (site.sidecar.total("inFlight") > 0).then_some(()));
        site.sidecar.sigterm();
        let books = |answer: penstock_e2e::sidecar::Answer| -> Vec<String> {
            serde_json::from_str::<Value>(&answer.body).map(|ledger| unbalanced(&ledger)).unwrap()
        };
        let found = until("a wrong line in the books, or the end", SOON, || {
            let looked = site.sidecar.get("/ledger").map(books);
            let over = !site.sidecar.is_running();
            looked.filter(|found| !found.is_empty()).or(over.then(Vec::new))
        });
        site.kafka.broker(0).cont();
        load.abandon();
        found.iter().map(|_| "books").collect()
    });
}

//! More than Kafka takes: it goes on at its full rate, memory stays within the budgets, probes are answered, nobody is kept
//! out by others, and nothing acknowledged is lost. A program of its own, for the tests of `main.rs` would take the processors
//! from it.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_e2e::checker::check;
use penstock_e2e::crowd::{Crowd, half_a_publish};
use penstock_e2e::load::Loads;
use penstock_e2e::load::wire::{Connect, PINGREQ, Version};
use penstock_e2e::sidecar::BESIDE_BUDGETS;
use penstock_e2e::until::{SOON, within};
use penstock_e2e::{Balancer, Kafka, Pipeline, Sidecar};
use serde_json::json;

/// What passes to the broker: the bottleneck, so that the machine need not be it.
const BYTES_PER_SECOND: u32 = 400_000;
/// What is offered at first, a little more than passes; nine times as much comes on top.
const PER_SECOND: u32 = 400;
const CLIENTS: u32 = 20;
const MEASURED: Duration = Duration::from_secs(12);
/// For what is under way when the flood begins.
const SETTLE: Duration = Duration::from_secs(10);
const ACK_TIMEOUT_SECONDS: u32 = 5;
/// What a probe may take: kubelet gives up after one second, unless told otherwise.
const PROBE: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;
/// Room for a window of each HTTP/2 connection, and as much again.
const BUDGET: u64 = 96 * MIB;

fn loads(sidecar: &Sidecar, clients: u32, per_second: u32) -> Loads {
    let plans = [sidecar.mqtt3_load(), sidecar.mqtt5_load(), sidecar.http_load(), sidecar.http2_load()];
    Loads::new(plans.map(|plan| plan.clients(clients).payload_bytes(1_000).rate(per_second / 4).start()))
}

/// Of each kind of client that takes places and gives nothing.
const STRANGERS: usize = 1_000;
/// Questions of a client that reads no answer: more than its socket buffers hold.
const UNREAD_QUESTIONS: usize = 64 << 10;

/// Clients that are idle, that have sent half of something, and that read no answers.
fn strangers(sidecar: &Sidecar) -> [Crowd; 4] {
    let connect =
        |kind: &str, number: usize| Connect::new(Version::V311, &format!("{kind}-{number}")).encode();
    let half = half_a_publish("v1/p/d/telemetry", 8_000);
    let body = b"POST /v1/p/d/telemetry HTTP/1.1\r\nHost: half\r\nContent-Length: 8000\r\n\r\nhalf";
    [
        Crowd::send(sidecar.mqtt(), STRANGERS, |number| vec![connect("idle", number)]),
        Crowd::send(sidecar.mqtt(), STRANGERS, |number| vec![connect("half", number), half.clone()]),
        Crowd::send(sidecar.http(), STRANGERS, |_| vec![body.to_vec()]),
        Crowd::send_and_never_read(sidecar.mqtt(), STRANGERS, |number| {
            vec![connect("deaf", number), PINGREQ.repeat(UNREAD_QUESTIONS)]
        }),
    ]
}

/// Positive answers a second, and the longest that a probe took.
fn measure(sidecar: &Sidecar, loads: &[&Loads]) -> (f64, Duration) {
    let acknowledged = || loads.iter().map(|loads| loads.acknowledged()).sum::<u64>();
    let (before, start, mut longest) = (acknowledged(), Instant::now(), Duration::ZERO);
    let _ = within(MEASURED, || {
        let asked = Instant::now();
        assert!(sidecar.is_ready());
        longest = longest.max(asked.elapsed());
        None::<()>
    });
    ((acknowledged() - before) as f64 / start.elapsed().as_secs_f64(), longest)
}

/// A sidecar with a narrow road to Kafka.
fn narrow() -> (Kafka, String, Sidecar) {
    let road = Arc::new(Balancer::start());
    let kafka = Kafka::single().roads(&[Arc::clone(&road)]).start();
    let topic = kafka.create_topic("flood", 6);
    road.change(|road| road.bytes_per_second = Some(BYTES_PER_SECOND));
    // As it comes, so that as many bytes pass as were sent.
    let pipeline = Pipeline::telemetry(&kafka, &topic)
        .ack_timeout(ACK_TIMEOUT_SECONDS)
        .set("/spec/kafka/producer", json!({"compression": "None"}))
        .set("/spec/edge/maxInFlightBytes", BUDGET)
        .set("/spec/endpoints/1/limits/maxInFlightBytes", BUDGET);
    let sidecar = Sidecar::run(&pipeline).start();
    (kafka, topic, sidecar)
}

#[test]
fn ten_times_what_kafka_takes_costs_no_goodput() {
    let (kafka, topic, sidecar) = narrow();
    let few = loads(&sidecar, CLIENTS, PER_SECOND);
    let _ = within(SETTLE, || None::<()>);
    let (peak, _) = measure(&sidecar, &[&few]);
    let many = loads(&sidecar, 9 * CLIENTS, 9 * PER_SECOND);
    let crowds = strangers(&sidecar);
    let _ = within(SETTLE, || None::<()>);
    let connected: usize = crowds.iter().map(Crowd::connected).sum();
    assert_eq!(connected, crowds.len() * STRANGERS, "all of them were there");
    let (flooded, probe) = measure(&sidecar, &[&few, &many]);
    let (refused, sent_away) = (many.transient(), many.closes());
    println!(
        "{peak:.0}/s alone, {flooded:.0}/s of {} clients beside {connected} strangers; {refused} times HTTP 503, \
         {sent_away} connections ended, probes within {probe:?}, {} MiB at the peak, window {:.0} KiB",
        10 * 4 * CLIENTS,
        sidecar.peak_rss() / MIB,
        sidecar.metric("penstock_producer_window_bytes") / 1024.0,
    );
    assert!(flooded >= 0.9 * peak, "{flooded:.0}/s of {peak:.0}/s");
    assert!(probe < PROBE, "{probe:?}");
    assert!(sidecar.peak_rss() < BUDGET + BESIDE_BUDGETS, "{} MiB", sidecar.peak_rss() / MIB);
    drop(crowds);
    let mut history = many.finish(SOON * 4);
    history.merge(few.finish(SOON * 2));
    assert_eq!(history.refused(), 0, "refused for good");
    assert!(history.transient.iter().all(|&(status, after)| status == 503 && after.is_some()));
    check(&history, &kafka.read(&topic)).assert_kept();
    sidecar.assert_ledger_balances();
}

/// What modest clients send together, a small part of what passes; each is content with an answer in some seconds.
const MODEST_PER_SECOND: u32 = 40;
/// What greedy clients would send.
const GREEDY_PER_SECOND: u32 = 4_000;
/// What part of that must be answered. It is less than all, for some wait longer than until their next message is due. It was
/// less than half when greedy clients could keep others out.
const ANSWERED: f64 = 0.8;
/// How many HTTP 503 there may be to one message that is answered, over HTTP or MQTT. It was three quarters and more when whoever
/// held nothing found no room beyond the bound.
const REFUSED: f64 = 0.5;
/// How long both are measured. What a modest client waits for its answer, some seconds, must not weigh at either end.
const BESIDE: Duration = Duration::from_secs(30);

#[test]
fn clients_that_send_without_an_end_keep_nobody_else_out() {
    let (kafka, topic, sidecar) = narrow();
    let greedy = [sidecar.mqtt3_load(), sidecar.mqtt5_load()]
        .map(|plan| plan.project("greedy").clients(1).window(2_000).payload_bytes(1_000));
    let greedy = Loads::new(greedy.map(|plan| plan.rate(GREEDY_PER_SECOND / 2).start()));
    let _ = within(SETTLE, || None::<()>);
    let modest = loads(&sidecar, 2 * CLIENTS, MODEST_PER_SECOND);
    let _ = within(SETTLE, || None::<()>);
    let both = || (greedy.acknowledged(), modest.acknowledged());
    let (before, start) = (both(), Instant::now());
    let _ = within(BESIDE, || None::<()>);
    let (after, seconds) = (both(), start.elapsed().as_secs_f64());
    let rate = |before: u64, after: u64| (after - before) as f64 / seconds;
    let (greedy_rate, modest_rate) = (rate(before.0, after.0), rate(before.1, after.1));
    println!(
        "{modest_rate:.0}/s of the {MODEST_PER_SECOND}/s of {} modest clients, {greedy_rate:.0}/s of 2 greedy ones; \
         {} times HTTP 503",
        8 * CLIENTS,
        modest.transient(),
    );
    assert!(modest_rate >= ANSWERED * f64::from(MODEST_PER_SECOND), "{modest_rate:.0}/s");
    assert!(
        modest.transient() as f64 <= REFUSED * modest.acknowledged() as f64,
        "{} refused",
        modest.transient()
    );
    let mut history = greedy.finish(SOON * 4);
    history.merge(modest.finish(SOON * 2));
    check(&history, &kafka.read(&topic)).assert_kept();
}

//! From spans to the table that the run prints and the file that it writes.

use std::path::Path;
use std::time::Duration;

use crate::cluster;
use crate::figures::{Figure, Mark, median, slope, table};
use crate::idle::Readings;
use crate::load::Protocol;
use crate::machine;
use crate::measured::Measured;
use crate::operator::{self, Marks};
use crate::plot;
use crate::rounds::{Alike, Bench, Pair, Round, say};
use crate::scale;
use crate::schedule::Schedule;
use crate::secure;
use crate::sessions;
use crate::soak;

/// The whole run. It ends well whether the marks hold or not: it measures, and judges nothing.
pub(crate) fn run(quick: bool) {
    let schedule = if quick { Schedule::QUICK } else { Schedule::FULL };
    let (processors, model) = machine::processors();
    let (gib, kernel) = (machine::memory_gib(), machine::kernel());
    say(&format!("on {processors} × {model}, {gib:.0} GiB, Linux {kernel}"));
    let mut bench = Bench::start(schedule);
    let rounds: Vec<_> = (0..schedule.rounds).map(|number| bench.round(number)).collect();
    let half =
        |pair: fn(&Round) -> &Pair| (median(&each(&rounds, |round| pair(round).ours.rate())) / 2.0) as u32;
    let (half3, half5) = (half(|round| &round.mqtt3), half(|round| &round.mqtt5));
    let latencies: Vec<_> = (0..schedule.latency_rounds)
        .map(|number| {
            [bench.latency(number, Protocol::Mqtt3, half3), bench.latency(number, Protocol::Mqtt5, half5)]
        })
        .collect();
    let alike: Vec<_> = (0..schedule.latency_rounds).map(|number| bench.alike(number)).collect();
    let idle = bench.idle();
    let mut figures = ratios(&rounds);
    figures.push(added_latency(&latencies));
    figures.extend(ratios_alike(&alike));
    figures.extend(memory(&bench.idle_rss_kib, &idle));
    figures.extend(absolutes(&rounds));
    figures.extend(latency_details(&latencies));
    figures.extend(details_alike(&alike));
    figures.extend(facts(&rounds));
    figures.extend(bench.fleets());
    drop(bench);
    figures.extend(scale::figures(schedule));
    figures.extend(secure::figures(schedule));
    figures.extend(sessions::figures(schedule));
    figures.extend(of_operator(quick));
    write(&figures);
}

/// The figures of the operator alone, in place of a whole run.
pub(crate) fn run_operator(quick: bool) {
    write(&of_operator(quick));
}

/// The figures of TLS alone, in place of a whole run.
pub(crate) fn run_tls(quick: bool) {
    write(&secure::figures(if quick { Schedule::QUICK } else { Schedule::FULL }));
}

/// Whether anything grows in so many minutes.
pub(crate) fn run_soak(minutes: u64) {
    write(&soak::figures(minutes));
}

/// The figures of growth and of what a message takes inside alone.
pub(crate) fn run_scale(quick: bool) {
    write(&scale::figures(if quick { Schedule::QUICK } else { Schedule::FULL }));
}

/// The figures of QoS 2 and of kept sessions alone.
pub(crate) fn run_sessions(quick: bool) {
    write(&sessions::figures(if quick { Schedule::QUICK } else { Schedule::FULL }));
}

/// The figures of returning devices alone.
pub(crate) fn run_fleet(quick: bool) {
    let schedule = if quick { Schedule::QUICK } else { Schedule::FULL };
    let mut bench = Bench::start(Schedule { idle_starts: 1, kafka_warmup_millis: 1_000, ..schedule });
    write(&bench.fleets());
}

fn of_operator(quick: bool) -> Vec<Figure> {
    let (pipelines, quiet, rounds) = if quick { (50, 10, 2) } else { (200, 60, 5) };
    let quiet = Duration::from_secs(quiet);
    let mut figures = operator::figures(pipelines, quiet, &Marks { ready_seconds: 12.0, rss_mib: 48.0 });
    if !quick {
        figures.extend(operator::figures(1_000, quiet, &Marks { ready_seconds: 60.0, rss_mib: 64.0 }));
    }
    figures.extend(cluster::figures(rounds));
    figures
}

fn write(figures: &[Figure]) {
    println!("{}", table(figures));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::fs::create_dir_all(&folder).expect("target/");
    let text = serde_json::to_string_pretty(figures).expect("serialisable figures");
    std::fs::write(folder.join("bench.json"), text + "\n").expect("target/bench.json");
    std::fs::write(folder.join("bench.svg"), plot::svg(figures)).expect("target/bench.svg");
    say("written to target/bench.json, and as a picture to target/bench.svg");
}

fn each(rounds: &[Round], of: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(of).collect()
}

/// What we do is the producer's job and the server's: so the sum of their CPU is what ours is compared with.
fn ratios(rounds: &[Round]) -> Vec<Figure> {
    let cpu = |pair: fn(&Round) -> &Pair| {
        each(rounds, |round| {
            let pair = pair(round);
            pair.ours.watched_micros(0) / (round.producer.own_micros() + pair.floor.watched_micros(0))
        })
    };
    let rate =
        |pair: fn(&Round) -> &Pair| each(rounds, |round| pair(round).ours.rate() / pair(round).floor.rate());
    let mqtt = [("mqtt3", (|round| &round.mqtt3) as fn(&Round) -> &Pair), ("mqtt5", |round| &round.mqtt5)];
    let mut figures = Vec::new();
    for (name, pair) in mqtt {
        figures.push(
            Figure::new(format!("{name}_qos1_cpu_ratio"), "ours/(P+M)", cpu(pair)).mark(Mark::AtMost(0.9)),
        );
        figures.push(
            Figure::new(format!("{name}_qos1_rate_ratio"), "ours/M", rate(pair)).mark(Mark::AtLeast(0.8)),
        );
    }
    figures.push(
        Figure::new("http_single_cpu_ratio", "ours/(P+H)", cpu(|round| &round.http)).mark(Mark::AtMost(1.3)),
    );
    figures.push(Figure::new("http2_cpu_ratio", "ours/(P+H)", cpu(|round| &round.http2)));
    figures
}

/// The ratio for single HTTP posts where floors and ours are in the same position.
fn ratios_alike(alike: &[Alike]) -> Vec<Figure> {
    let ratio = |ours: &Measured, producer: &Measured, server: &Measured| {
        ours.watched_micros(0) / (producer.own_micros() + server.watched_micros(0))
    };
    let same_rate = alike.iter().map(|of| ratio(&of.ours, &of.producer, &of.server)).collect();
    let crowd = alike.iter().map(|of| ratio(&of.crowd.ours, &of.busy_producer, &of.crowd.floor)).collect();
    vec![
        Figure::new("http_single_cpu_ratio_same_rate", "ours/(P+H)", same_rate),
        Figure::new("http_crowd_cpu_ratio", "ours/(P+H)", crowd),
    ]
}

fn details_alike(alike: &[Alike]) -> Vec<Figure> {
    let figure = |name: &str, unit: &str, of: &dyn Fn(&Alike) -> f64| {
        Figure::new(name, unit, alike.iter().map(of).collect())
    };
    vec![
        figure("same_rate_http_single_rate", "msg/s", &|of| of.ours.rate()),
        figure("same_rate_producer_rate", "msg/s", &|of| of.producer.rate()),
        figure("same_rate_bare_http_rate", "msg/s", &|of| of.server.rate()),
        figure("same_rate_http_single_cpu_us", "µs/msg", &|of| of.ours.watched_micros(0)),
        figure("same_rate_producer_cpu_us", "µs/msg", &|of| of.producer.own_micros()),
        figure("same_rate_bare_http_cpu_us", "µs/msg", &|of| of.server.watched_micros(0)),
        figure("http_crowd_rate", "msg/s", &|of| of.crowd.ours.rate()),
        figure("bare_http_crowd_rate", "msg/s", &|of| of.crowd.floor.rate()),
        figure("http_crowd_cpu_us", "µs/msg", &|of| of.crowd.ours.watched_micros(0)),
        figure("bare_http_crowd_cpu_us", "µs/msg", &|of| of.crowd.floor.watched_micros(0)),
        figure("http_crowd_p99_ms", "ms", &|of| of.crowd.ours.p99_millis),
    ]
}

/// Of the two versions of MQTT the one that adds more.
fn added_latency(latencies: &[[Pair; 2]]) -> Figure {
    let added = |version: usize| -> Vec<f64> {
        latencies
            .iter()
            .map(|pairs| pairs[version].ours.p99_millis - pairs[version].floor.p99_millis)
            .collect()
    };
    let (three, five) = (added(0), added(1));
    let worse = if median(&three) > median(&five) { three } else { five };
    Figure::new("ack_p99_added_ms", "ms", worse).mark(Mark::AtMost(1.0))
}

fn memory(idle_rss_kib: &[f64], idle: &Readings) -> Vec<Figure> {
    let mib = idle_rss_kib.iter().map(|kib| kib / 1024.0).collect();
    let (first, last) = (idle.idle[0], idle.idle[idle.idle.len() - 1]);
    let alone = first.1 - slope(&idle.idle) * first.0;
    vec![
        Figure::new("idle_rss_mib", "MiB", mib).mark(Mark::AtMost(25.0)),
        Figure::new("idle_connection_kib", "KiB", vec![slope(&idle.idle)]).mark(Mark::AtMost(2.0)),
        Figure::new(
            "connection_after_one_message_kib",
            "KiB",
            vec![(idle.after_one_message - alone) / last.0],
        ),
    ]
}

fn absolutes(rounds: &[Round]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |name: &str, unit: &str, of: &dyn Fn(&Round) -> f64| {
        figures.push(Figure::new(name, unit, rounds.iter().map(of).collect()));
    };
    for (name, pair) in [
        ("mqtt3_qos1", (|round| &round.mqtt3) as fn(&Round) -> &Pair),
        ("mqtt5_qos1", |round| &round.mqtt5),
        ("http_single", |round| &round.http),
        ("http2", |round| &round.http2),
    ] {
        let floor = match name {
            "http_single" => "bare_http".to_owned(),
            "http2" => "bare_http2".to_owned(),
            _ => format!("mosquitto_{name}"),
        };
        add(&format!("{name}_rate"), "msg/s", &|round| pair(round).ours.rate());
        add(&format!("{floor}_rate"), "msg/s", &|round| pair(round).floor.rate());
        add(&format!("{name}_cpu_us"), "µs/msg", &|round| pair(round).ours.watched_micros(0));
        add(&format!("{floor}_cpu_us"), "µs/msg", &|round| pair(round).floor.watched_micros(0));
        add(&format!("{name}_kafka_cpu_us"), "µs/msg", &|round| pair(round).ours.watched_micros(1));
        add(&format!("{name}_load_cpu_us"), "µs/msg", &|round| pair(round).ours.own_micros());
        add(&format!("{name}_p99_ms"), "ms", &|round| pair(round).ours.p99_millis);
    }
    for (name, span) in [
        ("producer", (|round| &round.producer) as fn(&Round) -> &Measured),
        ("producer_without_headers", |round| &round.without_headers),
    ] {
        add(&format!("{name}_rate"), "msg/s", &|round| span(round).rate());
        add(&format!("{name}_cpu_us"), "µs/msg", &|round| span(round).own_micros());
        add(&format!("{name}_kafka_cpu_us"), "µs/msg", &|round| span(round).watched_micros(0));
    }
    add("mqtt_acks_out_of_order", "acks", &|round| {
        (round.mqtt3.ours.irregular + round.mqtt5.ours.irregular) as f64
    });
    figures
}

fn latency_details(latencies: &[[Pair; 2]]) -> Vec<Figure> {
    let of = |version: usize, value: fn(&Pair) -> f64| -> Vec<f64> {
        latencies.iter().map(|pairs| value(&pairs[version])).collect()
    };
    let mut figures = Vec::new();
    for (version, name) in [(0, "mqtt3"), (1, "mqtt5")] {
        for (what, unit, value) in [
            ("rate", "msg/s", (|pair| pair.ours.rate()) as fn(&Pair) -> f64),
            ("p50_ms", "ms", |pair| pair.ours.p50_millis),
            ("p99_ms", "ms", |pair| pair.ours.p99_millis),
            ("producer_p50_ms", "ms", |pair| pair.floor.p50_millis),
            ("producer_p99_ms", "ms", |pair| pair.floor.p99_millis),
            ("cpu_us", "µs/msg", |pair| pair.ours.watched_micros(0)),
        ] {
            figures.push(Figure::new(format!("{name}_half_rate_{what}"), unit, of(version, value)));
        }
    }
    figures
}

/// What to know when two runs are compared.
fn facts(rounds: &[Round]) -> Vec<Figure> {
    let (processors, model) = machine::processors();
    let share = |of: fn(&Measured) -> f64| -> Vec<f64> {
        let spans = rounds.iter().flat_map(Round::spans);
        spans.map(|span| 100.0 * of(span) / (span.seconds * processors as f64)).collect()
    };
    vec![
        Figure::new("machine_processors", &model, vec![processors as f64]),
        Figure::new("machine_memory", "GiB", vec![machine::memory_gib()]),
        Figure::new("machine_other_work", "% of CPU", share(|span| span.others)),
        Figure::new("machine_stolen", "% of CPU", share(|span| span.stolen)),
    ]
}

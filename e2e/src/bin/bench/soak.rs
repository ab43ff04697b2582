//! Whether anything grows: a long time at a good part of the top rate, with clients that come and go all the while.

use std::fs;
use std::time::{Duration, Instant};

use penstock_e2e::sidecar;
use penstock_e2e::until::within;

use crate::churn::Churned;
use crate::figures::{Figure, Mark, slope};
use crate::load::Protocol;
use crate::machine::rss_kib;
use crate::measured::Measured;
use crate::rounds::{self, say};
use crate::schedule::Schedule;
use crate::servers::Server;
use crate::worker::words;
use crate::{edge, worker};

const CONNECTIONS: usize = 64;
const WINDOW: usize = 32;
/// Of the top rate.
const SHARE: f64 = 0.7;
/// Clients that come and go, a second.
const COME_AND_GO: u32 = 50;
/// Between two readings.
const LOOK: Duration = Duration::from_secs(5);
/// The last part of the loads' time, of which they tell.
const TOLD_MILLIS: u64 = 5_000;
/// Growth that is none, over the whole time: the heap's own unrest.
const UNREST_KIB: f64 = 1_024.0;

/// What the process holds, and when.
struct Reading {
    minutes: f64,
    rss_kib: f64,
    descriptors: f64,
    connections: f64,
    held_messages: f64,
}

/// Soaks a sidecar for so long.
pub(crate) fn figures(minutes: u64) -> Vec<Figure> {
    say(&format!("soak: {minutes} minutes"));
    let kafka = rounds::kafka();
    let config = edge::config(&kafka, "bench");
    let folder = penstock_e2e::folder::fresh("bench-");
    let file = edge::write(folder.path(), &config);
    let server = Server::sidecar(folder.path(), &file, &config);
    let mqtt = edge::address(&config, "mqtt");
    let top = worker::load(Protocol::Mqtt5, mqtt, [CONNECTIONS, WINDOW], Schedule::FULL, &[], &[]);
    let rate = (top.rate() * SHARE) as u32;
    say(&format!("soak: {rate} messages a second, and {COME_AND_GO} clients that come and go"));
    let millis = minutes * 60_000;
    let (readings, load, churned) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let schedule = Schedule {
                warmup_millis: millis.saturating_sub(TOLD_MILLIS),
                measure_millis: TOLD_MILLIS,
                ..Schedule::FULL
            };
            let more = ["--rate", &rate.to_string()];
            worker::load(Protocol::Mqtt5, mqtt, [CONNECTIONS, 10 * WINDOW], schedule, &[server.pid()], &more)
        });
        let churn = scope.spawn(|| -> Churned {
            let (per_second, millis) = (COME_AND_GO.to_string(), millis.to_string());
            let server = mqtt.to_string();
            let words =
                words(&["churn", "--server", &server, "--per-second", &per_second, "--millis", &millis]);
            worker::run(&words)
        });
        let readings = watch(&server, Duration::from_millis(millis.saturating_sub(TOLD_MILLIS)));
        (readings, load.join().expect("a load"), churn.join().expect("clients"))
    });
    told(&readings, &load, &churned)
}

/// Reads until the time is over.
fn watch(server: &Server, time: Duration) -> Vec<Reading> {
    let start = Instant::now();
    let mut readings = Vec::new();
    while start.elapsed() < time {
        let _ = within(LOOK, || None::<()>);
        let metrics = sidecar::metrics(server.address);
        let of_mqtt = |name: &str| sidecar::metric(&metrics, &format!("{name}{{endpoint=\"mqtt\"}}"));
        readings.push(Reading {
            minutes: start.elapsed().as_secs_f64() / 60.0,
            rss_kib: rss_kib(server.pid()),
            descriptors: fs::read_dir(format!("/proc/{}/fd", server.pid())).map_or(0, Iterator::count) as f64,
            connections: of_mqtt("penstock_connections"),
            held_messages: of_mqtt("penstock_endpoint_held_messages"),
        });
    }
    readings
}

fn told(readings: &[Reading], load: &Measured, churned: &Churned) -> Vec<Figure> {
    // By then every buffer has been as large as it will be.
    let steady = &readings[readings.len() / 4..];
    let minutes = steady.last().map_or(0.0, |last| last.minutes) - steady[0].minutes;
    let of = |value: fn(&Reading) -> f64| {
        let points: Vec<_> = steady.iter().map(|reading| (reading.minutes, value(reading))).collect();
        slope(&points)
    };
    let last = |value: fn(&Reading) -> f64| vec![readings.last().map_or(0.0, value)];
    vec![
        Figure::new("soak_minutes", "min", vec![minutes]),
        Figure::new("soak_rate", "msg/s", vec![load.rate()]),
        Figure::new("soak_p99_ms", "ms", vec![load.p99_millis]),
        Figure::new("soak_clients_come_and_gone", "clients", vec![churned.clients as f64]),
        Figure::new("soak_rss_growth_kib", "KiB", vec![of(|reading| reading.rss_kib) * minutes])
            .mark(Mark::AtMost(UNREST_KIB)),
        Figure::new("soak_rss_slope_kib", "KiB/min", vec![of(|reading| reading.rss_kib)]),
        Figure::new("soak_rss_mib", "MiB", tenths(readings, |reading| reading.rss_kib / 1024.0)),
        Figure::new("soak_descriptors_slope", "1/min", vec![of(|reading| reading.descriptors)]),
        Figure::new("soak_descriptors_last", "", last(|reading| reading.descriptors)),
        Figure::new("soak_connections_slope", "1/min", vec![of(|reading| reading.connections)]),
        Figure::new("soak_held_messages_slope", "1/min", vec![of(|reading| reading.held_messages)]),
    ]
}

/// What was read in each tenth of the time, on average: whether what grows comes to an end.
fn tenths(readings: &[Reading], of: fn(&Reading) -> f64) -> Vec<f64> {
    let mean = |part: &[Reading]| part.iter().map(of).sum::<f64>() / part.len() as f64;
    readings.chunks(readings.len().div_ceil(10).max(1)).map(mean).collect()
}

//! The figures of QoS 2 and of kept sessions, with Redis on loopback: what a handshake costs beside a QoS 1 message of the
//! same sidecar, what a session takes, and how long a takeover from another pod lasts.

use std::path::PathBuf;

use penstock_crds::edge::{
    EdgeConfig, ProtocolConfig, RedisConfig, RedisServersConfig, RedisUser, SessionsConfig,
};
use penstock_e2e::{Kafka, Redis, ports};
use tempfile::TempDir;

use crate::figures::{Figure, Mark, median, slope};
use crate::idle::{Readings, steady_rss_kib};
use crate::load::Protocol;
use crate::measured::Measured;
use crate::rounds::{IDLE, say};
use crate::schedule::Schedule;
use crate::servers::Server;
use crate::takeover::Takeovers;
use crate::worker::words;
use crate::{edge, rounds, worker};

const CONNECTIONS: usize = 64;
const WINDOW: usize = 32;
const EXPIRY: u32 = 3_600;
const TAKEOVERS: usize = 2_000;

/// The load once with each QoS, and at QoS 2 with one message at a time on each connection.
struct Round {
    once: Measured,
    exactly_once: Measured,
}

struct Bench {
    schedule: Schedule,
    kafka: Kafka,
    redis: Redis,
    edge: EdgeConfig,
    config: PathBuf,
    sidecar: Server,
    // Last: the processes above are killed before their folders go.
    folder: TempDir,
}

/// Measures them.
pub(crate) fn figures(schedule: Schedule) -> Vec<Figure> {
    let mut bench = Bench::start(schedule);
    bench.load(
        Protocol::Mqtt3,
        1,
        WINDOW,
        Schedule { measure_millis: schedule.kafka_warmup_millis, ..schedule },
    );
    let versions = [(Protocol::Mqtt3, "mqtt3"), (Protocol::Mqtt5, "mqtt5")];
    let rounds = versions.map(|(protocol, name)| {
        let rounds: Vec<_> = (0..schedule.rounds).map(|number| bench.round(number, protocol, name)).collect();
        (name, rounds)
    });
    let alone: Vec<_> = (0..schedule.latency_rounds).map(|number| bench.alone(number)).collect();
    let takeovers: Vec<_> = (0..schedule.latency_rounds).map(|number| bench.takeovers(number)).collect();
    let (without, _) = bench.idle(0);
    let (kept, redis_bytes) = bench.idle(EXPIRY);

    let mut figures = vec![rate_ratio(&rounds), commands(&alone)];
    figures.extend(memory(&without, &kept, redis_bytes));
    figures.extend(takeover(&takeovers));
    for (name, rounds) in &rounds {
        figures.extend(details(name, rounds));
    }
    let of = |value: fn(&Measured) -> f64| alone.iter().map(value).collect::<Vec<_>>();
    figures.push(Figure::new("mqtt_qos2_alone_rate", "msg/s", of(Measured::rate)));
    figures.push(Figure::new("mqtt_qos2_alone_p50_ms", "ms", of(|alone| alone.p50_millis)));
    figures.push(Figure::new("mqtt_qos2_alone_p99_ms", "ms", of(|alone| alone.p99_millis)));
    figures.push(Figure::new("mqtt_qos2_alone_messages_per_round_trip", "messages", of(per_round_trip)));
    figures
}

impl Bench {
    fn start(schedule: Schedule) -> Self {
        say("sessions: starting Kafka, Redis and the sidecar");
        let kafka = rounds::kafka();
        let redis = Redis::standalone().start();
        let edge = kept(edge::config(&kafka, "bench"), &redis);
        let folder = penstock_e2e::folder::fresh("bench-");
        let config = edge::write(folder.path(), &edge);
        let sidecar = Server::sidecar(folder.path(), &config, &edge);
        Self { schedule, kafka, redis, edge, config, sidecar, folder }
    }

    fn round(&self, number: usize, protocol: Protocol, name: &str) -> Round {
        say(&format!("round {}: {name} with kept sessions at QoS 1, then at QoS 2", number + 1));
        Round {
            once: self.load(protocol, 1, WINDOW, self.schedule),
            exactly_once: self.load(protocol, 2, WINDOW, self.schedule),
        }
    }

    /// One message at a time on each connection: no two of a session can share a command.
    fn alone(&self, number: usize) -> Measured {
        say(&format!("round {}: QoS 2, one message at a time on each connection", number + 1));
        self.load(Protocol::Mqtt5, 2, 1, self.schedule)
    }

    fn load(&self, protocol: Protocol, qos: u8, window: usize, schedule: Schedule) -> Measured {
        let watch = [self.sidecar.pid(), self.redis.server(0).pid(), self.kafka.broker(0).pid()];
        let (qos, expiry) = (qos.to_string(), EXPIRY.to_string());
        let admin = self.sidecar.address.to_string();
        let more = ["--qos", &qos, "--expiry", &expiry, "--admin", &admin];
        let server = edge::address(&self.edge, "mqtt");
        let measured = worker::load(protocol, server, [CONNECTIONS, window], schedule, &watch, &more);
        assert_eq!(measured.irregular, 0, "answers out of order");
        measured
    }

    /// From this sidecar to another one and back.
    fn takeovers(&self, number: usize) -> Takeovers {
        say(&format!("round {}: {TAKEOVERS} takeovers between two sidecars", number + 1));
        self.redis.flush_all();
        let mut other = self.edge.clone();
        other.admin_port = ports::free();
        for endpoint in &mut other.endpoints {
            endpoint.port = ports::free();
        }
        let folder = penstock_e2e::folder::fresh("bench-");
        let config = edge::write(folder.path(), &other);
        let _second = Server::sidecar(folder.path(), &config, &other);
        let servers = [&self.edge, &other].map(|edge| edge::address(edge, "mqtt").to_string());
        worker::run(&words(&[
            "takeover",
            "--servers",
            &servers.join(","),
            "--count",
            &TAKEOVERS.to_string(),
            "--expiry",
            &EXPIRY.to_string(),
        ]))
    }

    /// A sidecar that has just started, with idle connections; and what a session of them takes in Redis.
    fn idle(&mut self, expiry: u32) -> (Readings, f64) {
        say(&format!("starting the sidecar again; idle connections, sessions kept for {expiry} s"));
        self.sidecar.kill();
        self.redis.flush_all();
        self.sidecar = Server::sidecar(self.folder.path(), &self.config, &self.edge);
        steady_rss_kib(self.sidecar.pid());
        let before = self.redis_bytes();
        let readings: Readings = worker::run(&words(&[
            "idle",
            "--server",
            &edge::address(&self.edge, "mqtt").to_string(),
            "--connections",
            &IDLE.map(|count| count.to_string()).join(","),
            "--watch",
            &self.sidecar.pid().to_string(),
            "--expiry",
            &expiry.to_string(),
        ]));
        let sessions = self.redis.server(0).cli(&["DBSIZE"]);
        let sessions: usize =
            sessions.trim().trim_start_matches("(integer) ").parse().expect("a number of keys");
        let last = IDLE[IDLE.len() - 1];
        assert_eq!(sessions >= last, expiry > 0, "{sessions} keys of {last} sessions");
        (readings, (self.redis_bytes() - before) / last as f64)
    }

    fn redis_bytes(&self) -> f64 {
        let info = self.redis.server(0).cli(&["INFO", "memory"]);
        let bytes = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        bytes.expect("used_memory").trim().parse().expect("bytes")
    }
}

/// The same pipeline with QoS 2 and sessions in Redis.
fn kept(mut edge: EdgeConfig, redis: &Redis) -> EdgeConfig {
    let address = format!("127.0.0.1:{}", redis.server(0).port());
    let servers = RedisServersConfig::Standalone { address, database: 0 };
    edge.sessions = SessionsConfig::Redis(RedisConfig { servers, user: RedisUser::default(), tls: None });
    for endpoint in &mut edge.endpoints {
        if let ProtocolConfig::Mqtt(mqtt) = &mut endpoint.protocol {
            (mqtt.maximum_qos, mqtt.session_expiry_seconds) = (2, EXPIRY);
        }
    }
    edge
}

/// Of the two versions of MQTT the one that loses more.
fn rate_ratio(rounds: &[(&str, Vec<Round>)]) -> Figure {
    let ratios = rounds.iter().map(|(_, rounds)| {
        rounds.iter().map(|round| round.exactly_once.rate() / round.once.rate()).collect::<Vec<_>>()
    });
    let worse = ratios.min_by(|a, b| median(a).total_cmp(&median(b))).expect("two versions");
    Figure::new("mqtt_qos2_rate_ratio", "QoS 2/QoS 1", worse).mark(Mark::AtLeast(0.35))
}

/// To two digits: a store has a command or two each second that are no message's, and a span ends within messages.
fn commands(alone: &[Measured]) -> Figure {
    let of = |alone: &Measured| (100.0 * alone.store[0] / alone.messages as f64).round() / 100.0;
    Figure::new("redis_commands_per_qos2", "commands/msg", alone.iter().map(of).collect())
        .mark(Mark::AtMost(2.0))
}

fn per_round_trip(measured: &Measured) -> f64 {
    measured.messages as f64 / measured.store[1]
}

fn memory(without: &Readings, kept: &Readings, redis_bytes: f64) -> [Figure; 3] {
    let (connection, both) = (slope(&without.idle), slope(&kept.idle));
    [
        Figure::new("session_kib", "KiB", vec![both]).mark(Mark::AtMost(4.0)),
        Figure::new("session_beside_connection_kib", "KiB", vec![both - connection]),
        Figure::new("session_redis_bytes", "bytes", vec![redis_bytes]),
    ]
}

fn takeover(takeovers: &[Takeovers]) -> [Figure; 3] {
    let of = |value: fn(&Takeovers) -> f64| takeovers.iter().map(value).collect::<Vec<_>>();
    [
        Figure::new("takeover_p99_ms", "ms", of(|takeover| takeover.p99)).mark(Mark::AtMost(20.0)),
        Figure::new("takeover_p50_ms", "ms", of(|takeover| takeover.p50)),
        Figure::new("takeover_old_closed_p99_ms", "ms", of(|takeover| takeover.old_closed_p99)),
    ]
}

fn details(name: &str, rounds: &[Round]) -> Vec<Figure> {
    let figure = |what: &str, unit: &str, of: &dyn Fn(&Round) -> f64| {
        Figure::new(format!("{name}_{what}"), unit, rounds.iter().map(of).collect())
    };
    vec![
        figure("kept_qos1_rate", "msg/s", &|round| round.once.rate()),
        figure("kept_qos1_cpu_us", "µs/msg", &|round| round.once.watched_micros(0)),
        figure("qos2_rate", "msg/s", &|round| round.exactly_once.rate()),
        figure("qos2_cpu_us", "µs/msg", &|round| round.exactly_once.watched_micros(0)),
        figure("qos2_redis_cpu_us", "µs/msg", &|round| round.exactly_once.watched_micros(1)),
        figure("qos2_kafka_cpu_us", "µs/msg", &|round| round.exactly_once.watched_micros(2)),
        figure("qos2_load_cpu_us", "µs/msg", &|round| round.exactly_once.own_micros()),
        figure("qos2_p99_ms", "ms", &|round| round.exactly_once.p99_millis),
        figure("qos2_commands", "commands/msg", &|round| {
            round.exactly_once.store[0] / round.exactly_once.messages as f64
        }),
        figure("qos2_messages_per_round_trip", "messages", &|round| per_round_trip(&round.exactly_once)),
    ]
}

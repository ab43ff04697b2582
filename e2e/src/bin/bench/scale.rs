//! Whether a message costs the same however many connections, routes and partitions there are; what it costs at QoS 0 and
//! by size; and the system calls and allocations that it takes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use penstock_crds::edge::EdgeConfig;
use penstock_e2e::kafka::TopicSpec;
use penstock_e2e::until::{SOON, within};
use penstock_e2e::{Kafka, Process, sidecar};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::figures::{Figure, Mark};
use crate::load::Protocol;
use crate::measured::Measured;
use crate::rounds::{self, say};
use crate::schedule::Schedule;
use crate::servers::Server;
use crate::{edge, worker};

const CONNECTIONS: usize = 64;
const WINDOW: usize = 32;
/// Total rate of the runs that differ in connections: what one processor holds when each message comes alone.
const SPREAD_RATE: u32 = 10_000;
const SPREAD: [usize; 4] = [10, 100, 1_000, 10_000];
/// Rate at QoS 0, where no answers set it: about what QoS 1 reaches.
const UNANSWERED_RATE: u32 = 300_000;
/// Sizes of payloads, and how many of them are on the way on each connection.
const SIZES: [(usize, usize); 4] = [(16, WINDOW), (100, WINDOW), (1 << 10, WINDOW), (64 << 10, 4)];
const ROUTES: [usize; 3] = [1, 10, 100];
const PARTITIONS: [usize; 3] = [1, 6, 64];
/// So little that every message is alone.
const TRICKLE_RATE: u32 = 10;
const TRICKLE_MILLIS: u64 = 6_000;
/// How long system calls are counted.
const TRACED_MILLIS: u64 = 2_000;

/// Kafka, and the folder of the servers beside it.
struct Bench {
    schedule: Schedule,
    kafka: Kafka,
    folder: TempDir,
}

/// A sidecar of its own.
struct Edge {
    server: Server,
    config: EdgeConfig,
    file: PathBuf,
}

/// Measures all of it.
pub(crate) fn figures(schedule: Schedule) -> Vec<Figure> {
    say("scale: starting Kafka");
    let kafka = rounds::kafka();
    for partitions in PARTITIONS {
        kafka.create(&TopicSpec::new(&topic(partitions), partitions));
    }
    let bench = Bench { schedule, kafka, folder: penstock_e2e::folder::fresh("bench-") };
    let mut figures = bench.unanswered();
    figures.extend(bench.spread());
    figures.extend(bench.sizes());
    figures.extend(bench.routes());
    figures.extend(bench.partitions());
    figures.extend(bench.trickle());
    figures.extend(bench.insides());
    figures
}

impl Bench {
    fn edge(&self, change: impl FnOnce(&mut EdgeConfig)) -> Edge {
        let mut config = edge::config(&self.kafka, "bench");
        change(&mut config);
        let file = edge::write(self.folder.path(), &config);
        let server = Server::sidecar(self.folder.path(), &file, &config);
        let edge = Edge { server, config, file };
        // Brokers and the heap are met before anything is measured.
        let warm = Schedule {
            warmup_millis: 0,
            measure_millis: self.schedule.kafka_warmup_millis / 5,
            ..self.schedule
        };
        worker::load(Protocol::Mqtt3, edge.mqtt(), [CONNECTIONS, WINDOW], warm, &[], &[]);
        edge
    }

    /// The rounds of some loads in turn, each beside the others: a list for each of them.
    fn rounds<const N: usize>(&self, what: &str, run: impl Fn(usize) -> Measured) -> [Vec<Measured>; N] {
        let mut all = [const { Vec::new() }; N];
        for number in 0..self.schedule.latency_rounds {
            say(&format!("round {}: {what}", number + 1));
            for (index, of) in all.iter_mut().enumerate() {
                of.push(run(index));
            }
        }
        all
    }

    /// QoS 0 beside mosquitto and the bare producer.
    fn unanswered(&self) -> Vec<Figure> {
        let edge = self.edge(|_| {});
        let mosquitto = Server::mosquitto(self.folder.path());
        let config = edge.file.display().to_string();
        let rate = UNANSWERED_RATE.to_string();
        let load = |server: SocketAddr, pid: u32| {
            let more = ["--qos", "0", "--rate", &rate];
            worker::load(Protocol::Mqtt3, server, [CONNECTIONS, WINDOW], self.schedule, &[pid], &more)
        };
        let [producer, floor, ours] =
            self.rounds("QoS 0: bare producer, mosquitto, the sidecar", |which| match which {
                0 => {
                    let mut words = worker::words(&["produce", "--config", &config, "--headers", "--keys"]);
                    words.push(CONNECTIONS.to_string());
                    words.extend(worker::times(self.schedule, &[]));
                    worker::run(&words)
                }
                1 => load(mosquitto.address, mosquitto.pid()),
                _ => load(edge.mqtt(), edge.server.pid()),
            });
        let ratios = producer.iter().zip(&floor).zip(&ours).map(|((producer, floor), ours)| {
            ours.watched_micros(0) / (producer.own_micros() + floor.watched_micros(0))
        });
        vec![
            Figure::new("mqtt3_qos0_cpu_ratio", "ours/(P+M)", ratios.collect()).mark(Mark::AtMost(0.6)),
            Figure::new("mqtt3_qos0_rate", "msg/s", ours.iter().map(Measured::rate).collect()),
            cpu("mqtt3_qos0_cpu_us", &ours),
            cpu("mosquitto_mqtt3_qos0_cpu_us", &floor),
        ]
    }

    /// The same rate over more and more connections, beside mosquitto's cost of it.
    fn spread(&self) -> Vec<Figure> {
        let edge = self.edge(|_| {});
        let mosquitto = Server::mosquitto(self.folder.path());
        let rate = SPREAD_RATE.to_string();
        let load = |server: SocketAddr, pid: u32, index: usize| {
            let more = ["--rate", &rate];
            worker::load(Protocol::Mqtt3, server, [SPREAD[index], WINDOW], self.schedule, &[pid], &more)
        };
        let ours: [_; SPREAD.len()] = self.rounds("the same rate over more connections", |index| {
            load(edge.mqtt(), edge.server.pid(), index)
        });
        let floor: [_; SPREAD.len()] = self
            .rounds("the same rate over more connections to mosquitto", |index| {
                load(mosquitto.address, mosquitto.pid(), index)
            });
        let mut figures = vec![
            evenness("connections_cpu_evenness", &ours).mark(Mark::AtMost(1.3)),
            evenness("mosquitto_connections_cpu_evenness", &floor),
        ];
        for ((count, ours), floor) in SPREAD.iter().zip(&ours).zip(&floor) {
            figures.push(cpu(&format!("connections_{count}_cpu_us"), ours));
            figures.push(cpu(&format!("mosquitto_connections_{count}_cpu_us"), floor));
        }
        figures
    }

    /// Larger and larger payloads.
    fn sizes(&self) -> Vec<Figure> {
        let edge = self.edge(|_| {});
        let all: [_; SIZES.len()] = self.rounds("payloads of 16 B to 64 KiB", |index| {
            let (bytes, window) = SIZES[index];
            let more = ["--payload-bytes", &bytes.to_string()];
            worker::load(
                Protocol::Mqtt3,
                edge.mqtt(),
                [CONNECTIONS, window],
                self.schedule,
                &[edge.server.pid()],
                &more,
            )
        });
        let mut figures: Vec<_> = SIZES
            .iter()
            .zip(&all)
            .map(|((bytes, _), of)| cpu(&format!("payload_{bytes}_cpu_us"), of))
            .collect();
        let bytes_a_second =
            all[SIZES.len() - 1].iter().map(|of| of.rate() * (64 << 10) as f64 / f64::from(1 << 20));
        figures.push(Figure::new("payload_65536_rate", "MiB/s", bytes_a_second.collect()));
        figures
    }

    /// More and more routes, the last of which is taken.
    fn routes(&self) -> Vec<Figure> {
        let edges = ROUTES.map(|count| {
            self.edge(|config| {
                let taken = config.routes.pop().expect("a route");
                let others = (1..count).map(|number| {
                    let mut other = taken.clone();
                    other.name = format!("other-{number}");
                    for source in &mut other.from {
                        source.pattern = source.pattern.replace("telemetry", &other.name);
                    }
                    other
                });
                config.routes.extend(others);
                config.routes.push(taken);
            })
        });
        let all: [_; ROUTES.len()] = self.rounds("1, 10 and 100 routes", |index| self.full(&edges[index]));
        named("routes", &ROUTES, &all)
    }

    /// More and more partitions.
    fn partitions(&self) -> Vec<Figure> {
        let edges = PARTITIONS.map(|count| self.edge(|config| config.topics[0].topic_name = topic(count)));
        let all: [_; PARTITIONS.len()] =
            self.rounds("1, 6 and 64 partitions", |index| self.full(&edges[index]));
        named("partitions", &PARTITIONS, &all)
    }

    /// Messages that are alone.
    fn trickle(&self) -> Vec<Figure> {
        let edge = self.edge(|_| {});
        say("ten messages a second");
        let schedule = Schedule { measure_millis: TRICKLE_MILLIS, ..self.schedule };
        let more = ["--rate", &TRICKLE_RATE.to_string()];
        let measured = worker::load(
            Protocol::Mqtt3,
            edge.mqtt(),
            [TRICKLE_RATE as usize, 1],
            schedule,
            &[edge.server.pid()],
            &more,
        );
        let linger = f64::from(edge.config.kafka.linger_milliseconds);
        vec![
            Figure::new("trickle_p50_ms", "ms", vec![measured.p50_millis]).mark(Mark::AtMost(linger + 2.0)),
            Figure::new("trickle_p99_ms", "ms", vec![measured.p99_millis]),
        ]
    }

    /// Allocations and system calls of messages at full rate.
    fn insides(&self) -> Vec<Figure> {
        let edge = self.edge(|_| {});
        let mut figures = Vec::new();
        for (protocol, name, window) in [
            (Protocol::Mqtt3, "mqtt3_qos1", WINDOW),
            (Protocol::Mqtt5, "mqtt5_qos1", WINDOW),
            (Protocol::Http, "http_single", 1),
        ] {
            say(&format!("{name}: allocations, then system calls"));
            let schedule = Schedule { warmup_millis: 0, measure_millis: TRACED_MILLIS, ..self.schedule };
            let load = || {
                worker::load(protocol, edge.mqtt_or_http(protocol), [CONNECTIONS, window], schedule, &[], &[])
            };
            let before = edge.allocations();
            let messages = load().messages as f64;
            let after = edge.allocations();
            let [rust, c] = [0, 1].map(|which| (after[which] - before[which]) / messages);
            let (calls, traced) = traced(edge.server.pid(), self.folder.path(), load);
            let marked = |figure: Figure, most: f64| {
                if protocol == Protocol::Http { figure } else { figure.mark(Mark::AtMost(most)) }
            };
            figures.extend([
                marked(Figure::new(format!("{name}_rust_allocations"), "per msg", vec![rust]), 0.1),
                Figure::new(format!("{name}_c_allocations"), "per msg", vec![c]),
                marked(
                    Figure::new(format!("{name}_syscalls"), "per msg", vec![calls / traced.messages as f64]),
                    0.5,
                ),
            ]);
        }
        figures
    }

    fn full(&self, edge: &Edge) -> Measured {
        worker::load(
            Protocol::Mqtt3,
            edge.mqtt(),
            [CONNECTIONS, WINDOW],
            self.schedule,
            &[edge.server.pid()],
            &[],
        )
    }
}

impl Edge {
    fn mqtt(&self) -> SocketAddr {
        edge::address(&self.config, "mqtt")
    }

    fn mqtt_or_http(&self, protocol: Protocol) -> SocketAddr {
        edge::address(&self.config, if protocol == Protocol::Http { "rest" } else { "mqtt" })
    }

    /// Of Rust code and of code in C, since the start.
    fn allocations(&self) -> [f64; 2] {
        let metrics = sidecar::metrics(self.server.address);
        ["rust", "c"].map(|language| {
            sidecar::metric(&metrics, &format!("penstock_allocations_total{{language=\"{language}\"}}"))
        })
    }
}

/// The system calls of a process while something runs. To be traced makes a process slower, so that it finds more work
/// at a time: it may take fewer calls a message than in earnest.
fn traced(pid: u32, folder: &std::path::Path, run: impl FnOnce() -> Measured) -> (f64, Measured) {
    let file = folder.join("strace");
    let arguments = ["-f", "-c", "-p", &pid.to_string(), "-o", &file.display().to_string()];
    let mut strace = Process::start("strace", folder, "strace", arguments);
    let _ = within(Duration::from_millis(500), || None::<()>);
    let measured = run();
    strace.signal(Signal::INT);
    let _ = within(SOON, || strace.exit_status());
    let text = std::fs::read_to_string(&file).expect("a table of system calls");
    let total = text.lines().find(|line| line.ends_with(" total")).expect("a line of totals");
    // % time, seconds, usecs/call, calls, errors, syscall: errors are left out where there are none.
    let calls = total.split_whitespace().nth(3).expect("a number of calls");
    (calls.parse().expect("a number of calls"), measured)
}

fn topic(partitions: usize) -> String {
    format!("of-{partitions}")
}

fn cpu(name: &str, of: &[Measured]) -> Figure {
    Figure::new(name, "µs/msg", of.iter().map(|measured| measured.watched_micros(0)).collect())
}

/// The dearest by the cheapest, of the loads of each round.
fn evenness(name: &str, all: &[Vec<Measured>]) -> Figure {
    let rounds = all[0].len();
    let ratios = (0..rounds).map(|round| {
        let costs = all.iter().map(|of| of[round].watched_micros(0));
        costs.clone().fold(f64::MIN, f64::max) / costs.fold(f64::MAX, f64::min)
    });
    Figure::new(name, "worst/best", ratios.collect())
}

fn named(what: &str, counts: &[usize], all: &[Vec<Measured>]) -> Vec<Figure> {
    let mut figures = vec![evenness(&format!("{what}_cpu_evenness"), all).mark(Mark::AtMost(1.3))];
    figures.extend(counts.iter().zip(all).map(|(count, of)| cpu(&format!("{what}_{count}_cpu_us"), of)));
    figures
}

//! The order of a run. Everything that is compared takes its turn within one round, so that what the machine does
//! meanwhile meets all of it.

use std::path::PathBuf;

use penstock_crds::edge::EdgeConfig;
use penstock_e2e::Kafka;
use penstock_e2e::kafka::TopicSpec;
use tempfile::TempDir;

use crate::figures::Figure;
use crate::idle::{Readings, steady_rss_kib};
use crate::load::Protocol;
use crate::measured::Measured;
use crate::schedule::Schedule;
use crate::servers::Server;
use crate::worker::words;
use crate::{edge, fleet, worker};

const PARTITIONS: usize = 6;
const CONNECTIONS: usize = 64;
/// As many as it takes for single posts to keep the sidecar busy although each waits for Kafka.
const CROWD: usize = 1_024;
const WINDOW: usize = 32;
/// HTTP/2 has fewer connections, and this many streams on each.
const SHARED: usize = 16;
const STREAMS: usize = 64;
/// Where the rate is set, not the window: enough that the window is never what sets it.
const PACED_WINDOW: usize = 500;
/// How many idle connections memory is read at.
pub(crate) const IDLE: [usize; 3] = [2_000, 8_000, 16_000];

/// A floor and ours under the same load.
pub(crate) struct Pair {
    pub(crate) floor: Measured,
    pub(crate) ours: Measured,
}

/// Single HTTP posts beside floors that are in the same position.
///
/// With few connections ours waits for Kafka most of the time, and finds processors asleep and each wake-up worth a few
/// messages only, where P and H at full speed find neither.
pub(crate) struct Alike {
    /// The load of the HTTP pair once more, and P and H at the rate that it reached.
    pub(crate) ours: Measured,
    pub(crate) producer: Measured,
    pub(crate) server: Measured,
    /// H and ours with so many connections that both are busy, and P at full speed.
    pub(crate) crowd: Pair,
    pub(crate) busy_producer: Measured,
}

/// One turn of everything.
pub(crate) struct Round {
    /// P, and P without headers.
    pub(crate) producer: Measured,
    pub(crate) without_headers: Measured,
    /// M beside ours.
    pub(crate) mqtt3: Pair,
    pub(crate) mqtt5: Pair,
    /// H beside ours.
    pub(crate) http: Pair,
    pub(crate) http2: Pair,
}

impl Round {
    /// All spans of the round.
    pub(crate) fn spans(&self) -> [&Measured; 10] {
        let Self { producer, without_headers, mqtt3, mqtt5, http, http2 } = self;
        [
            producer,
            without_headers,
            &mqtt3.floor,
            &mqtt3.ours,
            &mqtt5.floor,
            &mqtt5.ours,
            &http.floor,
            &http.ours,
            &http2.floor,
            &http2.ours,
        ]
    }
}

/// The parts of a run.
pub(crate) struct Bench {
    schedule: Schedule,
    kafka: Kafka,
    edge: EdgeConfig,
    config: PathBuf,
    ours: Server,
    mosquitto: Server,
    bare_http: Server,
    /// Memory of sidecars that nobody has talked to, in KiB.
    pub(crate) idle_rss_kib: Vec<f64>,
    // Last: the processes above are killed before their folders go.
    folder: TempDir,
}

/// Kafka with a topic `bench`, for a load that never ends.
pub(crate) fn kafka() -> Kafka {
    let kafka = Kafka::single()
        .steady()
        // A run writes gigabytes; what is a minute old is of no use.
        .set("log.segment.bytes", 64 << 20)
        .set("log.retention.bytes", 128 << 20)
        .set("log.retention.check.interval.ms", 5_000)
        .set("log.segment.delete.delay.ms", 1_000)
        .start();
    kafka.create(&TopicSpec::new("bench", PARTITIONS));
    kafka
}

impl Bench {
    /// Starts everything and warms it up.
    pub(crate) fn start(schedule: Schedule) -> Self {
        say("starting Kafka");
        let kafka = kafka();
        let folder = penstock_e2e::folder::fresh("bench-");
        let edge = edge::config(&kafka, "bench");
        let config = edge::write(folder.path(), &edge);
        say("starting the sidecar, mosquitto and a bare HTTP server");
        let (ours, idle_rss_kib) = start_idle(&folder, &config, &edge, schedule.idle_starts);
        let mosquitto = Server::mosquitto(folder.path());
        let bare_http = Server::bare_http(folder.path());
        let bench = Self { schedule, kafka, edge, config, ours, mosquitto, bare_http, idle_rss_kib, folder };
        say("warming Kafka up");
        let long = Schedule { warmup_millis: 0, measure_millis: schedule.kafka_warmup_millis, ..schedule };
        bench.produce(long, true, None);
        bench
    }

    /// One round.
    pub(crate) fn round(&self, number: usize) -> Round {
        let pair = |name: &str, protocol: Protocol, connections: usize, window: usize| {
            let (floor, endpoint, what) = match protocol {
                Protocol::Http | Protocol::Http2 => (&self.bare_http, "rest", "bare HTTP server"),
                Protocol::Mqtt3 | Protocol::Mqtt5 => (&self.mosquitto, "mqtt", "mosquitto"),
            };
            self.say(number, &format!("{name}: {what}, then the sidecar"));
            let ours = edge::address(&self.edge, endpoint);
            Pair {
                floor: self.load(protocol, floor.address, connections, window, None, &[floor.pid()]),
                ours: self.load(protocol, ours, connections, window, None, &self.our_pids()),
            }
        };
        self.say(number, "bare Kafka producer, with and without headers");
        Round {
            producer: self.produce(self.schedule, true, None),
            without_headers: self.produce(self.schedule, false, None),
            mqtt3: pair("MQTT 3.1.1", Protocol::Mqtt3, CONNECTIONS, WINDOW),
            mqtt5: pair("MQTT 5", Protocol::Mqtt5, CONNECTIONS, WINDOW),
            http: pair("HTTP/1.1", Protocol::Http, CONNECTIONS, 1),
            http2: pair("HTTP/2", Protocol::Http2, SHARED, STREAMS),
        }
    }

    /// The bare producer beside ours, at a rate that both can hold.
    pub(crate) fn latency(&self, number: usize, protocol: Protocol, rate: u32) -> Pair {
        self.say(
            number,
            &format!("latency at {rate} messages a second: bare Kafka producer, then the sidecar"),
        );
        let ours = edge::address(&self.edge, "mqtt");
        Pair {
            floor: self.produce(self.schedule, true, Some(rate)),
            ours: self.load(protocol, ours, CONNECTIONS, PACED_WINDOW, Some(rate), &self.our_pids()),
        }
    }

    /// Single HTTP posts: what is ours, and what is the load's.
    pub(crate) fn alike(&self, number: usize) -> Alike {
        let address = edge::address(&self.edge, "rest");
        let bare = |connections, rate| {
            let server = &self.bare_http;
            self.load(Protocol::Http, server.address, connections, 1, rate, &[server.pid()])
        };
        let ours = |connections| self.load(Protocol::Http, address, connections, 1, None, &self.our_pids());
        self.say(number, "HTTP/1.1: the sidecar, then producer and bare HTTP server at its rate");
        let single = ours(CONNECTIONS);
        let rate = Some(single.rate() as u32);
        let (producer, server) = (self.produce(self.schedule, true, rate), bare(CONNECTIONS, rate));
        self.say(number, &format!("HTTP/1.1 with {CROWD} connections: bare HTTP server, then the sidecar"));
        Alike {
            ours: single,
            producer,
            server,
            crowd: Pair { floor: bare(CROWD, None), ours: ours(CROWD) },
            busy_producer: self.produce(self.schedule, true, None),
        }
    }

    /// Starts the sidecar again, and opens idle connections to it.
    pub(crate) fn idle(&mut self) -> Readings {
        say("starting the sidecar again; idle connections");
        // The old one must be gone: it has the ports.
        self.ours.kill();
        self.ours = Server::sidecar(self.folder.path(), &self.config, &self.edge);
        steady_rss_kib(self.ours.pid());
        let server = edge::address(&self.edge, "mqtt").to_string();
        let counts = IDLE.map(|count| count.to_string()).join(",");
        let watch = self.ours.pid().to_string();
        worker::run(&words(&["idle", "--server", &server, "--connections", &counts, "--watch", &watch]))
    }

    /// Devices that come back to a sidecar that has just started, for each kind of password.
    pub(crate) fn fleets(&mut self) -> Vec<Figure> {
        self.ours.kill();
        fleet::Kind::ALL
            .into_iter()
            .flat_map(|kind| {
                say(&format!(
                    "{} devices with {} come back to a sidecar that has just started",
                    fleet::DEVICES,
                    kind.name()
                ));
                fleet::figures(kind, &self.edge, self.folder.path())
            })
            .collect()
    }

    fn our_pids(&self) -> [u32; 2] {
        [self.ours.pid(), self.kafka.broker(0).pid()]
    }

    fn produce(&self, schedule: Schedule, headers: bool, rate: Option<u32>) -> Measured {
        let config = self.config.display().to_string();
        let mut arguments = words(&["produce", "--config", &config, "--keys", &CONNECTIONS.to_string()]);
        if headers {
            arguments.push("--headers".to_owned());
        }
        arguments.extend(worker::times(schedule, &[self.kafka.broker(0).pid()]));
        arguments.extend(paced(rate));
        worker::run(&arguments)
    }

    fn load(
        &self,
        protocol: Protocol,
        server: std::net::SocketAddr,
        connections: usize,
        window: usize,
        rate: Option<u32>,
        watch: &[u32],
    ) -> Measured {
        let rate = paced(rate);
        let more: Vec<_> = rate.iter().map(String::as_str).collect();
        worker::load(protocol, server, [connections, window], self.schedule, watch, &more)
    }

    fn say(&self, number: usize, what: &str) {
        say(&format!("round {}: {what}", number + 1));
    }
}

/// Starts the sidecar some times, one after the other, and keeps the last.
fn start_idle(
    folder: &TempDir,
    config: &std::path::Path,
    edge: &EdgeConfig,
    starts: usize,
) -> (Server, Vec<f64>) {
    let mut readings = Vec::new();
    loop {
        let server = Server::sidecar(folder.path(), config, edge);
        readings.push(steady_rss_kib(server.pid()));
        if readings.len() == starts {
            return (server, readings);
        }
    }
}

fn paced(rate: Option<u32>) -> Vec<String> {
    rate.map_or(Vec::new(), |rate| words(&["--rate", &rate.to_string()]))
}

/// Progress.
pub(crate) fn say(what: &str) {
    eprintln!("bench: {what}");
}

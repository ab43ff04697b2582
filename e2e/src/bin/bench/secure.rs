//! The figures of TLS: what it adds to a message, and what a returning device costs.

use std::path::Path;

use penstock_crds::edge::{ClientAuth, ReferencePath, TlsConfig, TlsVersion};
use penstock_e2e::pki::Authority;

use crate::figures::{Figure, Mark};
use crate::load::Protocol;
use crate::measured::Measured;
use crate::reconnect::Reconnects;
use crate::rounds::say;
use crate::schedule::Schedule;
use crate::servers::Server;
use crate::{edge, rounds, worker};

const CONNECTIONS: usize = 64;
const WINDOW: usize = 32;
const RECONNECTS: usize = 5_000;

/// Measures them on a sidecar of their own. The same load, with writes of the same size, plain and with TLS 1.3.
pub(crate) fn figures(schedule: Schedule) -> Vec<Figure> {
    say("TLS: starting Kafka and the sidecar");
    let kafka = rounds::kafka();
    let authority = Authority::fresh();
    authority.issue("server", "/CN=server", &["DNS:localhost", "IP:127.0.0.1"]);
    let mut config = edge::config(&kafka, "bench");
    let mut secure = config.endpoints[0].clone();
    secure.name = "mqtts".to_owned();
    secure.port = penstock_e2e::ports::free();
    secure.tls = Some(TlsConfig {
        certificate: ReferencePath("server.crt".to_owned()),
        key: ReferencePath("server.key".to_owned()),
        client_auth: ClientAuth::None,
        client_ca: None,
        minimum_version: TlsVersion::Tls13,
    });
    let mut source = config.routes[0].from[0].clone();
    source.endpoint.clone_from(&secure.name);
    config.routes[0].from.push(source);
    config.endpoints.push(secure);
    let folder = penstock_e2e::folder::fresh("bench-");
    let file = edge::write(folder.path(), &config);
    let sidecar = Server::sidecar_with(folder.path(), &file, &config, authority.folder());
    let (plain, secured) = (edge::address(&config, "mqtt"), edge::address(&config, "mqtts"));
    let ca = authority.path("ca.crt");
    let load = |server: std::net::SocketAddr, tls: bool, millis: u64| -> Measured {
        let schedule = Schedule { measure_millis: millis, ..schedule };
        let trust = ["--tls-ca", &ca];
        let more = if tls { &trust[..] } else { &[] };
        worker::load(Protocol::Mqtt3, server, [CONNECTIONS, WINDOW], schedule, &[sidecar.pid()], more)
    };
    load(plain, false, schedule.kafka_warmup_millis);
    let rounds: Vec<_> = (0..schedule.rounds)
        .map(|number| {
            say(&format!("round {}: MQTT 3.1.1, plain and with TLS 1.3", number + 1));
            let plain = || load(plain, false, schedule.measure_millis);
            let tls = || load(secured, true, schedule.measure_millis);
            // Neither always meets what the other one leaves to Kafka.
            if number % 2 == 0 {
                let plain = plain();
                (plain, tls())
            } else {
                let tls = tls();
                (plain(), tls)
            }
        })
        .collect();
    let back: Vec<_> = (0..schedule.latency_rounds)
        .map(|number| {
            say(&format!("round {}: {RECONNECTS} reconnects, resumed and in full", number + 1));
            [true, false].map(|resume| reconnect(secured, Path::new(&ca), resume, sidecar.pid()))
        })
        .collect();
    assert!(back.iter().all(|[resumed, full]| resumed.resumed == resumed.count && full.resumed == 0.0));
    let of = |value: &dyn Fn(&(Measured, Measured)) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let mut figures = vec![
        Figure::new(
            "tls_cpu_ratio",
            "TLS/plain",
            of(&|(plain, tls)| tls.watched_micros(0) / plain.watched_micros(0)),
        )
        .mark(Mark::AtMost(1.3)),
        Figure::new("tls_rate", "msg/s", of(&|(_, tls)| tls.rate())),
        Figure::new("tls_cpu_us", "µs/msg", of(&|(_, tls)| tls.watched_micros(0))),
        Figure::new("tls_plain_rate", "msg/s", of(&|(plain, _)| plain.rate())),
        Figure::new("tls_plain_cpu_us", "µs/msg", of(&|(plain, _)| plain.watched_micros(0))),
    ];
    for (index, name) in ["resumed", "full"].into_iter().enumerate() {
        let of = |value: &dyn Fn(&Reconnects) -> f64| {
            back.iter().map(|pair| value(&pair[index])).collect::<Vec<_>>()
        };
        figures.push(Figure::new(
            format!("tls_reconnect_{name}_rate"),
            "connections/s",
            of(&|back| back.count / back.seconds),
        ));
        figures.push(Figure::new(
            format!("tls_reconnect_{name}_cpu_us"),
            "µs each",
            of(&|back| back.watched * 1e6 / back.count),
        ));
    }
    figures
}

fn reconnect(server: std::net::SocketAddr, ca: &Path, resume: bool, watch: u32) -> Reconnects {
    let mut arguments: Vec<String> = [
        "reconnect",
        "--server",
        &server.to_string(),
        "--tls-ca",
        &ca.display().to_string(),
        "--count",
        &RECONNECTS.to_string(),
        "--watch",
        &watch.to_string(),
    ]
    .map(str::to_owned)
    .into();
    if resume {
        arguments.push("--resume".to_owned());
    }
    worker::run(&arguments)
}

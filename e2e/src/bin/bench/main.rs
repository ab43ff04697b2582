//! `make bench`: what a message costs us, beside what it costs a bare Kafka producer, mosquitto and a bare HTTP server
//! on the same machine in the same minutes. docs/performance.md says what is measured and how.
//!
//! The program starts itself again for everything that takes or makes load, so that each is a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed run")]

mod answer;
mod churn;
mod cluster;
mod edge;
mod figures;
mod fleet;
mod idle;
mod load;
mod machine;
mod measured;
mod operator;
mod payload;
mod plot;
mod produce;
mod reconnect;
mod report;
mod rounds;
mod scale;
mod schedule;
mod secure;
mod servers;
mod sessions;
mod soak;
mod takeover;
mod worker;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures penstock-sidecar against the floors it stands on, prints a table and writes target/bench.json.
#[derive(Parser)]
struct Arguments {
    /// Two short rounds instead of five: a look, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Only the figures of the operator and of a whole cluster.
    #[arg(long)]
    operator: bool,
    /// Only the figures of TLS.
    #[arg(long)]
    tls: bool,
    /// Only the figures of devices that come back to a sidecar that has just started.
    #[arg(long)]
    fleet: bool,
    /// Only whether cost grows with connections, routes, partitions and sizes, and what a message takes inside.
    #[arg(long)]
    scale: bool,
    /// Only the figures of QoS 2 and of kept sessions.
    #[arg(long)]
    sessions: bool,
    /// Only whether anything grows, in so many minutes under load.
    #[arg(long)]
    soak: Option<u64>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that run in processes of their own.
#[derive(Subcommand)]
#[command(hide = true)]
enum Part {
    /// Sends MQTT or HTTP and waits for the answers.
    Load(load::Arguments),
    /// The floor P: a bare Kafka producer.
    Produce(produce::Arguments),
    /// The floor H: a bare HTTP server.
    Answer(answer::Arguments),
    /// Opens MQTT connections and leaves them idle.
    Idle(idle::Arguments),
    /// Clients that come, send a message, and go.
    Churn(churn::Arguments),
    /// Connects with TLS again and again.
    Reconnect(reconnect::Arguments),
    /// Takes clients over from one pod to another.
    Takeover(takeover::Arguments),
    /// Devices with passwords that all come back at once.
    Fleet(fleet::Arguments),
}

fn main() {
    let arguments = Arguments::parse();
    raise_descriptor_limit();
    if let Some(minutes) = arguments.soak {
        return report::run_soak(minutes);
    }
    match arguments.part {
        None if arguments.fleet => report::run_fleet(arguments.quick),
        None if arguments.operator => report::run_operator(arguments.quick),
        None if arguments.tls => report::run_tls(arguments.quick),
        None if arguments.scale => report::run_scale(arguments.quick),
        None if arguments.sessions => report::run_sessions(arguments.quick),
        None => report::run(arguments.quick),
        Some(Part::Load(arguments)) => worker::answer(&load::run(&arguments)),
        Some(Part::Produce(arguments)) => worker::answer(&produce::run(&arguments)),
        Some(Part::Answer(arguments)) => answer::run(&arguments),
        Some(Part::Idle(arguments)) => worker::answer(&idle::run(&arguments)),
        Some(Part::Churn(arguments)) => worker::answer(&churn::run(&arguments)),
        Some(Part::Reconnect(arguments)) => worker::answer(&reconnect::run(&arguments)),
        Some(Part::Takeover(arguments)) => worker::answer(&takeover::run(&arguments)),
        Some(Part::Fleet(arguments)) => worker::answer(&fleet::run(&arguments)),
    }
}

/// To what the machine allows; children inherit it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("the soft limit may rise to the hard one");
}

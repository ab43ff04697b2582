//! Work in a process of its own: this program again, with another subcommand, that ends with one line of JSON.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::load::Protocol;
use crate::measured::Measured;
use crate::schedule::Schedule;

/// Runs a part of this program to its end, and returns what it answers.
///
/// # Panics
/// When the part fails; it has said why on standard error.
pub(crate) fn run<T: DeserializeOwned>(arguments: &[String]) -> T {
    let program = std::env::current_exe().expect("a path of this program");
    // As in the harness: it is killed when this process dies.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments).stderr(Stdio::inherit());
    let output = command.output().expect("setpriv (util-linux)");
    assert!(output.status.success(), "bench {} failed", arguments.join(" "));
    serde_json::from_slice(&output.stdout).expect("one line of JSON from a part of this program")
}

/// Runs the load: so many connections with so many messages on the way on each, as long as the schedule says; `watch` are
/// the processes whose CPU is measured.
pub(crate) fn load(
    protocol: Protocol,
    server: SocketAddr,
    [connections, window]: [usize; 2],
    schedule: Schedule,
    watch: &[u32],
    more: &[&str],
) -> Measured {
    let mut arguments = words(&["load", "--protocol", protocol.name(), "--server", &server.to_string()]);
    arguments.extend(words(&["--connections", &connections.to_string(), "--window", &window.to_string()]));
    arguments.extend(times(schedule, watch));
    arguments.extend(words(more));
    run(&arguments)
}

/// The arguments that say how long, and whose CPU.
pub(crate) fn times(schedule: Schedule, watch: &[u32]) -> Vec<String> {
    let (warmup, measure) = (schedule.warmup_millis.to_string(), schedule.measure_millis.to_string());
    let mut arguments = words(&["--warmup-millis", &warmup, "--measure-millis", &measure]);
    if !watch.is_empty() {
        let pids: Vec<_> = watch.iter().map(u32::to_string).collect();
        arguments.extend(words(&["--watch", &pids.join(",")]));
    }
    arguments
}

/// The other side of [`run`].
pub(crate) fn answer(result: &impl Serialize) {
    println!("{}", serde_json::to_string(result).expect("serialisable numbers"));
}

/// Arguments of a part.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

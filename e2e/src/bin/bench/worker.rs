//! Work in a process of its own: this program again, with another subcommand, that ends with one line of JSON.

use std::process::{Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

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

/// The other side of [`run`].
pub(crate) fn answer(result: &impl Serialize) {
    println!("{}", serde_json::to_string(result).expect("serialisable numbers"));
}

//! `make campaign`: load, faults, and the checker's judgement, for as long as one likes. docs/proof.md has the last long run.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use penstock_e2e::campaign::{self, Plan};

/// Runs load on real parts, breaks and mends them by a seeded schedule, and says what was lost: nothing, if all is well.
/// Writes target/campaign.json and target/campaign.md; the exit code is 1 if anything is that must not be.
#[derive(Parser)]
struct Arguments {
    /// No round begins after so many minutes.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// The same seed brings the same faults in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages a second, of all clients together.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Faults in a round; memory grows with it.
    #[arg(long, default_value_t = 12)]
    faults_a_round: usize,
}

fn main() -> ExitCode {
    let Arguments { minutes, seed, rate, faults_a_round } = Arguments::parse();
    let plan = Plan { seed, time: Duration::from_secs(minutes * 60), faults_a_round, rate };
    let report = campaign::run(&plan);
    let written = std::fs::create_dir_all("target")
        .and_then(|()| Ok(serde_json::to_vec_pretty(&report)?))
        .and_then(|json| std::fs::write("target/campaign.json", json))
        .and_then(|()| std::fs::write("target/campaign.md", report.markdown()));
    println!("{}", report.markdown());
    if let Err(error) = written {
        eprintln!("cannot write the report below target: {error}");
        return ExitCode::from(2);
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

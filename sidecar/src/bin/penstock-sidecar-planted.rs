//! `penstock-sidecar` with a bug, for the tests of the checker.

use std::process::ExitCode;

fn main() -> ExitCode {
    penstock_sidecar::cli::main()
}

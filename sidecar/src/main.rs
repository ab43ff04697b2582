//! The command `penstock-sidecar`.

use std::process::ExitCode;

fn main() -> ExitCode {
    penstock_sidecar::cli::main()
}

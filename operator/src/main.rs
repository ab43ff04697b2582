//! The command `penstock-operator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    penstock_operator::cli::main()
}

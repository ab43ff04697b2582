//! `make image`: container images of the programs beside this one, each as one tar file in `target/images`.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]
#![allow(clippy::expect_used, reason = "a failed step is a failed run")]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use penstock_e2e::Image;

/// Writes container images of release builds as OCI image layouts.
#[derive(Parser)]
struct Arguments {
    /// Which ones.
    #[arg(required = true)]
    images: Vec<Which>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Sidecar,
    Operator,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Operator => "operator",
        }
    }

    /// What a release may unpack to at most.
    fn limit_megabytes(self) -> u64 {
        match self {
            Self::Sidecar => 40,
            Self::Operator => 30,
        }
    }
}

fn main() -> ExitCode {
    let beside = std::env::current_exe().expect("a path of this program");
    let programs = beside.parent().expect("a folder of programs");
    let out = programs.with_file_name("images");
    std::fs::create_dir_all(&out).expect("a folder for images");
    let mut code = ExitCode::SUCCESS;
    for which in Arguments::parse().images {
        let name = which.name();
        let image = Image::of_program(&programs.join(format!("penstock-{name}")));
        let reference = format!("penstock-{name}:{}", env!("CARGO_PKG_VERSION"));
        let file = out.join(format!("{name}.tar"));
        image.write(&reference, &file);
        let (bytes, limit) = (image.bytes(), which.limit_megabytes());
        let megabytes = format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
        println!("{reference}  {megabytes} of {limit} MB  {}", file.display());
        if bytes > limit * 1_000_000 {
            println!("{reference} is larger than it may be");
            code = ExitCode::FAILURE;
        }
    }
    code
}

//! Logs: for people on a terminal, JSON lines in a pod. All of them go to standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless `PENSTOCK_LOG` says otherwise. The protocol library of dev mode takes a Kafka client that
/// closes its connection for an error; what matters of its broker is logged by `dev`.
const DEFAULT_FILTER: &str = "warn,penstock_sidecar=info,penstock_operator=info,tansu_broker=off,tansu_service=off,tansu_sans_io=off,\
                              tansu_storage=off,tansu_auth=off";

/// The variable that takes a `tracing` filter, such as `penstock_sidecar=debug`.
pub const FILTER_VARIABLE: &str = "PENSTOCK_LOG";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. Returns an error text when the filter cannot be read.
pub fn start(format: LogFormat) -> Result<(), String> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(&filter).map_err(|error| {
            format!("{FILTER_VARIABLE}={filter}: {error}; write it as `warn,penstock_sidecar=debug`")
        })?,
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    let terminal = stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
    let started = if json {
        registry
            .with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false))
            .try_init()
    } else {
        registry.with(layer.with_target(false).with_ansi(terminal)).try_init()
    };
    started.map_err(|error| error.to_string())
}

//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
#[cfg(feature = "dev-broker")]
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use penstock_crds::edge::EdgeConfig;

use crate::config::{self, ConfigError};
#[cfg(feature = "dev-broker")]
use crate::dev::{Broker, DevError, live, panel};
use crate::drain::{self, Requests, StoreFailed};
use crate::edge::{Edge, EdgeError};
use crate::memory;
use crate::telemetry::Telemetry;
use crate::telemetry::admin::{self, AdminError};
use crate::telemetry::logging::{self, LogFormat};

/// How the process ends; the numbers are an interface.
pub mod exit {
    /// As asked.
    pub const DONE: u8 = 0;
    /// Something that should not happen.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The pipeline or configuration is refused.
    pub const REFUSED: u8 = 3;
    /// The machine does not allow it: a file, a port, a folder.
    pub const MACHINE: u8 = 4;
}

const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked
  1  failed while running; the last log line says why
  2  the command line is wrong
  3  the pipeline or configuration is refused; each problem is named with its place and what to do
  4  the machine does not allow it: a file cannot be read, a port is in use, a folder cannot be written

Environment:
  PENSTOCK_LOG  what is logged, such as `warn,penstock_sidecar=debug`";

/// Takes messages in over MQTT and HTTP, makes them durable in Kafka, and only then answers the sender.
#[derive(Debug, Parser)]
#[command(name = "penstock-sidecar", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How log lines look on standard error.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a pipeline with the Kafka that it names.
    Run(Run),
    /// Serve a pipeline with a Kafka-compatible broker in this process: nothing else is needed.
    #[cfg(feature = "dev-broker")]
    Dev(Dev),
    /// Check a manifest as the API server and the operator would, without either.
    Validate(Manifest),
    /// Ask a running sidecar to drain, and wait while it still accepts connections: the preStop hook of its pod.
    Drain(Drain),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "source")]
struct Source {
    /// The configuration that the operator made, as JSON.
    #[arg(long, value_name = "EDGE.json")]
    config: Option<PathBuf>,
    /// An IngestPipeline manifest.
    #[arg(short = 'f', long = "file", value_name = "PIPELINE.yaml")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
    /// Folder with the files that the pipeline refers to: secrets/NAME/KEY and configmaps/NAME/KEY.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/penstock/references")]
    references: PathBuf,
    /// Where probes, metrics and ledger are served, in place of the pipeline's port on all addresses.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Socket file on which `penstock-sidecar drain` is heard.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    serve: Serve,
}

#[cfg(feature = "dev-broker")]
#[derive(Debug, Args)]
struct Dev {
    #[command(flatten)]
    manifest: Manifest,
    /// Folder in which messages are kept, also for the next run.
    #[arg(long, value_name = "FOLDER", default_value = ".penstock")]
    data: PathBuf,
    /// Loopback port of the broker for Kafka clients; 0 takes any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    kafka_port: u16,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Args)]
struct Manifest {
    /// An IngestPipeline manifest.
    #[arg(short = 'f', long = "file", value_name = "PIPELINE.yaml")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Drain {
    /// The socket file that the sidecar was given.
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Store(#[from] StoreFailed),
    #[cfg(feature = "dev-broker")]
    #[error(transparent)]
    Dev(#[from] DevError),
    #[error("{0}: {1}")]
    Machine(String, std::io::Error),
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) if error.is_unreadable() => exit::MACHINE,
            Self::Config(_) => exit::REFUSED,
            Self::Edge(error) if error.is_configuration() => exit::REFUSED,
            Self::Edge(_) | Self::Admin(_) | Self::Machine(..) => exit::MACHINE,
            Self::Store(_) => exit::FAILED,
            #[cfg(feature = "dev-broker")]
            Self::Dev(DevError::Ended(_)) => exit::FAILED,
            #[cfg(feature = "dev-broker")]
            Self::Dev(error) if error.is_configuration() => exit::REFUSED,
            #[cfg(feature = "dev-broker")]
            Self::Dev(_) => exit::MACHINE,
            Self::Usage(_) => exit::USAGE,
        }
    }
}

/// Reads the command line, runs the command, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    // clap writes what is wrong, or the help, and ends with 2 or 0.
    let arguments = Arguments::parse();
    match logging::start(arguments.log_format).map_err(Failure::Usage).and_then(|()| run(arguments.command)) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "penstock-sidecar: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(Run { source, serve }) => {
            let config = match (source.config, source.file) {
                (Some(path), _) => config::read_edge_config(&path)?,
                (None, Some(path)) => config::read_manifest(&path)?,
                (None, None) => return Err(Failure::Usage("give --config or --file".to_owned())),
            };
            runtime()?.block_on(serve_edge(config, serve, |_, _| {}))
        }
        #[cfg(feature = "dev-broker")]
        Command::Dev(Dev { manifest, data, kafka_port, serve }) => {
            let config = config::read_manifest(&manifest.file)?;
            runtime()?.block_on(serve_dev(config, &data, kafka_port, serve))
        }
        Command::Validate(Manifest { file }) => {
            let config = config::read_manifest(&file)?;
            let _ = writeln!(
                std::io::stdout(),
                "{}: good: {} endpoints, {} routes, {} topics",
                file.display(),
                config.endpoints.len(),
                config.routes.len(),
                config.topics.len()
            );
            Ok(())
        }
        Command::Drain(Drain { control }) => {
            let asked = runtime()?.block_on(drain::ask(&control));
            asked.map_err(|error| Failure::Machine(format!("cannot ask at {}", control.display()), error))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    memory::keep_freed_memory();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("penstock").build();
    runtime.map_err(|error| Failure::Machine("cannot start threads".to_owned(), error))
}

/// Each connection is a descriptor: take as many as the machine allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Serves until it is asked to drain; `started` is called when clients are let in, with the address of the admin port.
async fn serve_edge(
    config: EdgeConfig,
    serve: Serve,
    started: impl FnOnce(&Arc<Edge>, SocketAddr),
) -> Result<(), Failure> {
    let admin = admin::listen(serve.admin, config.admin_port)?;
    let address = admin.local_addr().map_err(|error| Failure::Machine("the admin port".to_owned(), error))?;
    let requests = Requests::listen(serve.control.as_deref())
        .map_err(|error| Failure::Machine("cannot listen for signals or on --control".to_owned(), error))?;
    let edge = Edge::start(config, &serve.references)?;
    for endpoint in &edge.config().endpoints {
        tracing::info!(endpoint = endpoint.name, port = endpoint.port, "listening");
    }
    tokio::spawn(admin::serve(admin, Arc::new(Telemetry::new(&edge))));
    started(&edge, address);
    drain::serve_until_drained(&edge, requests).await?;
    Ok(())
}

/// Serves with the embedded broker, which goes last.
#[cfg(feature = "dev-broker")]
async fn serve_dev(
    mut config: EdgeConfig,
    data: &Path,
    kafka_port: u16,
    serve: Serve,
) -> Result<(), Failure> {
    let broker = Broker::start(data, kafka_port, &mut config).await?;
    let panel = |edge: &Arc<Edge>, admin: SocketAddr| {
        let panel = panel::render(edge.config(), broker.notice(), admin);
        let _ = std::io::stdout().write_all(panel.as_bytes());
        let ledger = edge.ledger().clone();
        tokio::spawn(async move { live::run(&ledger).await });
    };
    let result = tokio::select! {
        result = serve_edge(config, serve, panel) => result,
        error = broker.ended() => Err(error.into()),
    };
    broker.stop().await;
    result
}

//! The command line.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use kube::Config;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use parking_lot::{Mutex, RwLock};
use penstock_crds::edge::ADMIN_PORT;
use penstock_crds::problem::Problem;
use penstock_crds::resolve::resolve;
use penstock_crds::{manifest, schema};
use penstock_sidecar::memory;
use penstock_sidecar::telemetry::admin::{self, AdminError};
use penstock_sidecar::telemetry::logging::{self, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::client;
use crate::controller::{self, AGAIN};
use crate::lease::{Lease, LeaseLost, identity};
use crate::memory::Memory;
use crate::names::FIELD_MANAGER;
use crate::plan::{Defaults, Validated, plan};
use crate::reconcile::{Context, Stored};
use crate::telemetry::Telemetry;
use crate::topics::{AllowedServers, Clusters, ServerPattern};
use crate::upgrades::Upgrades;

/// How the process ends; the numbers are an interface, and those of the sidecar.
use penstock_sidecar::cli::exit;

const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked
  1  failed while running, or another operator leads now; the last log line says why
  2  the command line is wrong
  3  the pipeline is refused; each problem is named with its place and what to do
  4  the machine does not allow it: a file cannot be read, a port is in use, no API server is configured

Environment:
  PENSTOCK_LOG  what is logged, such as `warn,penstock_operator=debug`
  KUBECONFIG    the API server, outside a cluster";

/// Brings edge Deployments, Services and topics to what IngestPipelines declare.
#[derive(Debug, Parser)]
#[command(name = "penstock-operator", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How log lines look on standard error.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller.
    Run(Box<Run>),
    /// Print the objects that a pipeline would get, exactly as they would be applied. Asks nobody: uids, and versions of
    /// Secrets and ConfigMaps, are those of a pipeline that no cluster has seen.
    Plan(PlanArguments),
    /// Print the CustomResourceDefinition.
    Crd,
}

#[derive(Debug, Args)]
struct Run {
    /// Namespaces whose pipelines are served, separated by commas. Default: all.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    #[command(flatten)]
    sidecar: Sidecar,
    /// Kafka servers, and servers of `oauthBearer.tokenEndpoint`, that pipelines may name, `HOST:PORT` separated by commas;
    /// `*.domain:PORT` stands for all hosts of a domain. Default: all.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    allowed_bootstrap_servers: Vec<ServerPattern>,
    /// How many pipelines may roll at once because this operator brings another sidecar.
    #[arg(long, value_name = "PIPELINES", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    max_upgrades: u16,
    /// How many pipelines are reconciled at once.
    #[arg(long, value_name = "PIPELINES", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Port of probes and metrics, on all addresses.
    #[arg(long, value_name = "PORT", default_value_t = ADMIN_PORT)]
    admin_port: u16,
    /// Namespace of the Lease by which one operator of several leads. Default: that of the pod or kubeconfig.
    #[arg(long, value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "penstock-operator")]
    lease_name: String,
    /// Who this is, in the Lease and in Events: the name of the pod.
    #[arg(long, value_name = "NAME", default_value = "penstock-operator")]
    identity: String,
}

#[derive(Debug, Args)]
struct Sidecar {
    /// Image of the sidecar, where a pipeline names none.
    #[arg(long, value_name = "IMAGE", default_value = concat!("penstock-sidecar:", env!("CARGO_PKG_VERSION")))]
    sidecar_image: String,
}

#[derive(Debug, Args)]
struct PlanArguments {
    /// An IngestPipeline manifest; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "PIPELINE.yaml")]
    file: PathBuf,
    #[command(flatten)]
    sidecar: Sidecar,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", listed(.0))]
    Refused(Vec<Problem>),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("{0}: {1}")]
    Machine(String, std::io::Error),
    #[error("no API server is configured: {0}; run in a pod, or set KUBECONFIG")]
    NoServer(String),
    #[error(transparent)]
    Lease(#[from] LeaseLost),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Defect(String),
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => exit::REFUSED,
            Self::Admin(_) | Self::Machine(..) | Self::NoServer(_) => exit::MACHINE,
            Self::Lease(_) | Self::Defect(_) => exit::FAILED,
            Self::Usage(_) => exit::USAGE,
        }
    }
}

/// Reads the command line, runs the command, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    // clap writes what is wrong, or the help, and ends with 2 or 0.
    let arguments = Arguments::parse();
    match logging::start(arguments.log_format)
        .map_err(Failure::Usage)
        .and_then(|()| command(arguments.command))
    {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "penstock-operator: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => {
            memory::give_freed_memory_back();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .worker_threads(2)
                .build()
                .map_err(|error| Failure::Machine("the runtime cannot start".to_owned(), error))?;
            let result = runtime.block_on(run(*arguments));
            // A call of Kafka's client that hangs must not hold the end up.
            runtime.shutdown_background();
            result
        }
        Command::Plan(arguments) => print(&planned(&arguments)?),
        Command::Crd => print(&schema::crd_yaml().map_err(|error| Failure::Defect(error.to_string()))?),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::Machine("standard output".to_owned(), error))
}

fn planned(arguments: &PlanArguments) -> Result<String, Failure> {
    let text = read(&arguments.file)?;
    let pipeline = manifest::read(&text).map_err(Failure::Refused)?;
    let edge = resolve(&pipeline).map_err(Failure::Refused)?;
    let validated = Validated { pipeline: &pipeline, edge, versions: Default::default() };
    let defaults = Defaults { sidecar_image: arguments.sidecar.sidecar_image.clone() };
    let documents = plan(&validated, &defaults).children.in_order().into_iter().map(|child| {
        let mut body = child.body;
        if let (Some(replicas), None) = (child.replicas_at_creation, body.pointer("/spec/replicas")) {
            body["spec"]["replicas"] = replicas.into();
        }
        serde_yaml::to_string(&body).map(|text| format!("---\n{text}"))
    });
    documents.collect::<Result<String, _>>().map_err(|error| Failure::Defect(error.to_string()))
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Failure::Machine(file.display().to_string(), error))
}

async fn run(arguments: Run) -> Result<(), Failure> {
    let config = Config::infer().await.map_err(|error| Failure::NoServer(error.to_string()))?;
    let namespace = arguments.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let telemetry = Arc::new(Telemetry::default());
    let listener = admin::listen(None, arguments.admin_port)?;
    tokio::spawn(admin::serve(listener, Arc::clone(&telemetry)));
    let client = client::connect(config, &telemetry).map_err(|error| Failure::NoServer(error.to_string()))?;
    let mut ended = Box::pin(asked_to_end()?);
    let mut lease =
        Lease::new(client.clone(), &namespace, &arguments.lease_name, &identity(&arguments.identity));
    tokio::select! {
        () = &mut ended => return Ok(()),
        () = async {
            client::until_served(&client, &telemetry).await;
            tracing::info!("waiting to lead");
            lease.acquire().await;
        } => {}
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "leading");
    telemetry.metrics().leads(true);
    let (send, again) = mpsc::channel::<ObjectRef<Stored>>(AGAIN);
    let reporter =
        Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(arguments.identity.clone()) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        clusters: Clusters::new(AllowedServers::new(arguments.allowed_bootstrap_servers)),
        defaults: Defaults { sidecar_image: arguments.sidecar.sidecar_image },
        upgrades: Upgrades::new(arguments.max_upgrades.into()),
        claims: Mutex::default(),
        memory: Memory::default(),
        turns: Semaphore::new(arguments.concurrency.into()),
        metrics: Arc::clone(telemetry.metrics()),
        scopes: RwLock::default(),
        again: send,
    });
    let (controllers_ended, until_ended) = tokio::sync::oneshot::channel::<()>();
    // A task of its own: nothing that a reconcile does delays a renewal.
    let held = tokio::spawn(lease.hold(async {
        let _ = until_ended.await;
    }));
    tokio::spawn(async move {
        controller::run(context, &arguments.watch_namespaces, again, ended).await;
        drop(controllers_ended);
    });
    // Whoever does not lead any more ends at once, in the midst of whatever it does: another one leads.
    held.await.map_err(|error| Failure::Defect(error.to_string()))??;
    tracing::info!("ended");
    Ok(())
}

/// SIGTERM or SIGINT.
fn asked_to_end() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::Machine("signals cannot be heard".to_owned(), error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

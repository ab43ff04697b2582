//! The real `penstock-sidecar`, started on a manifest.

mod admin;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use self::admin::get;
pub use self::admin::{Answer, metric, metrics, unbalanced};
use crate::load::Plan;
use crate::load::wire::Version;
use crate::pipeline::Pipeline;
use crate::until::{START, until};
use crate::{Process, folder, mounted, ports};

/// What a sidecar takes beside its budgets: program, librdkafka, thread stacks, and what the allocator keeps. Bytes.
pub const BESIDE_BUDGETS: u64 = 96 << 20;

/// How to start a sidecar; ends in [`Builder::start`] or [`Builder::run`].
pub struct Builder {
    subcommand: &'static str,
    manifest: String,
    references: Vec<(String, String)>,
    secrets: Vec<(String, Vec<(String, String)>)>,
    arguments: Vec<String>,
    bug: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
    ready: bool,
}

/// The file of the manifest, in the sidecar's folder.
const MANIFEST: &str = "pipeline.yaml";

/// A running sidecar. It keeps its ports and its folder when it is started again.
pub struct Sidecar {
    process: Process,
    admin: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    launch: Launch,
    folder: TempDir,
}

/// What is started, and started again.
struct Launch {
    arguments: Vec<String>,
    bug: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
}

/// The `penstock-sidecar` to test: `PENSTOCK_SIDECAR_BIN`, or the one beside this program or test in the target folder.
///
/// # Panics
/// When it was not built.
#[track_caller]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("PENSTOCK_SIDECAR_BIN").map_or_else(
        || {
            let program = std::env::current_exe().expect("a path of this program");
            // Tests are in target/PROFILE/deps, programs in target/PROFILE.
            let folder = program.parent().expect("a folder");
            let folder =
                if folder.ends_with("deps") { folder.parent().expect("target/PROFILE") } else { folder };
            folder.join("penstock-sidecar")
        },
        PathBuf::from,
    );
    assert!(path.is_file(), "{} is missing: run `cargo build -p penstock-sidecar` first", path.display());
    path
}

impl Sidecar {
    /// A sidecar that serves a pipeline.
    pub fn run(pipeline: &Pipeline) -> Builder {
        Self::manifest(pipeline.to_string())
    }

    /// A sidecar on any text as its manifest.
    pub fn manifest(manifest: impl Into<String>) -> Builder {
        Builder {
            subcommand: "run",
            manifest: manifest.into(),
            references: Vec::new(),
            secrets: Vec::new(),
            arguments: Vec::new(),
            bug: None,
            environment: Vec::new(),
            ready: true,
        }
    }

    /// Address of an endpoint.
    #[track_caller]
    pub fn listener(&self, endpoint: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == endpoint);
        found.unwrap_or_else(|| panic!("no endpoint {endpoint}")).1
    }

    /// Address of the endpoint `mqtt`.
    #[track_caller]
    pub fn mqtt(&self) -> SocketAddr {
        self.listener("mqtt")
    }

    /// Address of the endpoint `rest`.
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.listener("rest")
    }

    /// Address of probes, metrics and ledger.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A load of MQTT 3.1.1 clients for the endpoint `mqtt`.
    pub fn mqtt3_load(&self) -> Plan {
        Plan::mqtt(self.mqtt(), Version::V311)
    }

    /// A load of MQTT 5 clients for the endpoint `mqtt`.
    pub fn mqtt5_load(&self) -> Plan {
        Plan::mqtt(self.mqtt(), Version::V5)
    }

    /// A load of HTTP/1.1 clients for the endpoint `rest`.
    pub fn http_load(&self) -> Plan {
        Plan::http(self.http())
    }

    /// A load of HTTP/2 clients for the endpoint `rest`.
    pub fn http2_load(&self) -> Plan {
        Plan::http2(self.http())
    }

    /// Bootstrap servers of the embedded broker, for a sidecar that was started with [`Builder::dev`].
    #[track_caller]
    pub fn embedded_kafka(&self) -> String {
        let log = self.log();
        let address = log.lines().rev().find_map(|line| line.strip_prefix("Kafka clients"));
        address.unwrap_or_else(|| panic!("no broker in the panel: {log}")).trim().to_owned()
    }

    /// GET on the admin port; `None` while nobody answers.
    pub fn get(&self, path: &str) -> Option<Answer> {
        get(self.admin, path)
    }

    /// Whether `/readyz` says 200.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|answer| answer.status == 200)
    }

    /// The ledger.
    #[track_caller]
    pub fn ledger(&self) -> Value {
        let answer = self.get("/ledger").expect("an answer from /ledger");
        assert_eq!(answer.status, 200, "/ledger: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("/ledger: {error}: {}", answer.body))
    }

    /// One number of the ledger's total.
    #[track_caller]
    pub fn total(&self, field: &str) -> u64 {
        let ledger = self.ledger();
        ledger["total"][field].as_u64().unwrap_or_else(|| panic!("/ledger has no total.{field}: {ledger}"))
    }

    /// Checks contract 5 on one snapshot of the ledger, for each endpoint and the total, and returns the snapshot.
    #[track_caller]
    pub fn assert_ledger_balances(&self) -> Value {
        let ledger = self.ledger();
        assert_eq!(unbalanced(&ledger), Vec::<String>::new());
        ledger
    }

    /// The metrics as text.
    #[track_caller]
    pub fn metrics(&self) -> String {
        metrics(self.admin)
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn rss(&self) -> u64 {
        self.process.rss()
    }

    /// The most that resident memory has been, in bytes.
    #[track_caller]
    pub fn peak_rss(&self) -> u64 {
        self.process.peak_rss()
    }

    /// Changes a mounted Secret as kubelet does.
    #[track_caller]
    pub fn change_secret(&self, name: &str, files: &[(&str, &str)]) {
        mounted::write(&self.folder.path().join("references"), name, files);
    }

    /// The value of a metric, by its name and labels as the text has them.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        metric(&self.metrics(), name)
    }

    /// The sum of a metric over all its labels, 0 where there is none.
    #[track_caller]
    pub fn metric_sum(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        let values = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())?
        });
        values.map(|value| value.parse::<f64>().expect("a number")).sum()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: connections stay up, nothing answers.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// SIGTERM; see [`Sidecar::wait_exit_code`].
    pub fn sigterm(&mut self) -> &mut Self {
        self.process.signal(Signal::TERM);
        self
    }

    /// Waits for the end and returns the exit code.
    #[track_caller]
    pub fn wait_exit_code(&mut self, deadline: Duration) -> i32 {
        self.process.wait_exit_code(deadline)
    }

    /// Starts it again with the same manifest, ports and folder, and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = self.launch.start(self.folder.path());
        self.wait_ready();
    }

    /// The manifest with which it starts the next time. Ports must stay as they are.
    #[track_caller]
    pub fn change_manifest(&self, pipeline: &Pipeline) {
        std::fs::write(self.folder.path().join(MANIFEST), pipeline.to_string()).expect("a manifest file");
    }

    /// Replaces a file below the references folder, at once, as kubelet does.
    #[track_caller]
    pub fn change_reference(&self, path: &str, content: &str) {
        let file = self.folder.path().join("references").join(path);
        let new = self.folder.path().join("new-reference");
        std::fs::write(&new, content).expect("a new reference");
        std::fs::rename(new, file).expect("a reference to replace");
    }

    /// Waits until `/readyz` says 200.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let admin = self.admin;
        self.process
            .until("/readyz says 200", START, || get(admin, "/readyz").filter(|answer| answer.status == 200));
    }

    /// Waits until every listener takes connections, ready or not.
    #[track_caller]
    pub fn wait_listening(&mut self) {
        let addresses: Vec<_> =
            self.listeners.iter().map(|(_, address)| *address).chain([self.admin]).collect();
        self.process.until("every listener takes connections", START, || {
            addresses.iter().all(|address| std::net::TcpStream::connect(address).is_ok()).then_some(())
        });
    }

    /// Waits until the log has a line with this text.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        until(&format!("{text:?} in the sidecar's log"), START, || self.log().contains(text).then_some(()));
    }
}

impl Builder {
    /// `penstock-sidecar dev` in place of `run`.
    #[must_use]
    pub fn dev(mut self, data: &Path) -> Self {
        self.subcommand = "dev";
        self.arguments.extend(["--data".to_owned(), data.display().to_string()]);
        self
    }

    /// The socket on which `penstock-sidecar drain` is heard.
    #[must_use]
    pub fn control(mut self, socket: &Path) -> Self {
        self.arguments.extend(["--control".to_owned(), socket.display().to_string()]);
        self
    }

    /// A file below the references folder: `secrets/NAME/KEY` or `configmaps/NAME/KEY`.
    #[must_use]
    pub fn reference(mut self, path: &str, content: &str) -> Self {
        self.references.push((path.to_owned(), content.to_owned()));
        self
    }

    /// A Secret that is mounted as kubelet does it; [`Sidecar::change_secret`] changes it.
    #[must_use]
    pub fn secret(mut self, name: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(key, content)| ((*key).to_owned(), (*content).to_owned()));
        self.secrets.push((name.to_owned(), files.collect()));
        self
    }

    /// The build with planted bugs, and which of them it has: to test the checker.
    #[must_use]
    pub fn planted(mut self, bug: Option<&'static str>) -> Self {
        self.bug = Some(bug.unwrap_or_default());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.push((name, value.to_string()));
        self
    }

    /// Waits only until the listeners are there: for sidecars that cannot become ready.
    #[must_use]
    pub fn not_ready(mut self) -> Self {
        self.ready = false;
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Sidecar {
        let manifest: Value =
            serde_json::from_str(&self.manifest).expect("a manifest from Pipeline, which is JSON");
        let endpoints = manifest["spec"]["endpoints"].as_array().expect("endpoints");
        let listeners = endpoints
            .iter()
            .map(|endpoint| {
                let port = endpoint["port"].as_u64().expect("a port") as u16;
                (
                    endpoint["name"].as_str().expect("a name").to_owned(),
                    SocketAddr::from(([127, 0, 0, 1], port)),
                )
            })
            .collect();
        let (ready, bug, environment) = (self.ready, self.bug, self.environment.clone());
        let (folder, admin, arguments) = self.prepare();
        let launch = Launch { arguments, bug, environment };
        let process = launch.start(folder.path());
        let mut sidecar = Sidecar { process, admin, listeners, launch, folder };
        if ready {
            sidecar.wait_ready();
        } else {
            sidecar.wait_listening();
        }
        sidecar
    }

    /// Runs a sidecar that is expected to end by itself, and returns its exit code and what it wrote.
    #[track_caller]
    pub fn run_to_end(self) -> Ended {
        let (folder, _, arguments) = self.prepare();
        let mut process = Process::start("sidecar", folder.path(), binary(), &arguments);
        let code = process.wait_exit_code(START);
        Ended { code, text: process.log() }
    }

    fn prepare(self) -> (TempDir, SocketAddr, Vec<String>) {
        let folder = folder::fresh("sidecar-");
        std::fs::write(folder.path().join(MANIFEST), &self.manifest).expect("a manifest file");
        for (path, content) in &self.references {
            let file = folder.path().join("references").join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a references folder");
            std::fs::write(file, content).expect("a reference");
        }
        for (name, files) in &self.secrets {
            let files: Vec<_> = files.iter().map(|(key, content)| (&**key, &**content)).collect();
            mounted::write(&folder.path().join("references"), name, &files);
        }
        let admin = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let mut arguments = vec![
            self.subcommand.to_owned(),
            "-f".to_owned(),
            MANIFEST.to_owned(),
            "--admin".to_owned(),
            admin.to_string(),
        ];
        if !self.references.is_empty() || !self.secrets.is_empty() {
            arguments.extend(["--references".to_owned(), "references".to_owned()]);
        }
        arguments.extend(self.arguments);
        (folder, admin, arguments)
    }
}

impl Launch {
    fn start(&self, folder: &Path) -> Process {
        let mut environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let Some(bug) = self.bug else {
            return Process::start_with("sidecar", folder, binary(), &self.arguments, &environment);
        };
        let planted = binary().with_file_name("penstock-sidecar-planted");
        assert!(planted.is_file(), "{} is missing: run `make planted` first", planted.display());
        environment.extend(Some(("PENSTOCK_PLANTED_BUG", bug)).filter(|(_, bug)| !bug.is_empty()));
        Process::start_with("sidecar", folder, planted, &self.arguments, &environment)
    }
}

/// A sidecar that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Everything that it wrote.
    pub text: String,
}

/// Runs `penstock-sidecar` with any arguments to its end.
#[track_caller]
pub fn command(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("the sidecar runs")
}

//! The operator as a process beside an API server, and a stand-in for the Deployment controller and kubelet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::until::{SOON, START};
use crate::{ApiServer, Process, folder, ports, sidecar, until};

/// The `penstock-operator` to test: `PENSTOCK_OPERATOR_BIN`, or the one beside the sidecar's.
///
/// # Panics
/// When it was not built.
#[track_caller]
pub fn binary() -> PathBuf {
    let beside = || sidecar::binary().with_file_name("penstock-operator");
    let path = std::env::var_os("PENSTOCK_OPERATOR_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// Runs `penstock-operator` with `arguments` to its end.
#[track_caller]
pub fn command(arguments: &[&str]) -> std::process::Output {
    Command::new(binary()).args(arguments).output().expect("the operator runs")
}

/// A running operator.
pub struct Operator {
    process: Process,
    admin: u16,
    _folder: TempDir,
}

impl Operator {
    /// Starts one that may do everything, and waits until it leads.
    #[track_caller]
    pub fn start(api: &ApiServer) -> Self {
        Self::start_with(api, &[])
    }

    /// As [`Operator::start`], with further arguments.
    #[track_caller]
    pub fn start_with(api: &ApiServer, arguments: &[&str]) -> Self {
        let mut operator = Self::start_as(&api.operator_kubeconfig(), arguments);
        operator.wait_to_lead();
        operator
    }

    /// Starts one with the rights of a kubeconfig, and waits for nothing.
    #[track_caller]
    pub fn start_as(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let folder = folder::fresh("operator-");
        let admin = ports::free();
        let mut all: Vec<String> = ["run", "--log-format", "json"].map(str::to_owned).into();
        if !arguments.contains(&"--lease-namespace") {
            all.extend(["--lease-namespace", "default"].map(str::to_owned));
        }
        all.extend(["--admin-port".to_owned(), admin.to_string()]);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let environment = [("KUBECONFIG", kubeconfig.to_str().expect("a path in UTF-8"))];
        let process = Process::start_with("operator", folder.path(), binary(), all, &environment);
        Self { process, admin, _folder: folder }
    }

    /// Waits until it leads.
    #[track_caller]
    pub fn wait_to_lead(&mut self) {
        let admin = self.admin;
        self.process
            .until("it leads", START, || Self::metric_at(admin, LEADER).filter(|leads| *leads == 1.0));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// A signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub fn end(mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.wait_exit_code(SOON)
    }

    /// The exit code, when it ends by itself.
    #[track_caller]
    pub fn wait_exit_code(&mut self, deadline: Duration) -> i32 {
        self.process.wait_exit_code(deadline)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A metric's value, by its name with labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        Self::metric_at(self.admin, name)
    }

    fn metric_at(admin: u16, name: &str) -> Option<f64> {
        let text = sidecar::get(([127, 0, 0, 1], admin).into(), "/metrics")?.body;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Status code and text of a path of the admin port.
    pub fn admin(&self, path: &str) -> Option<String> {
        sidecar::get(([127, 0, 0, 1], self.admin).into(), path).map(|answer| answer.body)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

const LEADER: &str = "penstock_operator_leader";

/// A condition of a pipeline, as `STATUS/REASON`; nothing while it is not there.
#[track_caller]
pub fn condition(pipeline: &Value, kind: &str) -> Option<String> {
    let conditions = pipeline.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

impl ApiServer {
    /// Applies manifests as a person does.
    #[track_caller]
    pub fn apply(&self, manifest: impl ToString) {
        self.kubectl_with(&["apply", "-f", "-"], &manifest.to_string()).expect_ok();
    }

    /// Waits until a condition of a pipeline is `STATUS/REASON` for its current generation; returns the pipeline.
    #[track_caller]
    pub fn wait_condition(&self, pipeline: &str, kind: &str, wanted: &str) -> Value {
        let mut last = Value::Null;
        let what = format!("{kind} of {pipeline} is {wanted}");
        let deadline = std::time::Instant::now() + SOON;
        until(&what, SOON + Duration::from_secs(1), || {
            let object = self.object("ipl", pipeline)?;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let found = condition(&object, kind);
            last = object["status"].clone();
            if current && found.as_deref() == Some(wanted) {
                return Some(object);
            }
            assert!(std::time::Instant::now() < deadline, "{what}: {last:#}");
            None
        })
    }
}

/// What `penstock-operator plan` prints for a manifest.
#[track_caller]
pub fn plan(manifest: impl ToString) -> Vec<Value> {
    let folder = folder::fresh("plan-");
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, manifest.to_string()).expect("a manifest");
    let output = command(&["plan", "-f", file.to_str().expect("a path in UTF-8")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("YAML in UTF-8");
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map(|document| serde::Deserialize::deserialize(document).expect("YAML of the plan")).collect()
}

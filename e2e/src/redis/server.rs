//! One process, server or Sentinel: its configuration, its start, and the ways to hurt it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::Signal;

use crate::place::Place;
use crate::process::run;
use crate::until::START;
use crate::{Balancer, Process, parts, ports};

/// Of the default user, where another one is let in.
pub(super) const ADMIN_PASSWORD: &str = "only-for-the-harness";

/// What an ACL user of a sidecar may do; docs/sessions.md says the same.
const RIGHTS: &str = "resetchannels ~penstock:* &penstock:* -@all +@connection +@read +@write +info +time +eval \
                      +evalsha +script|load +publish +subscribe +unsubscribe +cluster|slots +cluster|keyslot";
/// What it may do at Sentinels.
const SENTINEL_RIGHTS: &str = "-@all +@connection +sentinel|get-master-addr-by-name";

/// How clients get in.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) user: Option<(String, String)>,
    /// The folder of certificates.
    pub(super) tls: Option<PathBuf>,
    pub(super) site: Site,
}

/// Where servers run, and their address there.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) place: Place,
    pub(super) address: String,
}

/// Everything that goes into a configuration.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) sentinel: bool,
    pub(super) settings: Vec<(String, String)>,
    /// How others reach it, if not at its own port.
    pub(super) road: Option<Arc<Balancer>>,
}

/// A process that can be killed, stopped, continued and started again; its port, and what it has on disk, stay.
pub struct Server {
    plan: Plan,
    folder: PathBuf,
    port: u16,
    access: Access,
    process: Mutex<Process>,
}

impl Server {
    #[track_caller]
    pub(super) fn start(folder: &Path, access: &Access, plan: Plan) -> Self {
        let home = folder.join(&plan.name);
        std::fs::create_dir(&home).expect("a folder for the server");
        let port = ports::free();
        if let Some(road) = &plan.road {
            road.serve(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
        }
        std::fs::write(home.join("redis.conf"), configuration(&plan, access, &home, port))
            .expect("a configuration");
        let process = Mutex::new(launch(&plan, access, &home));
        let server = Self { plan, folder: home, port, access: access.clone(), process };
        server.wait_until_started();
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port by which others know it.
    pub(super) fn announced(&self) -> u16 {
        self.plan.road.as_ref().map_or(self.port, |road| road.address().port())
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.lock().pid()
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.lock().kill();
    }

    /// SIGSTOP: connections stay up, nothing answers.
    pub fn stop(&self) {
        self.process.lock().stop();
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.process.lock().signal(Signal::CONT);
    }

    /// Starts it again after [`Server::kill`], and waits until it serves.
    #[track_caller]
    pub fn restart(&self) {
        {
            let mut process = self.process.lock();
            process.kill();
            *process = launch(&self.plan, &self.access, &self.folder);
        }
        self.wait_until_started();
    }

    /// Runs a command as an administrator.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let answer = run(self.command().args(arguments)).trim_end().to_owned();
        assert!(!is_error(&answer), "{arguments:?}: {answer}");
        answer
    }

    /// As [`Server::cli`], nothing where it fails.
    pub fn try_cli(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command().args(arguments).output().expect("redis-cli runs");
        let answer = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        (output.status.success() && !is_error(&answer)).then_some(answer)
    }

    /// The port of the primary that this Sentinel knows by a name.
    pub(super) fn primary(&self, name: &str) -> Option<u16> {
        let answer = self.try_cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name])?;
        answer.lines().nth(1)?.parse().ok()
    }

    /// A setting of its own.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.plan.settings.iter().find_map(|(known, value)| (known == key).then_some(value.as_str()))
    }

    fn command(&self) -> Command {
        // A server that is stopped never answers.
        let Site { place, address } = &self.access.site;
        let mut command = place.command("timeout");
        command.arg("5").arg(parts::program("redis-cli"));
        command.args(["-h", address, "-p", &self.port.to_string()]);
        if let Some(pki) = &self.access.tls {
            command.arg("--tls").arg("--cacert").arg(pki.join("ca.crt"));
        }
        if self.access.user.is_some() {
            command.env("REDISCLI_AUTH", ADMIN_PASSWORD);
        }
        command
    }

    #[track_caller]
    fn wait_until_started(&self) {
        let mut process = self.process.lock();
        process
            .until("answers", START, || self.try_cli(&["PING"]).filter(|answer| answer == "PONG").map(drop));
    }
}

fn is_error(answer: &str) -> bool {
    // redis-cli ends with 0 all the same.
    let first = answer.split(' ').next().unwrap_or_default();
    !first.is_empty()
        && answer.contains(' ')
        && matches!(
            first,
            "ERR" | "NOAUTH" | "NOPERM" | "WRONGPASS" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN"
        )
}

fn launch(plan: &Plan, access: &Access, home: &Path) -> Process {
    let mut arguments = vec!["redis.conf"];
    if plan.sentinel {
        arguments.push("--sentinel");
    }
    let program = parts::program("redis-server");
    Process::start_in(&access.site.place, &plan.name, home, program, arguments, &[])
}

fn configuration(plan: &Plan, access: &Access, home: &Path, port: u16) -> String {
    let mut text = String::new();
    let mut set = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} {value}");
    };
    set("bind", &access.site.address);
    // Without a password a server talks to its own machine only.
    set("protected-mode", "no");
    set("dir", &home.display().to_string());
    if let Some(pki) = &access.tls {
        set("port", "0");
        set("tls-port", &port.to_string());
        set("tls-cert-file", &pki.join("redis.crt").display().to_string());
        set("tls-key-file", &pki.join("redis.key").display().to_string());
        set("tls-ca-cert-file", &pki.join("ca.crt").display().to_string());
        set("tls-auth-clients", "no");
        set("tls-replication", "yes");
        if !plan.sentinel {
            set("tls-cluster", "yes");
        }
    } else {
        set("port", &port.to_string());
    }
    if let Some((name, password)) = &access.user {
        set("requirepass", ADMIN_PASSWORD);
        let rights = if plan.sentinel { SENTINEL_RIGHTS } else { RIGHTS };
        set("user", &format!("{name} on >{password} {rights}"));
    }
    if !plan.sentinel {
        set("save", "\"\"");
        set("repl-diskless-sync-delay", "0");
        if access.user.is_some() {
            set("masterauth", ADMIN_PASSWORD);
        }
    }
    if let Some(road) = &plan.road {
        set("replica-announce-ip", &road.address().ip().to_string());
        set("replica-announce-port", &road.address().port().to_string());
    }
    for (key, value) in &plan.settings {
        set(key, value);
    }
    text
}

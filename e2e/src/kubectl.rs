//! kubectl, and the kubeconfig files that it and others read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::parts;
use crate::pki::Authority;
use crate::place::Place;

/// kubectl as one user of one API server.
#[derive(Clone)]
pub struct Client {
    place: Place,
    kubeconfig: PathBuf,
}

/// What kubectl, or another command line, said.
#[derive(Debug)]
pub struct Kubectl {
    /// Whether it succeeded.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Kubectl {
    /// Standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn expect_ok(self) -> String {
        assert!(self.ok, "it failed: {}{}", self.out, self.err);
        self.out
    }
}

impl From<Output> for Kubectl {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Client {
    pub(crate) fn new(place: Place, kubeconfig: PathBuf) -> Self {
        Self { place, kubeconfig }
    }

    /// Path of the kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubectl command line without its arguments.
    #[track_caller]
    pub fn command(&self) -> Command {
        let mut command = self.place.command(parts::file("kubernetes", "kubectl"));
        // The discovery cache of kubectl would outlive the server and be shared by concurrent tests.
        let cache = self.kubeconfig.with_file_name("kubectl-cache");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(cache);
        command
    }

    /// Runs kubectl and returns what it said, whether it succeeded or not.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Kubectl {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("kubectl runs").into()
    }

    /// As [`Client::run`], with `input` on its standard input (for `-f -`).
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Kubectl {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("a piped standard input");
        let input = input.as_bytes().to_vec();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
        let output = child.wait_with_output().expect("kubectl ends");
        // A kubectl that refused early does not read everything.
        let _ = writer.join().expect("no panic in the writer");
        output.into()
    }
}

/// Writes `USER.kubeconfig` for a certificate of that name, beside the certificates, and returns its path.
#[track_caller]
pub(crate) fn write_kubeconfig(authority: &Authority, user: &str, server: &str) -> PathBuf {
    let keys = authority.folder().display();
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: e2e, cluster: {{server: \"{server}\", certificate-authority: {keys}/ca.crt}}}}]
users: [{{name: {user}, user: {{client-certificate: {keys}/{user}.crt, client-key: {keys}/{user}.key}}}}]
contexts: [{{name: e2e, context: {{cluster: e2e, user: {user}}}}}]
current-context: e2e
"
    );
    let path = authority.folder().join(format!("{user}.kubeconfig"));
    std::fs::write(&path, text).expect("a kubeconfig");
    path
}

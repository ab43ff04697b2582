//! A real Kubernetes API without nodes: etcd and kube-apiserver, ready in about two seconds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use penstock_crds::schema;
use tempfile::TempDir;

use crate::process::run;
use crate::until::{START, until};
use crate::{Process, folder, parts, ports};

const TOKEN: &str = "e2e-admin";

/// etcd and kube-apiserver on free ports, with an administrator's kubeconfig.
pub struct ApiServer {
    // Dropped, and so killed, in this order.
    apiserver: Process,
    _etcd: Process,
    folder: TempDir,
}

/// What kubectl said.
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
        assert!(self.ok, "kubectl failed: {}", self.err);
        self.out
    }
}

impl ApiServer {
    /// Starts both and waits until the server says that it is ready.
    #[track_caller]
    pub fn start() -> Self {
        let folder = folder::fresh("api-");
        let path = folder.path();
        make_keys(path);
        let (client, peer, secure) = (ports::free(), ports::free(), ports::free());
        let etcd = Process::start(
            "etcd",
            path,
            parts::file("etcd", "etcd"),
            [
                "--data-dir=etcd".to_owned(),
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            ],
        );
        let apiserver = Process::start(
            "kube-apiserver",
            path,
            parts::file("kubernetes", "kube-apiserver"),
            [
                format!("--etcd-servers=http://127.0.0.1:{client}"),
                format!("--secure-port={secure}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                // Nobody reaches this server through the `kubernetes` Service, which refuses loopback addresses.
                "--endpoint-reconciler-type=none".to_owned(),
                "--tls-cert-file=server.crt".to_owned(),
                "--tls-private-key-file=server.key".to_owned(),
                "--token-auth-file=tokens.csv".to_owned(),
                "--service-account-key-file=service-accounts.pub".to_owned(),
                "--service-account-signing-key-file=service-accounts.key".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
            ],
        );
        std::fs::write(path.join("kubeconfig"), kubeconfig(secure)).expect("a kubeconfig");
        let mut server = Self { apiserver, _etcd: etcd, folder };
        let kubeconfig = server.kubeconfig();
        server.apiserver.until("/readyz answers ok", START, || {
            let answer = kubectl_command(&kubeconfig).args(["get", "--raw", "/readyz"]).output().ok()?;
            (answer.status.success() && answer.stdout == b"ok").then_some(())
        });
        server
    }

    /// As [`ApiServer::start`], with our resource installed and served, and a namespace `iot`.
    #[track_caller]
    pub fn serving_pipelines() -> Self {
        let api = Self::start();
        // The server refuses a definition whose CEL rules could cost too much, and one that is not structural.
        let yaml = schema::crd_yaml().expect("the definition as YAML");
        api.kubectl_with(&["create", "-f", "-"], &yaml).expect_ok();
        let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd", schema::CRD_NAME];
        api.kubectl(&established).expect_ok();
        until("the resource is served", START, || api.kubectl(&["get", "ipl"]).ok.then_some(()));
        api.kubectl(&["create", "namespace", "iot"]).expect_ok();
        api
    }

    /// Path of a kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Runs kubectl and returns what it said, whether it succeeded or not.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Kubectl {
        said(kubectl_command(&self.kubeconfig()).args(arguments).output().expect("kubectl runs"))
    }

    /// As [`ApiServer::kubectl`], with `input` on its standard input (for `-f -`).
    #[track_caller]
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Kubectl {
        let mut command = kubectl_command(&self.kubeconfig());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("a piped standard input");
        let input = input.as_bytes().to_vec();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
        let output = child.wait_with_output().expect("kubectl ends");
        // A kubectl that refused early does not read everything.
        let _ = writer.join().expect("no panic in the writer");
        said(output)
    }
}

fn said(output: Output) -> Kubectl {
    Kubectl {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn kubectl_command(kubeconfig: &Path) -> Command {
    let mut command = Command::new(parts::file("kubernetes", "kubectl"));
    // The discovery cache of kubectl would outlive the server and be shared by concurrent tests.
    let cache = kubeconfig.with_file_name("kubectl-cache");
    command.arg("--kubeconfig").arg(kubeconfig).arg("--cache-dir").arg(cache);
    command
}

fn make_keys(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        run(Command::new(parts::program("openssl")).args(arguments).current_dir(folder));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-keyout",
        "server.key",
        "-out",
        "server.crt",
        "-subj",
        "/CN=penstock-e2e",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        // rustls takes no certificate of an authority for one of a server.
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-accounts.key"]);
    openssl(&["ec", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub"]);
    std::fs::write(folder.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))
        .expect("a token file");
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: e2e, cluster: {{server: \"https://127.0.0.1:{port}\", certificate-authority: server.crt}}}}]
users: [{{name: admin, user: {{token: {TOKEN}}}}}]
contexts: [{{name: e2e, context: {{cluster: e2e, user: admin}}}}]
current-context: e2e
"
    )
}

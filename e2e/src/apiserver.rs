//! A real Kubernetes API without nodes: etcd and kube-apiserver, ready in about two seconds.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use penstock_crds::schema;
use serde_json::Value;
use tempfile::TempDir;

use crate::kubectl::{self, Client, Kubectl};
use crate::pki::Authority;
use crate::place::Place;
use crate::until::{SOON, START, until};
use crate::{Process, folder, parts, ports};

/// etcd and kube-apiserver on free ports, with an administrator's kubeconfig.
pub struct ApiServer {
    // Dropped, and so killed, in this order.
    _apiserver: Process,
    _etcd: Process,
    kubectl: Client,
    /// For [`ApiServer::object`], once somebody looks.
    pub(crate) client: OnceLock<kube::Client>,
    folder: TempDir,
}

/// Who the operator is to the API server.
pub const OPERATOR: &str = "penstock-operator";

const AUDIT_LOG: &str = "audit.log";

/// Every write, and every read of the operator.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

/// A request that the API server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As roles name it.
    pub verb: String,
    /// Resource, with the subresource after a slash.
    pub resource: String,
    /// Name of the object; empty where there is none.
    pub name: String,
    /// The answer's status code.
    pub code: i64,
}

impl Request {
    /// Whether it would change something.
    pub fn is_write(&self) -> bool {
        !matches!(&*self.verb, "get" | "list" | "watch")
    }
}

/// etcd and kube-apiserver: how to start them, here or as the head of a whole cluster.
pub(crate) struct Plan<'a> {
    pub(crate) place: &'a Place,
    pub(crate) folder: &'a Path,
    /// With a certificate `server`, and `admin` for who sees and may do all.
    pub(crate) authority: &'a Authority,
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    /// Ports of etcd, for clients and for peers.
    pub(crate) etcd: (u16, u16),
    /// Arguments of kube-apiserver beside those that every use needs.
    pub(crate) arguments: Vec<String>,
}

impl Plan<'_> {
    /// Starts both and waits until the server says that it is ready. Returns kube-apiserver, etcd, and kubectl as the
    /// administrator.
    #[track_caller]
    pub(crate) fn start(self) -> (Process, Process, Client) {
        let (client, peer) = self.etcd;
        let etcd = Process::start_in(
            self.place,
            "etcd",
            self.folder,
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
            &[],
        );
        let keys = self.authority.folder().display();
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{client}"),
            format!("--secure-port={}", self.port),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--tls-cert-file={keys}/server.crt"),
            format!("--tls-private-key-file={keys}/server.key"),
            format!("--client-ca-file={keys}/ca.crt"),
            format!("--service-account-key-file={keys}/service-accounts.pub"),
            format!("--service-account-signing-key-file={keys}/service-accounts.key"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        ];
        arguments.extend(self.arguments);
        let program = parts::file("kubernetes", "kube-apiserver");
        let mut apiserver =
            Process::start_in(self.place, "kube-apiserver", self.folder, program, arguments, &[]);
        let server = format!("https://{}:{}", self.address, self.port);
        let kubeconfig = kubectl::write_kubeconfig(self.authority, "admin", &server);
        let kubectl = Client::new(self.place.clone(), kubeconfig);
        apiserver.until("/readyz answers ok", START, || {
            let answer = kubectl.run(&["get", "--raw", "/readyz"]);
            (answer.ok && answer.out == "ok").then_some(())
        });
        (apiserver, etcd, kubectl)
    }
}

impl ApiServer {
    /// Starts both and waits until the server says that it is ready.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`ApiServer::start`], with further arguments of kube-apiserver.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = folder::fresh("api-");
        let authority = Authority::new(folder.path().join("keys"));
        authority.issue("server", "/CN=kube-apiserver", &["DNS:localhost", "IP:127.0.0.1"]);
        authority.issue("admin", "/O=system:masters/CN=admin", &[]);
        authority.issue("operator", &format!("/O=system:masters/CN={OPERATOR}"), &[]);
        let port = ports::free();
        kubectl::write_kubeconfig(&authority, "operator", &format!("https://127.0.0.1:{port}"));
        let policy = folder.path().join("audit-policy.yaml");
        std::fs::write(&policy, AUDIT_POLICY).expect("an audit policy");
        let (apiserver, etcd, kubectl) = Plan {
            place: &Place::here(),
            folder: folder.path(),
            authority: &authority,
            address: "127.0.0.1",
            port,
            etcd: (ports::free(), ports::free()),
            arguments: vec![
                // Nobody reaches this server through the `kubernetes` Service, which refuses loopback addresses.
                "--endpoint-reconciler-type=none".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                format!("--audit-policy-file={}", policy.display()),
                format!("--audit-log-path={}", folder.path().join(AUDIT_LOG).display()),
            ]
            .into_iter()
            .chain(arguments.iter().map(|argument| (*argument).to_owned()))
            .collect(),
        }
        .start();
        Self { _apiserver: apiserver, _etcd: etcd, kubectl, client: OnceLock::new(), folder }
    }

    /// As [`ApiServer::start`], with our resource installed and served, and a namespace `iot`.
    #[track_caller]
    pub fn serving_pipelines() -> Self {
        Self::serving_pipelines_with(&[])
    }

    /// As [`ApiServer::serving_pipelines`], with further arguments of kube-apiserver.
    #[track_caller]
    pub fn serving_pipelines_with(arguments: &[&str]) -> Self {
        let api = Self::start_with(arguments);
        // The server refuses a definition whose CEL rules could cost too much, and one that is not structural.
        let yaml = schema::crd_yaml().expect("the definition as YAML");
        api.kubectl_with(&["create", "-f", "-"], &yaml).expect_ok();
        until("the resource is served", START, || api.kubectl(&["get", "ipl"]).ok.then_some(()));
        api.kubectl(&["create", "namespace", "iot"]).expect_ok();
        api
    }

    /// Path of a kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubectl.kubeconfig().to_owned()
    }

    /// Path of a kubeconfig of the operator, which may do everything.
    pub fn operator_kubeconfig(&self) -> PathBuf {
        self.kubectl.kubeconfig().with_file_name("operator.kubeconfig")
    }

    /// What the operator has asked for so far, but for its Lease.
    #[track_caller]
    pub fn requests_of_operator(&self) -> Vec<Request> {
        self.requests_of_operator_since(0)
    }

    /// How long the audit log is now, for [`ApiServer::requests_of_operator_since`].
    #[track_caller]
    pub fn audit_mark(&self) -> u64 {
        std::fs::metadata(self.folder.path().join(AUDIT_LOG)).expect("an audit log").len()
    }

    /// What the operator has asked for since a mark, but for its Lease.
    #[track_caller]
    pub fn requests_of_operator_since(&self, mark: u64) -> Vec<Request> {
        let mut file = File::open(self.folder.path().join(AUDIT_LOG)).expect("an audit log");
        file.seek(SeekFrom::Start(mark)).expect("a log that only grows");
        let mut log = String::new();
        file.read_to_string(&mut log).expect("an audit log in UTF-8");
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = lines.filter(|line| line["user"]["username"] == OPERATOR);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let requests = ours.map(|line| {
            let object = &line["objectRef"];
            let (resource, below) = (text(&object["resource"]), text(&object["subresource"]));
            Request {
                verb: text(&line["verb"]),
                resource: if below.is_empty() { resource } else { format!("{resource}/{below}") },
                name: text(&object["name"]),
                code: line["responseStatus"]["code"].as_i64().unwrap_or(0),
            }
        });
        requests.filter(|request| request.resource != "leases").collect()
    }

    /// Returns as soon as the operator has made so many writes since a mark, or `or_else` says that it makes no more.
    #[track_caller]
    pub fn wait_for_writes_since(&self, mark: u64, count: usize, mut or_else: impl FnMut() -> bool) {
        let deadline = Instant::now() + SOON;
        let (mut looked, mut length) = (Instant::now(), mark);
        let writes =
            || self.requests_of_operator_since(mark).iter().filter(|request| request.is_write()).count();
        // Almost without a pause between two looks: what comes next is a millisecond away.
        loop {
            let before = std::mem::replace(&mut length, self.audit_mark());
            if length > before && writes() >= count {
                return;
            }
            assert!(Instant::now() < deadline, "{count} writes: not within {SOON:?}");
            if looked.elapsed() > Duration::from_millis(500) {
                if or_else() {
                    return;
                }
                looked = Instant::now();
            }
            std::thread::yield_now();
        }
    }

    /// What of that would change something.
    #[track_caller]
    pub fn writes_of_operator(&self) -> Vec<Request> {
        self.requests_of_operator().into_iter().filter(Request::is_write).collect()
    }

    /// Runs kubectl and returns what it said, whether it succeeded or not.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Kubectl {
        self.kubectl.run(arguments)
    }

    /// As [`ApiServer::kubectl`], with `input` on its standard input (for `-f -`).
    #[track_caller]
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Kubectl {
        self.kubectl.run_with(arguments, input)
    }
}

//! The programs that every node shares: etcd, kube-apiserver, the controllers, the scheduler, and names by CoreDNS.

use std::path::Path;

use super::namespaces::{ADDRESS, Namespaces};
use super::{NODE, answers};
use crate::kubectl::Client;
use crate::pki::Authority;
use crate::until::START;
use crate::{Process, apiserver, kubectl, parts};

/// Where pods have their addresses.
pub(super) const POD_CIDR: &str = "10.244.0.0/16";
const PORT: u16 = 6443;

pub(super) struct ControlPlane {
    // Dropped, and so killed, in this order: etcd last.
    _scheduler: Process,
    _controllers: Process,
    _names: Process,
    _apiserver: Process,
    _etcd: Process,
    pub(super) authority: Authority,
    pub(super) kubectl: Client,
}

impl ControlPlane {
    /// Starts everything; the API server is ready when this returns.
    #[track_caller]
    pub(super) fn start(namespaces: &Namespaces, folder: &Path) -> Self {
        let place = &namespaces.place;
        let authority = make_keys(folder);
        let (apiserver, etcd, kubectl) = apiserver::Plan {
            place,
            folder,
            authority: &authority,
            address: ADDRESS,
            port: PORT,
            etcd: (2379, 2380),
            arguments: arguments(&authority),
        }
        .start();
        let administrator = format!("--kubeconfig={}", kubectl.kubeconfig().display());
        let keys = authority.folder().display();
        let start = |name: &str, arguments: Vec<String>| {
            Process::start_in(place, name, folder, parts::file("node", name), arguments, &[])
        };
        let controllers = start(
            "kube-controller-manager",
            vec![
                administrator.clone(),
                format!("--service-account-private-key-file={keys}/service-accounts.key"),
                format!("--root-ca-file={keys}/ca.crt"),
                format!("--cluster-signing-cert-file={keys}/ca.crt"),
                format!("--cluster-signing-key-file={keys}/ca.key"),
                format!("--cluster-cidr={POD_CIDR}"),
                "--allocate-node-cidrs=true".to_owned(),
                "--leader-elect=false".to_owned(),
                "--use-service-account-credentials=true".to_owned(),
                // A HPA of a test shall see load within seconds of it.
                "--horizontal-pod-autoscaler-sync-period=5s".to_owned(),
            ],
        );
        let scheduler = start("kube-scheduler", vec![administrator, "--leader-elect=false".to_owned()]);
        let names = start_coredns(namespaces, folder, kubectl.kubeconfig());
        Self {
            _scheduler: scheduler,
            _controllers: controllers,
            _names: names,
            _apiserver: apiserver,
            _etcd: etcd,
            authority,
            kubectl,
        }
    }
}

#[track_caller]
fn make_keys(folder: &Path) -> Authority {
    let authority = Authority::new(folder.join("keys"));
    let address = format!("IP:{ADDRESS}");
    let names = ["DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"];
    let names = [&names[..], &["IP:127.0.0.1", "IP:10.96.0.1", &address]].concat();
    authority.issue("server", "/CN=kube-apiserver", &names);
    authority.issue("admin", "/O=system:masters/CN=admin", &[]);
    authority.issue("front-proxy", "/CN=front-proxy-client", &[]);
    let node = format!("/O=system:nodes/CN=system:node:{NODE}");
    authority.issue("kubelet", &node, &[&format!("DNS:{NODE}"), &address]);
    kubectl::write_kubeconfig(&authority, "kubelet", &format!("https://{ADDRESS}:{PORT}"));
    authority
}

fn arguments(authority: &Authority) -> Vec<String> {
    let keys = authority.folder().display();
    vec![
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--kubelet-client-certificate={keys}/admin.crt"),
        format!("--kubelet-client-key={keys}/admin.key"),
        format!("--kubelet-certificate-authority={keys}/ca.crt"),
        // By name it would ask the DNS, and logs and exec would hang.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // For metrics-server behind an APIService.
        format!("--requestheader-client-ca-file={keys}/ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={keys}/front-proxy.crt"),
        format!("--proxy-client-key-file={keys}/front-proxy.key"),
        "--enable-aggregator-routing=true".to_owned(),
    ]
}

/// CoreDNS beside the node, on its address.
#[track_caller]
fn start_coredns(namespaces: &Namespaces, folder: &Path, kubeconfig: &Path) -> Process {
    let corefile = format!(
        ".:53 {{
  bind {ADDRESS}
  errors
  ready {ADDRESS}:8181
  kubernetes cluster.local {{
    kubeconfig {}
    ttl 1
  }}
}}
",
        kubeconfig.display()
    );
    std::fs::write(folder.join("Corefile"), corefile).expect("a Corefile");
    let program = parts::file("coredns", "coredns");
    let mut names =
        Process::start_in(&namespaces.place, "coredns", folder, program, ["-conf", "Corefile"], &[]);
    names.until("it answers for Services", START, || {
        answers(&namespaces.place, &format!("http://{ADDRESS}:8181/ready")).then_some(())
    });
    names
}

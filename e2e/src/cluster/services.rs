//! What runs beside the node and is reached by pods: Kafka and metrics-server as Services, Redis by the node's address.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};

use super::Cluster;
use super::namespaces::ADDRESS;
use crate::until::{START, until};
use crate::{Kafka, Process, Redis, kafka, parts, redis};

const METRICS_PORT: u16 = 10350;

impl Cluster {
    /// Starts Kafka in the cluster's network. Pods reach its brokers by the name `kafka.kafka.svc` and the ports from
    /// 9092, as [`Kafka::bootstrap`] says; the harness reaches them too.
    #[track_caller]
    pub fn kafka(&self, plan: kafka::Builder) -> Kafka {
        let kafka = plan.within(&self.namespaces.place, ADDRESS, "kafka.kafka.svc").start();
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kafka}\n";
        let ports: Vec<_> = kafka.ports().into_iter().map(|port| (format!("p{port}"), port, port)).collect();
        // Headless: the name stands for the node's address, and ports are as they are.
        self.apply(&format!("{namespace}---\n{}", service("kafka", "kafka", "clusterIP: None, ", &ports)));
        kafka
    }

    /// Starts Redis in the cluster's network. Sentinels tell pods the address that the servers have.
    #[track_caller]
    pub fn redis(&self, plan: redis::Builder) -> Redis {
        plan.within(&self.namespaces.place, ADDRESS).start()
    }

    /// Starts metrics-server and waits until it has measured the node, so that `kubectl top` and a HPA work.
    #[track_caller]
    pub fn metrics_server(&self) {
        let folder = self.folder.path();
        let kubeconfig = self.kubeconfig().display();
        let keys = self.control_plane.authority.folder().display();
        let mut process = Process::start_in(
            &self.namespaces.place,
            "metrics-server",
            folder,
            parts::file("metrics-server", "metrics-server"),
            [
                format!("--secure-port={METRICS_PORT}"),
                format!("--kubeconfig={kubeconfig}"),
                format!("--authentication-kubeconfig={kubeconfig}"),
                format!("--authorization-kubeconfig={kubeconfig}"),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-certificate-authority={keys}/ca.crt"),
                "--metric-resolution=10s".to_owned(),
                "--kubelet-request-timeout=5s".to_owned(),
                format!("--cert-dir={}/metrics-server", folder.display()),
            ],
            &[],
        );
        let ports = [("https".to_owned(), 443, METRICS_PORT)];
        let api = "apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system}
  group: metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
";
        self.apply(&format!("{}---\n{api}", service("kube-system", "metrics-server", "", &ports)));
        process.until("it has measured the node", START, || self.kubectl(&["top", "nodes"]).ok.then_some(()));
        *self.metrics_server.lock() = Some(process);
    }

    /// Address of a Service's port in the cluster, for clients in its network ([`crate::load::Plan::within`]).
    #[track_caller]
    pub fn service(&self, namespace: &str, name: &str, port: u16) -> SocketAddr {
        let address =
            self.kubectl(&["get", "service", name, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}"]);
        SocketAddr::new(address.expect_ok().parse().expect("a Service with an address"), port)
    }

    /// Address of a pod's port, past every Service.
    #[track_caller]
    pub fn pod(&self, namespace: &str, name: &str, port: u16) -> SocketAddr {
        let address = self.kubectl(&["get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.podIP}"]);
        SocketAddr::new(address.expect_ok().parse().expect("a pod with an address"), port)
    }

    /// SIGKILL for every process of this program in a pod, as when its node dies; then the pod is deleted.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn kill_pod(&self, namespace: &str, name: &str, program: &str) {
        let id = self.kubectl(&["get", "pod", name, "-n", namespace, "-o", "jsonpath={.metadata.uid}"]);
        let killed = kill_in_cgroup(&format!("pod{}", id.expect_ok()), program);
        assert!(killed > 0, "no {program} runs in {name}");
        let now = ["--force", "--grace-period=0", "--wait=false"];
        self.kubectl(&[&["delete", "pod", name, "-n", namespace][..], &now].concat()).expect_ok();
    }

    /// Waits until a pod has ended by itself, and returns its phase (`Succeeded` or `Failed`).
    #[track_caller]
    pub fn wait_pod_end(&self, namespace: &str, name: &str) -> String {
        until(&format!("the end of pod {name} in {namespace}"), START, || {
            let phase =
                self.kubectl(&["get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.phase}"]);
            matches!(phase.out.as_str(), "Succeeded" | "Failed").then_some(phase.out)
        })
    }
}

/// A Service without selector, whose one endpoint is the node: ports as (name, port of the Service, port of the process).
fn service(namespace: &str, name: &str, kind: &str, ports: &[(String, u16, u16)]) -> String {
    let list = |entry: &dyn Fn(&(String, u16, u16)) -> String| {
        ports.iter().map(entry).collect::<Vec<_>>().join(", ")
    };
    let service =
        list(&|(name, port, target)| format!("{{name: {name}, port: {port}, targetPort: {target}}}"));
    let slice = list(&|(name, _, target)| format!("{{name: {name}, port: {target}, protocol: TCP}}"));
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{kind}ports: [{service}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: {namespace}
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{slice}]
endpoints: [{{addresses: [{ADDRESS}], conditions: {{ready: true}}}}]
"
    )
}

/// Kills the processes of a program in control groups below one of this name; how many there were.
fn kill_in_cgroup(group: &str, program: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = ids.filter(|id| {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        let command = file("cmdline");
        file("cgroup").contains(group)
            && command.split('\0').next().is_some_and(|name| name.ends_with(program))
    });
    ours.filter_map(Pid::from_raw).filter(|&id| kill_process(id, Signal::KILL).is_ok()).count()
}

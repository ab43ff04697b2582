//! What runs beside the node and is reached by pods as a Service: Kafka and metrics-server.

use std::net::SocketAddr;

use super::Cluster;
use super::namespaces::ADDRESS;
use crate::until::{START, until};
use crate::{Kafka, Process, kafka, parts};

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

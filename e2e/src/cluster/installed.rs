//! A cluster with the product in it: images of this build, the chart by helm, and a Kafka in the cluster's network.

use std::net::SocketAddr;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde_json::{Value, json};

use super::Cluster;
use crate::checker::{History, check};
use crate::load::wire::Version;
use crate::load::{Loads, Plan};
use crate::until::{SOON, START};
use crate::{Image, Kafka, Pipeline, operator, process, sidecar, until};

/// Namespace of the operator.
pub const SYSTEM: &str = "penstock-system";
/// Debian's busybox, for adapters and clients in pods.
pub const BUSYBOX: &str = "penstock.local/busybox:1";
/// Ports of [`Installed::telemetry`].
const MQTT: u16 = 1883;
const HTTP: u16 = 8080;

/// A cluster whose operator leads.
pub struct Installed {
    /// Its Kafka, of one broker.
    pub kafka: Kafka,
    cluster: Cluster,
}

static SHARED: LazyLock<RwLock<Installed>> = LazyLock::new(|| RwLock::new(process::shared(Installed::start)));

impl Deref for Installed {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Installed {
    /// The one that tests share, each in a namespace of its own.
    pub fn shared() -> RwLockReadGuard<'static, Self> {
        SHARED.read()
    }

    /// The same for one test alone, which breaks what others need, or takes an address that there is once.
    pub fn alone() -> RwLockWriteGuard<'static, Self> {
        SHARED.write()
    }

    /// Starts a cluster, loads both images and busybox, installs the chart as `docs/install.md` says, and waits until
    /// the operator is there.
    #[track_caller]
    pub fn start() -> Self {
        let cluster = Cluster::start();
        for program in [sidecar::binary(), operator::binary()] {
            cluster.load_image(&reference(&program), &Image::of_program(&program));
        }
        cluster.load_image(BUSYBOX, &Image::busybox());
        cluster.create_namespace(SYSTEM);
        let chart = repository().join("charts/penstock");
        let chart = chart.to_str().expect("a path in UTF-8");
        cluster.helm(&["install", "penstock", chart, "--namespace", SYSTEM]).expect_ok();
        let rollout = ["rollout", "status", "deployment/penstock-operator", "-n", SYSTEM, "--timeout=120s"];
        cluster.kubectl(&rollout).expect_ok();
        let kafka = cluster.kafka(Kafka::single());
        Self { kafka, cluster }
    }

    /// [`Pipeline::telemetry`] in a namespace of its own, with a topic that the operator makes.
    #[track_caller]
    pub fn telemetry(&self, namespace: &str) -> Pipeline {
        self.create_namespace(namespace);
        Pipeline::telemetry(&self.kafka, namespace)
            .set("/metadata/namespace", namespace)
            .set("/spec/topics/0/partitions", 3)
            .set("/spec/endpoints/0/port", MQTT)
            .set("/spec/endpoints/1/port", HTTP)
            .set("/spec/edge/drain", json!({"acceptSeconds": 3, "clientSeconds": 2}))
    }

    /// Applies a pipeline of [`Installed::telemetry`], waits until it is Ready, and returns how long that took.
    #[track_caller]
    pub fn apply_ready(&self, pipeline: &Pipeline) -> Duration {
        let started = Instant::now();
        self.apply(&pipeline.to_string());
        let namespace = pipeline.value()["metadata"]["namespace"].as_str().expect("a namespace");
        self.wait_ready(namespace, "telemetry");
        started.elapsed()
    }

    /// How long the pods of a pipeline must have been ready before they count.
    #[track_caller]
    pub fn min_ready(&self, namespace: &str, pipeline: &str) -> Duration {
        let deployment = self.get(namespace, &format!("deployment/{pipeline}"));
        Duration::from_secs(deployment["spec"]["minReadySeconds"].as_u64().expect("a number of seconds"))
    }

    /// Waits as people do: `kubectl wait --for=condition=Ready`.
    ///
    /// # Panics
    /// When the pipeline is not Ready in time, with its status, its pods, and what the operator logged.
    #[track_caller]
    pub fn wait_ready(&self, namespace: &str, name: &str) {
        let pipeline = format!("ipl/{name}");
        let said =
            self.kubectl(&["wait", "--for=condition=Ready", &pipeline, "-n", namespace, "--timeout=120s"]);
        assert!(said.ok, "{}\n{}", said.err, self.report(namespace));
    }

    /// What there is to see of a namespace when something is wrong.
    #[track_caller]
    pub fn report(&self, namespace: &str) -> String {
        let commands: [&[&str]; 4] = [
            &["describe", "ipl", "-n", namespace],
            &["describe", "pods", "-n", namespace],
            &["logs", "-n", namespace, "-l", "penstock.dev/pipeline", "--all-containers", "--tail=40"],
            &["logs", "-n", SYSTEM, "deployment/penstock-operator", "--tail=40"],
        ];
        commands
            .map(|command| self.kubectl(command))
            .map(|said| format!("{}{}", said.out, said.err))
            .join("\n")
    }

    /// An object as JSON.
    #[track_caller]
    pub fn get(&self, namespace: &str, object: &str) -> Value {
        let text = self.kubectl(&["get", object, "-n", namespace, "-o", "json"]).expect_ok();
        serde_json::from_str(&text).expect("JSON of kubectl")
    }

    /// A condition of a pipeline, as `STATUS/REASON`.
    #[track_caller]
    pub fn condition(&self, namespace: &str, pipeline: &str, kind: &str) -> Option<String> {
        operator::condition(&self.get(namespace, &format!("ipl/{pipeline}")), kind)
    }

    /// Names of a namespace's pods that run and are not told to end.
    #[track_caller]
    pub fn pods(&self, namespace: &str) -> Vec<String> {
        let pods = self.get(namespace, "pods");
        let pods = pods["items"].as_array().into_iter().flatten();
        let here = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        here.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until a namespace has so many pods in all, those that end included.
    #[track_caller]
    pub fn wait_pods(&self, namespace: &str, count: usize) {
        until(&format!("{count} pods in {namespace}"), START, || {
            let all = self.kubectl(&["get", "pods", "-n", namespace, "-o", "name"]).expect_ok();
            (all.lines().count() == count).then_some(())
        });
    }

    /// All that a pipeline of [`Installed::telemetry`] takes, through its Services: MQTT 3.1.1 and 5, HTTP/1.1 and 2.
    #[track_caller]
    pub fn loads(&self, namespace: &str) -> Loads {
        let (mqtt, http) = (self.mqtt(namespace), self.http(namespace));
        let plans = [
            Plan::mqtt(mqtt, Version::V311),
            Plan::mqtt(mqtt, Version::V5),
            Plan::http(http),
            Plan::http2(http),
        ];
        Loads::new(plans.map(|plan| plan.within(self.place()).clients(2).devices(2).rate(100).start()))
    }

    /// Address of the MQTT endpoint of [`Installed::telemetry`].
    #[track_caller]
    pub fn mqtt(&self, namespace: &str) -> SocketAddr {
        self.service(namespace, "telemetry-mqtt", MQTT)
    }

    /// Address of its HTTP endpoint.
    #[track_caller]
    pub fn http(&self, namespace: &str) -> SocketAddr {
        self.service(namespace, "telemetry-rest", HTTP)
    }

    /// [`Loads::finish`]; where that fails, with what the pods of the pipeline in this namespace have logged.
    #[track_caller]
    pub fn history(&self, loads: Loads, namespace: &str, deadline: Duration) -> History {
        catch_unwind(AssertUnwindSafe(|| loads.finish(deadline))).unwrap_or_else(|panic| {
            for pod in self.pods(namespace) {
                let logged = self.kubectl(&["logs", "-n", namespace, &pod, "--tail=60"]);
                eprintln!("--- the end of what {pod} logged\n{}{}", logged.out, logged.err);
            }
            resume_unwind(panic)
        })
    }

    /// Ends loads, and demands that what they were told is true: nothing lost, nothing refused.
    #[track_caller]
    pub fn finish(&self, loads: Loads, topic: &str) -> History {
        let history = self.history(loads, topic, SOON * 3);
        assert_eq!(history.refused(), 0, "refused for good");
        check(&history, &self.kafka.read(topic)).assert_kept();
        history
    }
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The name that the chart's defaults give the image of a program, as the node's runtime writes it in full.
fn reference(program: &Path) -> String {
    let name = program.file_name().expect("a file name").to_string_lossy();
    format!("docker.io/library/{name}:{}", env!("CARGO_PKG_VERSION"))
}

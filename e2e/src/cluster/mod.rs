//! A whole Kubernetes cluster of one node, with a real kubelet and real containers, in namespaces of its own: nothing of
//! it is seen from outside, two do not meet, and nothing stays when it is dropped or the test process dies.

mod control_plane;
mod installed;
mod namespaces;
mod node;
mod services;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use tempfile::TempDir;

use self::control_plane::ControlPlane;
pub use self::installed::{BUSYBOX, Installed, SYSTEM, repository};
use self::namespaces::Namespaces;
use self::node::Node;
use crate::image::Image;
use crate::kubectl::Kubectl;
use crate::place::Place;
use crate::until::START;
use crate::{Process, folder, parts, until};

/// Name of the node.
pub const NODE: &str = "edge-1";

/// A running cluster with its node Ready.
pub struct Cluster {
    metrics_server: Mutex<Option<Process>>,
    node: Node,
    control_plane: ControlPlane,
    namespaces: Namespaces,
    // Last: nothing uses it any more.
    folder: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until its node is Ready, names are resolved, Services are served, and pods may be made
    /// in the namespace `default`.
    ///
    /// # Panics
    /// Without root, or when it is not so in time.
    #[track_caller]
    pub fn start() -> Self {
        let folder = folder::fresh("cluster-");
        let namespaces = Namespaces::start(folder.path());
        let control_plane = ControlPlane::start(&namespaces, folder.path());
        let node = Node::start(&namespaces, folder.path(), &control_plane);
        let cluster = Self { metrics_server: Mutex::new(None), node, control_plane, namespaces, folder };
        cluster.wait_for_namespace("default");
        cluster
    }

    /// A name that no other cluster on this machine has: that of its control groups, below which its pods have theirs.
    pub fn name(&self) -> &str {
        self.namespaces.name()
    }

    /// Path of a kubeconfig of an administrator, for programs that run in the cluster's network.
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubectl.kubeconfig()
    }

    /// Runs kubectl and returns what it said, whether it succeeded or not.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Kubectl {
        self.control_plane.kubectl.run(arguments)
    }

    /// As [`Cluster::kubectl`], with `input` on its standard input (for `-f -`).
    #[track_caller]
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Kubectl {
        self.control_plane.kubectl.run_with(arguments, input)
    }

    /// A kubectl command line without its arguments.
    #[track_caller]
    pub fn kubectl_command(&self) -> Command {
        self.control_plane.kubectl.command()
    }

    /// Applies manifests.
    ///
    /// # Panics
    /// When the API refuses one.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        self.kubectl_with(&["apply", "-f", "-"], manifests).expect_ok();
    }

    /// Makes a namespace that refuses pods which are not `restricted` (Pod Security Standards), and waits until pods may
    /// be made there.
    #[track_caller]
    pub fn create_namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]).expect_ok();
        let enforce = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl(&["label", "namespace", name, enforce]).expect_ok();
        self.wait_for_namespace(name);
    }

    /// Runs helm with any arguments.
    #[track_caller]
    pub fn helm(&self, arguments: &[&str]) -> Kubectl {
        let mut command = self.command(parts::file("helm", "helm"));
        let home = self.folder.path().join("helm");
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, home.join(folder));
        }
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).stdin(Stdio::null());
        command.output().expect("helm runs").into()
    }

    /// A command in the cluster's network, where names of Services resolve (`telemetry.iot.svc`): curl, mosquitto_pub.
    #[track_caller]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespaces.place.command(program)
    }

    /// The cluster's network, for [`Process::start_in`] and for sockets of the test's own ([`Place::inside`]).
    pub fn place(&self) -> &Place {
        &self.namespaces.place
    }

    /// Address of the node, which pods reach, and on which NodePorts are served.
    pub fn node_address(&self) -> &'static str {
        namespaces::ADDRESS
    }

    /// Makes an image known to the node. Pods use it with `imagePullPolicy: IfNotPresent` or `Never`. The name is in full:
    /// what a pod calls `edge:1` is `docker.io/library/edge:1`.
    #[track_caller]
    pub fn load_image(&self, name: &str, image: &Image) {
        self.node.load(&self.namespaces, self.folder.path(), name, image);
    }

    /// The ServiceAccount controller gives a namespace its `default` account, without which it takes no pods.
    #[track_caller]
    fn wait_for_namespace(&self, name: &str) {
        until(&format!("ServiceAccount default in {name}"), START, || {
            self.kubectl(&["get", "serviceaccount", "default", "-n", name]).ok.then_some(())
        });
    }
}

/// Whether a URL is answered with success.
fn answers(place: &Place, url: &str) -> bool {
    let mut command = place.command(parts::program("curl"));
    command.args(["--silent", "--fail", "--max-time", "2", "--output", "/dev/null", url]);
    command.output().expect("curl runs").status.success()
}

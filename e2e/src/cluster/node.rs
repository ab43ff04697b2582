//! The node: containerd with a bridge for pods, the kubelet, kube-proxy.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use super::control_plane::{ControlPlane, POD_CIDR};
use super::namespaces::{ADDRESS, Namespaces};
use super::{NODE, answers};
use crate::image::Image;
use crate::process::run;
use crate::until::START;
use crate::{Process, parts};

const PAUSE: &str = "penstock.local/pause:1";

pub(super) struct Node {
    _proxy: Process,
    _kubelet: Process,
    _containerd: Process,
    socket: PathBuf,
}

impl Node {
    /// Starts the programs and waits until the node is Ready and serves Services.
    #[track_caller]
    pub(super) fn start(namespaces: &Namespaces, folder: &Path, control_plane: &ControlPlane) -> Self {
        let socket = folder.join("containerd.sock");
        let containerd = start_containerd(namespaces, folder, &socket);
        load(namespaces, &socket, folder, PAUSE, &Image::pause(&namespaces.pause));
        let keys = control_plane.authority.folder();
        let configuration = kubelet_configuration(namespaces.name(), folder, keys, &socket);
        std::fs::write(folder.join("kubelet.json"), configuration).expect("a kubelet configuration");
        let start = |name: &str, arguments: Vec<String>| {
            let program = parts::file("node", name);
            Process::start_in(&namespaces.processes, name, folder, program, arguments, &[])
        };
        let mut kubelet = start(
            "kubelet",
            vec![
                "--config=kubelet.json".to_owned(),
                format!("--kubeconfig={}/kubelet.kubeconfig", keys.display()),
                format!("--hostname-override={NODE}"),
                format!("--node-ip={ADDRESS}"),
                format!("--root-dir={}/kubelet", folder.display()),
            ],
        );
        let mut proxy = start(
            "kube-proxy",
            vec![
                format!("--kubeconfig={}", control_plane.kubectl.kubeconfig().display()),
                format!("--cluster-cidr={POD_CIDR}"),
                format!("--hostname-override={NODE}"),
                "--proxy-mode=iptables".to_owned(),
                format!("--healthz-bind-address={ADDRESS}:10256"),
                // These settings of the kernel are not ours to change.
                "--conntrack-max-per-core=0".to_owned(),
                "--conntrack-min=0".to_owned(),
                "--conntrack-tcp-timeout-established=0".to_owned(),
                "--conntrack-tcp-timeout-close-wait=0".to_owned(),
            ],
        );
        proxy.until("Services are served", START, || {
            answers(&namespaces.place, &format!("http://{ADDRESS}:10256/healthz")).then_some(())
        });
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        kubelet.until("the node is Ready", START, || {
            (control_plane.kubectl.run(&["get", "node", NODE, "-o", ready]).out == "True").then_some(())
        });
        Self { _proxy: proxy, _kubelet: kubelet, _containerd: containerd, socket }
    }

    /// Makes an image known to the node, so that pods need no registry.
    #[track_caller]
    pub(super) fn load(&self, namespaces: &Namespaces, folder: &Path, name: &str, image: &Image) {
        load(namespaces, &self.socket, folder, name, image);
    }
}

#[track_caller]
fn load(namespaces: &Namespaces, socket: &Path, folder: &Path, name: &str, image: &Image) {
    let tar = tempfile::NamedTempFile::new_in(folder).expect("a file for the image");
    image.write(name, tar.path());
    let mut command = namespaces.place.command(parts::file("containerd", "ctr"));
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]).arg(tar.path());
    run(command.stdin(Stdio::null()));
}

#[track_caller]
fn start_containerd(namespaces: &Namespaces, folder: &Path, socket: &Path) -> Process {
    std::fs::create_dir(folder.join("cni")).expect("a folder for the network's configuration");
    std::fs::write(folder.join("cni/10-pods.conflist"), network(folder)).expect("a network configuration");
    let shim = parts::file("containerd", "containerd-shim-runc-v2");
    let configuration = containerd_configuration(folder, socket, &shim);
    std::fs::write(folder.join("containerd.toml"), configuration).expect("a containerd configuration");
    let program = parts::file("containerd", "containerd");
    let arguments = ["--config", "containerd.toml"];
    let mut containerd =
        Process::start_in(&namespaces.processes, "containerd", folder, program, arguments, &[]);
    containerd.until("its socket takes connections", START, || {
        std::os::unix::net::UnixStream::connect(socket).ok().map(drop)
    });
    containerd
}

/// A bridge that gives pods addresses; it enforces no NetworkPolicy.
fn network(folder: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.244.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": folder.join("addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn containerd_configuration(folder: &Path, socket: &Path, shim: &Path) -> String {
    // Small machines do not let even root lower an oom score: `restrict_oom_score_adj`.
    format!(
        r#"version = 3
root = "{folder}/containerd-root"
state = "{folder}/containerd-state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{shim}"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
"#,
        folder = folder.display(),
        socket = socket.display(),
        shim = shim.display(),
    )
}

fn kubelet_configuration(name: &str, folder: &Path, keys: &Path, socket: &Path) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": keys.join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": keys.join("kubelet.crt"),
        "tlsPrivateKeyFile": keys.join("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": folder.join("pod-logs"),
        "volumePluginDir": folder.join("volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{name}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": false,
        // Disks of small machines are often nearly full; an image that a test loaded must stay.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    })
    .to_string()
}

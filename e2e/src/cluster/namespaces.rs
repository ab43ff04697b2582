//! A machine of its own for a cluster: network, process and mount namespaces that are gone with their first processes.
//!
//! The process namespace is what leaves nothing behind: when its first process is killed, by us or because the test
//! process died, the kernel kills containerd's shims and all containers, and then no mount and no interface is left.
//! Only what makes containers is in it. The rest is a child of the test process like any other part, and shares the
//! network.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Process;
use crate::image::build_pause;
use crate::place::Place;
use crate::until::{START, until};

/// Address of the node, of the API server and of everything else that is no pod. (RFC 5737, for documentation: nobody's.)
pub(super) const ADDRESS: &str = "192.0.2.1";

pub(super) struct Namespaces {
    name: String,
    /// `unshare`, which waits for the first process of the process namespace.
    unshare: Process,
    first: Pid,
    /// Holds the network.
    _network: Process,
    /// The network, and a resolver that asks the cluster's DNS.
    pub(super) place: Place,
    /// The network and the process namespace, with mounts of its own.
    pub(super) processes: Place,
    /// The program that is the first process.
    pub(super) pause: PathBuf,
}

impl Namespaces {
    #[track_caller]
    pub(super) fn start(folder: &Path) -> Self {
        assert!(rustix::process::geteuid().is_root(), "a cluster needs root: it makes namespaces and mounts");
        remove_cgroups_of_the_dead();
        let name = fresh_name();
        make_cgroups(&name);
        let pause = build_pause(folder);
        let resolver =
            format!("nameserver {ADDRESS}\nsearch svc.cluster.local cluster.local\noptions ndots:3\n");
        std::fs::write(folder.join("resolv.conf"), resolver).expect("a resolver configuration");

        let script = format!("{}exec {}", network_setup(folder), pause.display());
        let arguments = ["--net", "--mount", "--", "sh", "-c", &script];
        let mut network = Process::start("network", folder, "unshare", arguments);
        let pid = network.pid() as i32;
        network.until("the network is set up", START, || is_pause(pid).then_some(()));
        let place = Place::of_process(pid, false);

        let script = format!("{MOUNTS}exec {}", pause.display());
        let arguments =
            ["--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", &script];
        let mut unshare = Process::start_in(&place, "processes", folder, "unshare", arguments, &[]);
        let pid = unshare.pid();
        let first = unshare.until("the process namespace is set up", START, || only_child(pid));
        let processes = Place::of_process(first.as_raw_nonzero().get(), true);
        Self { name, unshare, first, _network: network, place, processes, pause }
    }

    /// A name that no other cluster on this machine has: that of its control groups.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // `unshare` ends when the first process has, and that when all others have.
        let _ = kill_process(self.first, Signal::KILL);
        until_or_give_up(|| self.unshare.exit_status().is_some());
        remove_cgroups(&self.name);
    }
}

fn is_pause(pid: i32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    command.is_ok_and(|command| command.trim() == "pause")
}

/// The child of a process, once it has become what it stays.
fn only_child(parent: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child: i32 = children.trim().parse().ok()?;
    if is_pause(child) { Pid::from_raw(child) } else { None }
}

/// The kernel of small machines has no `dummy` interface: the node's address is on `lo`, and a bridge with a default
/// route satisfies what looks for one.
fn network_setup(folder: &Path) -> String {
    format!(
        "set -e
mount --bind {}/resolv.conf /etc/resolv.conf
ip link set lo up
ip address add {ADDRESS}/32 dev lo
ip link add up0 type bridge
ip address add 198.51.100.1/24 dev up0
ip link set up0 up
ip route add default via 198.51.100.2
echo 1 >/proc/sys/net/ipv4/ip_forward
",
        folder.display()
    )
}

/// Places outside their own folders where node programs keep things.
const MOUNTS: &str = "set -e
mkdir -p /var/log/containers /var/lib/cni
for keep in /run /var/log/containers /var/lib/cni; do mount -t tmpfs tmpfs $keep; done
";

const CGROUPS: &str = "/sys/fs/cgroup";
const PREFIX: &str = "penstock-e2e-";

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The roots of control groups: one with version 2, one for each controller with version 1.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = std::fs::read_dir(root).expect("control groups are mounted");
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// A kubelet removes the groups of pods that it does not know: each needs a group of its own to look below.
fn make_cgroups(name: &str) {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        std::fs::create_dir_all(&group).expect("root makes control groups");
        // A group of cpuset (version 1) takes no process before these are set.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let (true, Ok(all)) = (group.join(file).exists(), std::fs::read(hierarchy.join(file))) {
                std::fs::write(group.join(file), all).expect("root sets up control groups");
            }
        }
    }
}

fn remove_cgroups(name: &str) {
    for hierarchy in hierarchies() {
        // The kernel needs a moment after the death of the last process.
        until_or_give_up(|| {
            let group = hierarchy.join(name);
            remove_group(&group);
            !group.exists()
        });
    }
}

fn remove_group(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// A test process that was killed leaves its empty groups.
fn remove_cgroups_of_the_dead() {
    for hierarchy in hierarchies() {
        for entry in std::fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_group(&entry.path());
            }
        }
    }
}

/// Waits as [`until`] does, but not for long, and without a panic: for what runs while a value is dropped.
fn until_or_give_up(mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    until("the end of a cluster", Duration::MAX, || {
        (condition() || started.elapsed() > Duration::from_secs(10)).then_some(())
    });
}

//! Where parts run: on this machine, or in the namespaces of a cluster.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Handle, Runtime};

use crate::{parts, runtime};

/// This machine, or namespaces on it that other processes have.
#[derive(Clone, Default)]
pub struct Place {
    /// `nsenter` with its arguments; empty for this machine.
    entry: Vec<OsString>,
    network: Option<Arc<Network>>,
}

/// A network namespace, which lives at least as long as this.
struct Network {
    namespace: File,
    /// Its threads are in that network. Made when it is first wanted.
    runtime: OnceLock<Runtime>,
}

impl Place {
    /// This machine.
    pub fn here() -> Self {
        Self::default()
    }

    /// Whether it is this machine.
    pub fn is_here(&self) -> bool {
        self.network.is_none()
    }

    /// The network and mount namespaces of a process, and with `processes` also its process namespace. What runs there
    /// as a child of `nsenter` dies with the namespace's first process; without, it is a child of ours like any other.
    #[track_caller]
    pub(crate) fn of_process(pid: i32, processes: bool) -> Self {
        let mut entry: Vec<OsString> =
            vec![parts::program("nsenter").into(), format!("--target={pid}").into()];
        entry.extend(["--net", "--mount"].map(OsString::from));
        if processes {
            entry.push("--pid".into());
        }
        let namespace =
            File::open(format!("/proc/{pid}/ns/net")).expect("the network namespace of a process");
        Self { entry, network: Some(Arc::new(Network { namespace, runtime: OnceLock::new() })) }
    }

    /// What to run to have `program` there, in `folder` (a mount namespace is entered at its root).
    pub(crate) fn entered(&self, folder: &Path, program: impl AsRef<OsStr>) -> Vec<OsString> {
        let mut line = self.entry.clone();
        if !line.is_empty() {
            let mut start = OsString::from("--wdns=");
            start.push(folder);
            line.extend([start, "--".into()]);
        }
        line.push(program.as_ref().into());
        line
    }

    /// A command that runs `program` there, in the current folder.
    #[track_caller]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let folder = std::env::current_dir().expect("a current folder");
        let line = self.entered(&folder, program);
        let (first, rest) = line.split_first().expect("a program at least");
        let mut command = Command::new(first);
        command.args(rest);
        command
    }

    /// Runs `work` on a thread whose sockets belong to that network. Threads that it starts inherit this.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let Some(network) = &self.network else { return work() };
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                network.enter();
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A runtime whose tasks have their sockets in that network. They end when the last copy of this place is dropped.
    #[track_caller]
    pub(crate) fn runtime(&self) -> Handle {
        let Some(network) = &self.network else { return runtime::handle() };
        let start = || self.inside(runtime::start);
        network.runtime.get_or_init(start).handle().clone()
    }
}

impl Network {
    /// Moves the calling thread there, for as long as it lives.
    #[track_caller]
    fn enter(&self) {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("a thread of root may enter a network namespace");
    }
}

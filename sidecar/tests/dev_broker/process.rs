//! The broker in a process of its own: this test program again, told to run only [`the_broker`].

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use penstock_sidecar::dev::Broker;

const FOLDER: &str = "PENSTOCK_TEST_FOLDER";
const PORT: &str = "PENSTOCK_TEST_PORT";
const ADDRESS_LINE: &str = "broker at ";

/// A broker's process. Dropping it is `kill -9`.
pub(crate) struct BrokerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    log: BufReader<std::process::ChildStdout>,
}

impl BrokerProcess {
    /// On a folder; port 0 is any.
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), folder, port)
    }

    /// On a folder that is a file system of this size, which exists in this process alone and ends with it. Others
    /// find it by [`folder_of`](Self::folder_of).
    pub(crate) fn start_on_small_disk(folder: &Path, bytes: u64) -> Self {
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size={bytes} none \"${FOLDER}\" && exec \"$@\"");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
        Self::spawn(command, folder, 0)
    }

    fn spawn(mut command: Command, folder: &Path, port: u16) -> Self {
        command.args(["--exact", "process::the_broker", "--ignored", "--nocapture"]);
        command.env(FOLDER, folder).env(PORT, port.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the broker's process ended (is this root?)");
            if let Some((_, address)) = line.trim_end().split_once(ADDRESS_LINE) {
                break address.parse().unwrap();
            }
        };
        Self { child, address, log }
    }

    /// A path in the process's own view of the file systems.
    pub(crate) fn folder_of(&self, folder: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(folder.strip_prefix("/").unwrap())
    }

    /// SIGKILL. Returns what it had logged.
    pub(crate) fn kill_9(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut text = String::new();
        self.log.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "not a test: the other tests run it as a process of its own"]
fn the_broker() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let port = std::env::var(PORT).unwrap().parse().unwrap();
    tracing_subscriber::fmt()
        .with_writer(std::io::stdout)
        .with_ansi(false)
        .with_env_filter("off,penstock_sidecar=info")
        .init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let broker = Broker::start(&folder, port, &mut crate::pipeline()).await.unwrap();
        println!("{ADDRESS_LINE}{}", broker.address());
        // Ends when the pipe from the test does.
        let parent = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        tokio::select! {
            _ = parent => broker.stop().await,
            error = broker.ended() => panic!("{error}"),
        }
    });
}

//! The processes that take the load: ours, and those it is compared with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use penstock_crds::edge::EdgeConfig;
use penstock_e2e::until::START;
use penstock_e2e::{Process, parts, ports, sidecar};

/// A server, killed when this is dropped.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// The floor M: Debian's mosquitto, without a subscriber and without a disk.
    pub(crate) fn mosquitto(folder: &Path) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let config = format!(
            "listener {} {}\nallow_anonymous true\nuser root\npersistence false\n\
             max_inflight_messages 0\nmax_queued_messages 0\nlog_type error\n",
            address.port(),
            address.ip()
        );
        std::fs::write(folder.join("mosquitto.conf"), config).expect("a configuration file");
        let process =
            Process::start("mosquitto", folder, parts::program("mosquitto"), ["-c", "mosquitto.conf"]);
        Self { process, address }.listening()
    }

    /// The floor H.
    pub(crate) fn bare_http(folder: &Path) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let program = std::env::current_exe().expect("a path of this program");
        let process =
            Process::start("bare-http", folder, program, ["answer", "--listen", &address.to_string()]);
        Self { process, address }.listening()
    }

    /// Ours; the address is that of the admin port.
    pub(crate) fn sidecar(folder: &Path, config: &Path, edge: &EdgeConfig) -> Self {
        Self::sidecar_with(folder, config, edge, &folder.join("references"))
    }

    /// As [`Server::sidecar`], with files that the configuration refers to below a folder.
    pub(crate) fn sidecar_with(folder: &Path, config: &Path, edge: &EdgeConfig, references: &Path) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], edge.admin_port));
        let references = references.display().to_string();
        let config = config.display().to_string();
        let arguments =
            ["run", "--config", &config, "--admin", &address.to_string(), "--references", &references];
        let process = Process::start("sidecar", folder, sidecar::binary(), arguments);
        let mut server = Self { process, address };
        server.process.until("/readyz says 200", START, || is_ready(address).then_some(()));
        server
    }

    fn listening(mut self) -> Self {
        let address = self.address;
        self.process.until("takes connections", START, || TcpStream::connect(address).ok());
        self
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(admin) else { return false };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

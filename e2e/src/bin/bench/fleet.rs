//! Devices with passwords that all come back at once to a sidecar that remembers nobody.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use penstock_crds::edge::{AuthenticationConfig, AuthenticationMethodConfig, EdgeConfig, ReferencePath};
use penstock_e2e::credentials::{argon2_line, bcrypt_line, sha256_line};
use penstock_e2e::load::wire::{Connect, Version};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::figures::Figure;
use crate::servers::Server;
use crate::{edge, machine, worker};

/// How many devices come back.
pub(crate) const DEVICES: usize = 20_000;
/// How long a run with slow hashes is watched; the rest is computed from its rate.
const WATCHED: Duration = Duration::from_secs(20);
/// How long a device waits for its CONNACK, and at most before it tries again.
const ANSWER: Duration = Duration::from_secs(10);
const PAUSE_MILLIS: u64 = 4_000;

/// What stands in the Secret.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sha256,
    Bcrypt,
    Argon2,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Sha256, Self::Bcrypt, Self::Argon2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Bcrypt => "bcrypt",
            Self::Argon2 => "argon2id",
        }
    }

    /// A line for each device. All have one hash: making 20,000 would take longer than verifying them, and verifying
    /// takes the same.
    fn lines(self) -> String {
        let line = match self {
            Self::Sha256 => sha256_line("", "secret"),
            // What htpasswd -B -C 10 and OWASP's first choice for argon2id make.
            Self::Bcrypt => bcrypt_line("", "secret", 10),
            Self::Argon2 => argon2_line("", "secret", 19_456, 2),
        };
        (0..DEVICES).map(|number| format!("device-{number}{line}")).collect()
    }
}

/// Where to, and whose CPU.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    watch: u32,
}

/// What was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    let_in: usize,
    /// Answers that asked to come back.
    busy: usize,
    seconds: f64,
    cpu_seconds: f64,
}

/// Measures one kind.
pub(crate) fn figures(kind: Kind, edge: &EdgeConfig, folder: &Path) -> Vec<Figure> {
    let users = folder.join("references/secrets/devices");
    std::fs::create_dir_all(&users).expect("a folder");
    std::fs::write(users.join("users"), kind.lines()).expect("a file of users");
    let mut edge = edge.clone();
    for endpoint in &mut edge.endpoints {
        let method = AuthenticationMethodConfig::Basic(ReferencePath("secrets/devices/users".to_owned()));
        endpoint.authentication = Some(AuthenticationConfig { method, client_id: None });
    }
    let config = folder.join("fleet.json");
    std::fs::write(&config, serde_json::to_string(&edge).expect("a configuration")).expect("a file");
    let mut server = Server::sidecar(folder, &config, &edge);
    let (address, pid) = (edge::address(&edge, "mqtt").to_string(), server.pid().to_string());
    let arguments = ["fleet", "--server", &address, "--watch", &pid];
    let seen: Seen = worker::run(&arguments.map(str::to_owned));
    server.kill();
    let rate = seen.let_in as f64 / seen.seconds;
    let figure = |what: &str, unit: &str, value| {
        Figure::new(format!("fleet_{}_{what}", kind.name()), unit, vec![value])
    };
    vec![
        figure("rate", "devices/s", rate),
        figure("seconds", "s for 20,000", DEVICES as f64 / rate),
        figure("cpu", "ms/device", 1_000.0 * seen.cpu_seconds / seen.let_in as f64),
        figure("busy", "answers", seen.busy as f64),
    ]
}

/// Lets all devices connect, each again until it is let in, and says how that went.
pub(crate) fn run(arguments: &Arguments) -> Seen {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let before = machine::cpu_seconds(arguments.watch);
    let (let_in, busy) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let start = Instant::now();
    runtime.block_on(async {
        let mut fleet = JoinSet::new();
        for number in 0..DEVICES {
            fleet.spawn(device(arguments.server, number, Arc::clone(&let_in), Arc::clone(&busy)));
        }
        let mut open = Vec::with_capacity(DEVICES);
        let all = async {
            while let Some(stream) = fleet.join_next().await {
                open.push(stream.expect("a device that does not panic"));
            }
        };
        let _ = tokio::time::timeout(WATCHED, all).await;
    });
    Seen {
        let_in: let_in.load(Ordering::Relaxed),
        busy: busy.load(Ordering::Relaxed),
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: machine::cpu_seconds(arguments.watch) - before,
    }
}

async fn device(
    server: SocketAddr,
    number: usize,
    let_in: Arc<AtomicUsize>,
    busy: Arc<AtomicUsize>,
) -> TcpStream {
    for attempt in 0_u64.. {
        match tokio::time::timeout(ANSWER, connect(server, number)).await {
            Ok(Ok((stream, 0))) => {
                let_in.fetch_add(1, Ordering::Relaxed);
                return stream;
            }
            Ok(Ok((_, 0x89))) => {
                busy.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Ok((_, code))) => panic!("device {number} is answered {code:#04x}"),
            // Nobody answered, or the connection ended: as a device does, it tries again.
            Ok(Err(_)) | Err(_) => {}
        }
        // A pause that differs from device to device and from attempt to attempt.
        let mixed = (number as u64 + 1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(attempt.wrapping_mul(0xD134_2543_DE82_EF95));
        tokio::time::sleep(Duration::from_millis((mixed >> 33) % PAUSE_MILLIS + 100)).await;
    }
    unreachable!("a device tries for ever")
}

/// A connection and the reason code of its CONNACK.
async fn connect(server: SocketAddr, number: usize) -> std::io::Result<(TcpStream, u8)> {
    let socket = TcpSocket::new_v4()?;
    // From one of several loopback addresses, so that ports do not run out.
    socket.bind(SocketAddr::from(([127, 0, 0, 2 + (number % 8) as u8], 0)))?;
    let mut stream = socket.connect(server).await?;
    let name = format!("device-{number}");
    let connect = Connect::new(Version::V5, &name).login(&name, "secret");
    stream.write_all(&connect.encode()).await?;
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).await?;
    let code = body.get(1).filter(|_| head[0] == 0x20).copied();
    code.map(|code| (stream, code)).ok_or_else(|| std::io::Error::other("not a CONNACK"))
}

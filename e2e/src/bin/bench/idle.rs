//! Idle MQTT connections, and what each of them makes the server hold.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use penstock_e2e::load::wire::{Publish, Version};
use penstock_e2e::until;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::load::Style;
use crate::{machine, payload};

/// Connections that are being opened at one time: within every listener's backlog.
const AT_ONCE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory is steady when it has not moved by more than this for a second.
const STEADY_KIB: f64 = 32.0;

/// How many connections, and whose memory.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    server: SocketAddr,
    /// How many connections are open at each reading, rising.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    #[arg(long)]
    watch: u32,
    #[command(flatten)]
    style: Style,
}

/// What was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Readings {
    /// Connections and resident KiB.
    pub(crate) idle: Vec<(f64, f64)>,
    /// Resident KiB after each connection has sent one message and got its acknowledgement.
    pub(crate) after_one_message: f64,
}

/// Opens connections step by step and reads the server's memory at each.
pub(crate) fn run(arguments: &Arguments) -> Readings {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut open = Vec::new();
    let mut idle = Vec::new();
    for &count in &arguments.connections {
        while open.len() < count {
            let numbers = open.len()..(open.len() + AT_ONCE).min(count);
            open.extend(connect(&runtime, arguments, numbers));
        }
        idle.push((count as f64, steady_rss_kib(arguments.watch)));
    }
    runtime.block_on(send_one_each(&mut open));
    Readings { idle, after_one_message: steady_rss_kib(arguments.watch) }
}

/// Waits until the process has finished growing or shrinking.
pub(crate) fn steady_rss_kib(pid: u32) -> f64 {
    let mut last = (machine::rss_kib(pid), Instant::now());
    until("memory is steady", PATIENCE, || {
        let now = machine::rss_kib(pid);
        if (now - last.0).abs() > STEADY_KIB {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(now)
    })
}

fn connect(runtime: &Runtime, arguments: &Arguments, numbers: std::ops::Range<usize>) -> Vec<TcpStream> {
    let (server, style) = (arguments.server, arguments.style);
    runtime.block_on(async {
        let mut opening: JoinSet<_> = numbers.map(|number| connect_one(server, style, number)).collect();
        let mut open = Vec::new();
        while let Some(stream) = opening.join_next().await {
            open.push(stream.expect("a task that does not panic").expect("a connection"));
        }
        open
    })
}

/// From one of several loopback addresses, so that ports do not run out.
pub(crate) async fn connect_one(
    server: SocketAddr,
    style: Style,
    number: usize,
) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2 + (number % 8) as u8], 0)))?;
    let mut stream = socket.connect(server).await?;
    let connect = style.connect(Version::V5, &format!("idle-{number}"));
    stream.write_all(&connect.encode()).await?;
    // A CONNACK says how many bytes follow in its second byte; none of ours is longer than that can say.
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).await?;
    assert!(head[0] == 0x20 && body.get(1) == Some(&0), "not welcome: {head:02x?} {body:02x?}");
    Ok(stream)
}

async fn send_one_each(open: &mut [TcpStream]) {
    for (number, stream) in open.iter_mut().enumerate() {
        let packet = Publish::new(Version::V5, &payload::topic(number), &[b'x'; payload::BYTES], 1).encode();
        stream.write_all(&packet).await.expect("an open connection");
    }
    for stream in open {
        let mut answer = [0; 512];
        let count = stream.read(&mut answer).await.expect("an open connection");
        assert!(count >= 4 && answer[0] == 0x40, "not a PUBACK: {:02x?}", &answer[..count]);
    }
}

//! Devices that come back: TCP, TLS handshake, CONNECT, CONNACK, DISCONNECT, one after the other on a few threads.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use penstock_e2e::load::wire::{Connect, Version};
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::load::stream::{client, trust};
use crate::machine::cpu_seconds;

const THREADS: usize = 8;
/// MQTT 3.1.1 §3.14.
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Where, how often, and whose CPU.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    tls_ca: PathBuf,
    #[arg(long)]
    count: usize,
    /// Take up the session of the connection before.
    #[arg(long)]
    resume: bool,
    #[arg(long)]
    watch: u32,
}

/// What it was like.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reconnects {
    pub(crate) count: f64,
    pub(crate) resumed: f64,
    pub(crate) seconds: f64,
    /// CPU seconds of the watched process.
    pub(crate) watched: f64,
}

/// Reconnects so often.
pub(crate) fn run(arguments: &Arguments) -> Reconnects {
    let mut config = ClientConfig::clone(&trust(&arguments.tls_ca));
    if !arguments.resume {
        config.resumption = Resumption::disabled();
    }
    // Each thread is a device with sessions of its own; the first of each is not counted.
    let devices: Vec<_> = (0..THREADS)
        .map(|_| {
            let mut config = config.clone();
            if arguments.resume {
                config.resumption = Resumption::in_memory_sessions(8);
            }
            Arc::new(config)
        })
        .collect();
    for (number, device) in devices.iter().enumerate() {
        connect(arguments.server, device, number);
    }
    let (next, resumed) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (started, before) = (Instant::now(), cpu_seconds(arguments.watch));
    std::thread::scope(|scope| {
        for (number, device) in devices.iter().enumerate() {
            let (next, resumed) = (&next, &resumed);
            scope.spawn(move || {
                while next.fetch_add(1, Ordering::Relaxed) < arguments.count {
                    resumed.fetch_add(connect(arguments.server, device, number).into(), Ordering::Relaxed);
                }
            });
        }
    });
    Reconnects {
        count: arguments.count as f64,
        resumed: resumed.into_inner() as f64,
        seconds: started.elapsed().as_secs_f64(),
        watched: cpu_seconds(arguments.watch) - before,
    }
}

/// Connects and leaves. Returns whether the session was resumed.
fn connect(server: SocketAddr, config: &Arc<ClientConfig>, number: usize) -> bool {
    let tcp = std::net::TcpStream::connect(server).expect("a connection");
    tcp.set_nodelay(true).expect("an option of ours");
    let mut stream = StreamOwned::new(client(config), tcp);
    stream.write_all(&Connect::new(Version::V311, &format!("back-{number}")).encode()).expect("a handshake");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("a CONNACK");
    assert_eq!(connack, [0x20, 2, 0, 0], "not welcome");
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    stream.write_all(&DISCONNECT).expect("an open connection");
    resumed
}

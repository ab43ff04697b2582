//! Clients that come, send one message, and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use penstock_e2e::load::wire::{self, Publish, Version};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::load::Style;
use crate::{idle, payload};

/// Clients that are there at one time.
const AT_ONCE: u32 = 500;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// MQTT 5 §3.14, without properties: a normal end.
const DISCONNECT: u8 = 0xE0;

/// How many, for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    per_second: u32,
    #[arg(long)]
    millis: u64,
    #[command(flatten)]
    style: Style,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Churned {
    /// Clients whose message was acknowledged.
    pub(crate) clients: u64,
}

/// Sends clients until the time is over.
///
/// # Panics
/// When one of them is not served.
pub(crate) fn run(arguments: &Arguments) -> Churned {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let room = Arc::new(Semaphore::new(AT_ONCE as usize));
        let mut tick = interval(Duration::from_secs(1) / arguments.per_second);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = Instant::now() + Duration::from_millis(arguments.millis);
        let mut clients = 0;
        while Instant::now() < end {
            tick.tick().await;
            let seat = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
            let (server, style, number) = (arguments.server, arguments.style, clients);
            tokio::spawn(async move {
                let served = tokio::time::timeout(PATIENCE, one(server, style, number)).await;
                // A part of the bench that is not served ends, and the run with it.
                if !matches!(served, Ok(Ok(()))) {
                    eprintln!("client {number} was not served: {served:?}");
                    std::process::exit(1);
                }
                drop(seat);
            });
            clients += 1;
        }
        room.acquire_many(AT_ONCE).await.expect("it is never closed").forget();
        Churned { clients: clients as u64 }
    })
}

async fn one(server: SocketAddr, style: Style, number: usize) -> std::io::Result<()> {
    let mut stream = idle::connect_one(server, style, number).await?;
    let topic = payload::topic(number % 1_000);
    let publish = Publish::new(Version::V5, &topic, &[b'x'; payload::BYTES], 1).encode();
    stream.write_all(&publish).await?;
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    assert_eq!(head[0], 0x40, "not a PUBACK");
    stream.write_all(&wire::packet(DISCONNECT, &[])).await?;
    stream.shutdown().await
}

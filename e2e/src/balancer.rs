//! A road between clients and servers, such as edge pods or a broker: a TCP balancer whose road can be made long, narrow,
//! one-way or torn up. This kernel has no queueing discipline that delays, so it happens here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::dice::Dice;
use crate::{ports, runtime};

/// How much is read at once on a clear road.
const PIECE: usize = 16 << 10;
/// Pieces on a long road.
const PIECES: usize = 64;

/// What the road is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Road {
    /// How long everything takes, each way.
    pub delay: Duration,
    /// How much longer it may take.
    pub jitter: Duration,
    /// How much passes, each way of each connection.
    pub bytes_per_second: Option<u32>,
    /// Nothing passes to the servers.
    pub closed_to_server: bool,
    /// Nothing passes to the clients.
    pub closed_to_clients: bool,
    /// Everything passes in pieces of so many bytes.
    pub piece_bytes: Option<usize>,
    /// Connections from before this one was counted are reset.
    resets: u64,
}

impl Road {
    /// Nothing passes.
    pub fn cut(&mut self) {
        (self.closed_to_server, self.closed_to_clients) = (true, true);
    }

    /// Everything takes so many milliseconds each way, or up to so many more.
    pub fn lengthen(&mut self, delay: u64, jitter: u64) {
        (self.delay, self.jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
    }
}

/// Clients connect here, and each connection goes to one of the servers that take it, in turn.
pub struct Balancer {
    address: SocketAddr,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    passages: Passages,
    road: watch::Sender<Road>,
}

/// Which of the servers each connection goes to that is open now, by the address of its client.
#[derive(Clone, Debug, Default)]
pub struct Passages(Arc<Mutex<HashMap<SocketAddr, usize>>>);

impl Passages {
    /// The server of a client's connection, counted from 0.
    pub fn server(&self, client: SocketAddr) -> Option<usize> {
        self.0.lock().get(&client).copied()
    }
}

#[derive(Clone, Copy)]
enum Way {
    ToServer,
    ToClient,
}

impl Balancer {
    /// Listens, with no server behind it.
    pub fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let road = watch::Sender::new(Road::default());
        let balancer = Self { address, servers: Arc::default(), passages: Passages::default(), road };
        let (servers, road) = (Arc::clone(&balancer.servers), balancer.road.subscribe());
        let passages = balancer.passages.clone();
        let listener = runtime::wait(TcpListener::bind(address)).expect("a free port");
        runtime::spawn(async move {
            let next = Arc::new(AtomicUsize::new(0));
            while let Ok((client, from)) = listener.accept().await {
                let (servers, next, road) = (servers.lock().clone(), Arc::clone(&next), road.clone());
                let passages = passages.clone();
                tokio::spawn(async move {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    for place in 0..servers.len() {
                        let index = (turn + place) % servers.len();
                        if let Ok(server) = TcpStream::connect(servers[index]).await {
                            passages.0.lock().insert(from, index);
                            carry(client, server, road).await;
                            passages.0.lock().remove(&from);
                            return;
                        }
                    }
                });
            }
        });
        balancer
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which way connections went.
    pub fn passages(&self) -> Passages {
        self.passages.clone()
    }

    /// Where new connections go.
    pub fn serve(&self, servers: Vec<SocketAddr>) {
        *self.servers.lock() = servers;
    }

    /// Makes the road like this.
    pub fn change(&self, change: impl FnOnce(&mut Road)) {
        self.road.send_modify(change);
    }

    /// Makes the road clear again.
    pub fn clear(&self) {
        self.road.send_modify(|road| *road = Road { resets: road.resets, ..Road::default() });
    }

    /// Resets every connection, both ways, wherever in a message it is. Says how many there were.
    pub fn reset_all(&self) -> usize {
        let open = self.passages.0.lock().len();
        self.road.send_modify(|road| road.resets += 1);
        open
    }
}

/// Carries bytes both ways until either side ends, or the road is torn up.
async fn carry(client: TcpStream, server: TcpStream, mut road: watch::Receiver<Road>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let since = road.borrow_and_update().resets;
    let torn = {
        let mut road = road.clone();
        async move { drop(road.wait_for(|road| road.resets != since).await) }
    };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (mut back, mut forth) = (
        tokio::spawn(pass(from_server, to_client, road.clone(), Way::ToClient)),
        tokio::spawn(pass(from_client, to_server, road, Way::ToServer)),
    );
    tokio::select! {
        _ = async { let _ = (&mut back).await; let _ = (&mut forth).await; } => {}
        () = torn => {}
    }
    back.abort();
    forth.abort();
}

/// One way of a connection. A socket that is dropped with something unread has the kernel send a reset.
async fn pass(mut from: OwnedReadHalf, to: OwnedWriteHalf, mut road: watch::Receiver<Road>, way: Way) {
    let (pieces, received) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let delivery = deliver(received, to, road.clone(), way);
    let reading = async move {
        let mut dice = Dice::of(0);
        let mut last = Instant::now();
        loop {
            let Road { delay, jitter, piece_bytes, .. } = *road.borrow_and_update();
            let mut piece = vec![0; piece_bytes.unwrap_or(PIECE)];
            let Ok(count @ 1..) = from.read(&mut piece).await else { return };
            piece.truncate(count);
            last = last.max(Instant::now() + delay + dice.part_of(jitter));
            if pieces.send((last, piece)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, delivery);
}

async fn deliver(
    mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    mut road: watch::Receiver<Road>,
    way: Way,
) {
    while let Some((due, piece)) = pieces.recv().await {
        tokio::time::sleep_until(due.into()).await;
        let open = road.wait_for(|road| match way {
            Way::ToServer => !road.closed_to_server,
            Way::ToClient => !road.closed_to_clients,
        });
        let Ok(width) = open.await.map(|road| road.bytes_per_second) else { return };
        if to.write_all(&piece).await.is_err() {
            return;
        }
        if let Some(bytes_per_second) = width {
            let seconds = piece.len() as f64 / f64::from(bytes_per_second);
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
    }
    let _ = to.shutdown().await;
}

//! The road between clients and edge pods: a TCP balancer whose road can be made long, narrow, one-way or torn up. This
//! kernel has no queueing discipline that delays, so it happens here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::dice::Dice;
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
    /// Nothing passes to the edge.
    pub closed_to_edge: bool,
    /// Nothing passes to the clients.
    pub closed_to_clients: bool,
    /// Everything passes in pieces of so many bytes.
    pub piece_bytes: Option<usize>,
    /// Connections from before this one was counted are reset.
    resets: u64,
}

/// Clients connect here, and each connection goes to one of the edges that take it, in turn.
pub struct Balancer {
    address: SocketAddr,
    edges: Arc<Mutex<Vec<SocketAddr>>>,
    road: watch::Sender<Road>,
}

#[derive(Clone, Copy)]
enum Way {
    ToEdge,
    ToClient,
}

impl Balancer {
    /// Listens, with no edge behind it.
    pub fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let balancer = Self { address, edges: Arc::default(), road: watch::Sender::new(Road::default()) };
        let (edges, road) = (Arc::clone(&balancer.edges), balancer.road.subscribe());
        let listener = runtime::wait(TcpListener::bind(address)).expect("a free port");
        runtime::spawn(async move {
            let next = Arc::new(AtomicUsize::new(0));
            while let Ok((client, _)) = listener.accept().await {
                let (edges, next, road) = (edges.lock().clone(), Arc::clone(&next), road.clone());
                tokio::spawn(async move {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    for place in 0..edges.len() {
                        if let Ok(edge) = TcpStream::connect(edges[(turn + place) % edges.len()]).await {
                            return carry(client, edge, road).await;
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

    /// Where new connections go.
    pub fn serve(&self, edges: Vec<SocketAddr>) {
        *self.edges.lock() = edges;
    }

    /// Makes the road like this.
    pub fn change(&self, change: impl FnOnce(&mut Road)) {
        self.road.send_modify(change);
    }

    /// Makes the road clear again.
    pub fn clear(&self) {
        self.road.send_modify(|road| *road = Road { resets: road.resets, ..Road::default() });
    }

    /// Resets every connection, both ways, wherever in a message it is.
    pub fn reset_all(&self) {
        self.road.send_modify(|road| road.resets += 1);
    }
}

/// Carries bytes both ways until either side ends, or the road is torn up.
async fn carry(client: TcpStream, edge: TcpStream, mut road: watch::Receiver<Road>) {
    let _ = (client.set_nodelay(true), edge.set_nodelay(true));
    let since = road.borrow_and_update().resets;
    let torn = {
        let mut road = road.clone();
        async move { drop(road.wait_for(|road| road.resets != since).await) }
    };
    let ((from_client, to_client), (from_edge, to_edge)) = (client.into_split(), edge.into_split());
    let (mut back, mut forth) = (
        tokio::spawn(pass(from_edge, to_client, road.clone(), Way::ToClient)),
        tokio::spawn(pass(from_client, to_edge, road, Way::ToEdge)),
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
            Way::ToEdge => !road.closed_to_edge,
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

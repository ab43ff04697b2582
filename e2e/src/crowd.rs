//! Many connections that misbehave in the same way at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::load::wire::{Publish, Version};
use crate::runtime;
use crate::until::{START, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// An MQTT 3.1.1 PUBLISH of `bytes`, of which half is there.
pub fn half_a_publish(topic: &str, bytes: usize) -> Vec<u8> {
    let mut whole = Publish::new(Version::V311, topic, &vec![b'x'; bytes - 40], 1).encode();
    whole.truncate(whole.len() / 2);
    whole
}

/// Connections that are kept open until this is dropped.
pub struct Crowd {
    members: Vec<JoinHandle<()>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connected: AtomicUsize,
    done: AtomicUsize,
    closed: AtomicUsize,
    answered: AtomicUsize,
}

/// How the members of a crowd misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    Reading,
    Slow(Duration),
    Deaf,
}

impl Crowd {
    /// Opens `count` connections; each sends what `script` yields for its number, one part after the other's was taken
    /// by the kernel or 5 s have passed, then reads and throws away until it is closed.
    pub fn send(server: SocketAddr, count: usize, script: impl Fn(usize) -> Vec<Vec<u8>>) -> Self {
        Self::start(server, count, script, Manners::Reading)
    }

    /// As [`Crowd::send`], with a pause before each part.
    pub fn trickle(
        server: SocketAddr,
        count: usize,
        pause: Duration,
        script: impl Fn(usize) -> Vec<Vec<u8>>,
    ) -> Self {
        Self::start(server, count, script, Manners::Slow(pause))
    }

    /// As [`Crowd::send`], and never reads.
    pub fn send_and_never_read(
        server: SocketAddr,
        count: usize,
        script: impl Fn(usize) -> Vec<Vec<u8>>,
    ) -> Self {
        Self::start(server, count, script, Manners::Deaf)
    }

    fn start(
        server: SocketAddr,
        count: usize,
        script: impl Fn(usize) -> Vec<Vec<u8>>,
        manners: Manners,
    ) -> Self {
        let state = Arc::new(State::default());
        let members = (0..count)
            .map(|number| runtime::spawn(member(server, number, script(number), manners, Arc::clone(&state))))
            .collect();
        Self { members, state }
    }

    /// Waits until every connection is open and has sent what it could.
    #[track_caller]
    pub fn wait_sent(&self) {
        until("every connection of the crowd has sent", START, || {
            (self.state.done.load(Ordering::Relaxed) == self.members.len()).then_some(())
        });
    }

    /// How many connections were ever open.
    pub fn connected(&self) -> usize {
        self.state.connected.load(Ordering::Relaxed)
    }

    /// How many bytes came back to all of them.
    pub fn answered(&self) -> usize {
        self.state.answered.load(Ordering::Relaxed)
    }

    /// How many connections the other side has closed.
    pub fn closed(&self) -> usize {
        self.state.closed.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for member in &self.members {
            member.abort();
        }
    }
}

async fn member(
    server: SocketAddr,
    number: usize,
    script: Vec<Vec<u8>>,
    manners: Manners,
    state: Arc<State>,
) {
    let Some(mut stream) = connect(server, number, manners).await else {
        state.done.fetch_add(1, Ordering::Relaxed);
        state.closed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    state.connected.fetch_add(1, Ordering::Relaxed);
    for part in script {
        if let Manners::Slow(pause) = manners {
            tokio::time::sleep(pause).await;
        }
        // An error or a full window is for the test to judge by what the server does.
        let _ = timeout(Duration::from_secs(5), stream.write_all(&part)).await;
    }
    state.done.fetch_add(1, Ordering::Relaxed);
    if manners != Manners::Deaf {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            state.answered.fetch_add(count, Ordering::Relaxed);
        }
        state.closed.fetch_add(1, Ordering::Relaxed);
    } else {
        // A close by the other side shows as an error of the socket, without reading.
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if stream.try_write(&[]).is_err() || stream.take_error().ok().flatten().is_some() {
                break;
            }
        }
        state.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// From one of several loopback addresses, so that ports do not run out, with a small receive buffer for those that
/// never read, so that the server feels it early.
async fn connect(server: SocketAddr, number: usize, manners: Manners) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2 + (number % 8) as u8], 0))).ok()?;
    if manners == Manners::Deaf {
        socket.set_recv_buffer_size(4096).ok()?;
    }
    timeout(PATIENCE, socket.connect(server)).await.ok()?.ok()
}

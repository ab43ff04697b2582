//! Listening and accepting.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::wire::door::{Door, Serve};
use crate::budget::EndpointBudget;

/// Connections that the kernel keeps while we are busy accepting; it takes less if `net.core.somaxconn` is less.
const BACKLOG: i32 = 4_096;

/// When a silent connection is asked whether its client is there, how often, and how long written bytes may go without
/// an acknowledgement (RFC 5482).
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "endpoint {endpoint}: cannot listen on {address}: {source}: choose another port, or stop what uses it"
)]
pub struct ListenError {
    /// The endpoint.
    pub endpoint: String,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Listens on all addresses, or on loopback only: 127.0.0.1, which is what `localhost` is on every image.
pub fn listen(endpoint: &str, port: u16, loopback: bool) -> Result<TcpListener, ListenError> {
    let (address, bound) = if loopback {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        (address, bind(address))
    } else {
        bind_all(port)
    };
    bound.map_err(|source| ListenError { endpoint: endpoint.to_owned(), address, source })
}

/// Listens on all addresses: one socket for both families where the kernel has IPv6. Says where in any case.
pub(crate) fn bind_all(port: u16) -> (SocketAddr, io::Result<TcpListener>) {
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match bind(six) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            (four, bind(four))
        }
        bound => (six, bound),
    }
}

/// Listens at an address. Must be called on a tokio runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // A connection has from its listener what the kernel hands down: no call for each.
    // Acks are small and due now.
    socket.set_tcp_nodelay(true)?;
    // A client that went without a word is found out, whatever its protocol keeps alive.
    socket.set_tcp_keepalive(&KEEP_ALIVE)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// As many are connected as may be (`maxConnections`).
    Connections,
    /// As many were accepted in this second as may be (`maxConnectionsPerSecond`).
    Rate,
}

/// Accepts connections until `stop`, and hands each through `door` to `serve` with its place. Without a free place the
/// connection is handed to `refuse`.
pub(super) async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    connections: Arc<Connections>,
    budget: Arc<EndpointBudget>,
    stop: CancellationToken,
    serve: Arc<Serve>,
    refuse: impl Fn(TcpStream, Excess),
) {
    tokio::select! {
        () = accept_all(&listener, &door, &connections, &budget, &serve, refuse) => {}
        () = door.keep_current(&connections) => {}
        () = stop.cancelled() => {}
    }
}

async fn accept_all(
    listener: &TcpListener,
    door: &Arc<Door>,
    connections: &Arc<Connections>,
    budget: &Arc<EndpointBudget>,
    serve: &Arc<Serve>,
    refuse: impl Fn(TcpStream, Excess),
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if !door.takes_one_more() => refuse(stream, Excess::Rate),
            Ok((stream, peer)) => match connections.enter() {
                Some(place) => door.let_in(stream, peer, place, budget, serve).await,
                None => refuse(stream, Excess::Connections),
            },
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: accepting again at once would only spin.
                let endpoint = door.endpoint();
                tracing::warn!(endpoint, %error, "cannot accept a connection; raise the descriptor limit if it is reached");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Errors that accept(2) passes on from a connection that ended while it waited.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

//! The HTTP endpoint: HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge; one message a request.
//!
//! HTTP/1 is ours ([`one`]), HTTP/2 is hyper's ([`two`]), and what becomes of a request is the same ([`exchange`]): it
//! takes its bytes from the budget, goes through intake, waits for the report of its message, and is answered with a
//! receipt or a problem ([`problem`]). Nothing is spawned per message, and little allocated: the report wakes the
//! connection, the timers are the connection's.
//!
//! What one client can make us hold: 16 KiB of a head that is not complete, or of requests that wait for their turn; its
//! bodies, from the budget, at most `maxInFlightBytesPerConnection` of them (or one message); for HTTP/2 its window, from
//! the budget.

mod activity;
pub(super) mod answer;
mod body;
mod connection;
mod exchange;
mod fields;
mod head;
mod one;
mod path;
mod peer;
pub mod problem;
mod seat;
mod stop;
mod stream;
mod timer;
mod two;
mod visit;
mod window;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use penstock_crds::edge::{HttpConfig, LimitsConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use activity::Timeouts;
pub use answer::{ID, OFFSET, PARTITION, TOPIC};
pub use fields::{MAX_ID_BYTES, RECORD_HEADER_PREFIX};

use super::connections::{Connections, Place};
use super::listener::{self, Excess};
use super::wire::door::{Door, Serve};
use super::wire::{self, Wire};
use crate::intake::Intake;
use problem::Problem;
use window::Windows;

/// The largest head of a request: path, query and header fields.
pub const MAX_HEAD_BYTES: usize = 8_192;

/// What all connections of an HTTP endpoint share.
pub struct HttpEndpoint {
    intake: Arc<Intake>,
    config: HttpConfig,
    limits: LimitsConfig,
    ack_timeout: Duration,
    timeouts: Timeouts,
    connections: Arc<Connections>,
    windows: Arc<Windows>,
}

impl HttpEndpoint {
    /// An endpoint; call [`serve`](Self::serve) to let clients in.
    #[must_use]
    pub fn new(
        intake: Arc<Intake>,
        config: HttpConfig,
        limits: LimitsConfig,
        ack_timeout: Duration,
    ) -> Arc<Self> {
        Self::with_timeouts(intake, config, limits, ack_timeout, Timeouts::default())
    }

    /// An endpoint with other patience for its clients.
    #[must_use]
    pub fn with_timeouts(
        intake: Arc<Intake>,
        config: HttpConfig,
        limits: LimitsConfig,
        ack_timeout: Duration,
        timeouts: Timeouts,
    ) -> Arc<Self> {
        let connections = Connections::new(limits.max_connections);
        let windows = Windows::new(limits.max_in_flight_bytes, limits.max_in_flight_bytes_per_connection);
        Arc::new(Self { intake, config, limits, ack_timeout, timeouts, connections, windows })
    }

    /// Who is connected.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Accepts until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, door: Arc<Door>, stop: CancellationToken) {
        let connections = Arc::clone(&self.connections);
        let budget = Arc::clone(self.intake.budget());
        let serve: Arc<Serve> = Arc::new(move |wire: Wire, peer: wire::Peer, place: Place| {
            tokio::spawn(connection::run(Arc::clone(&self), wire, peer, place));
        });
        let plain = door.is_plain();
        let refuse = move |stream, excess| {
            // Behind TLS it would cost a handshake to say why.
            if plain {
                refuse(stream, excess);
            }
        };
        listener::accept(listener, door, connections, budget, stop, serve, refuse).await;
    }
}

/// Answers a client without a place, as far as that needs no waiting: a buffer of a new socket takes these few bytes.
fn refuse(stream: TcpStream, excess: Excess) {
    let Ok(mut stream) = stream.into_std() else { return };
    let text = match excess {
        Excess::Connections => {
            answer::last_words(Problem::TooManyConnections, "all connections of this endpoint are taken")
        }
        Excess::Rate => answer::last_words(
            Problem::TooManyConnects,
            "this endpoint has taken as many connections in this second as it may",
        ),
    };
    let _ = stream.write(&text);
    let _ = stream.shutdown(Shutdown::Write);
    // What is unread at the end resets the connection, and the answer may be lost with it.
    let _ = stream.read(&mut [0; 4_096]);
}

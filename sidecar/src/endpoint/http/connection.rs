//! One HTTP connection: which protocol it speaks, how long it may go on, and how it ends.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::activity::{Lapse, Timeouts};
use super::one::One;
use super::peer::Peer;
use super::problem::Problem;
use super::stream::{Opening, PeerStream};
use super::timer::Timer;
use super::{HttpEndpoint, answer, two};
use crate::endpoint::connections::{Order, Place};
use crate::endpoint::wire::{self, Wire};

/// hyper's write buffer for a stream of HTTP/2, and the largest head there.
const BUFFER_BYTES: u16 = 16_384;
/// Requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// How long we wait for the client to close after our last word, so that a reset does not overtake it.
const LINGER: Duration = Duration::from_secs(1);
/// SETTINGS, and GOAWAY for all streams with `ENHANCE_YOUR_CALM` (RFC 9113 §6.5, §6.8): there is no room for a window.
const NO_WINDOW: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// How the serving of a connection ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By the protocol, or by the client.
    Done,
    /// The client took too long.
    Lapsed(Lapse),
    /// By order.
    Closed,
}

/// Serves a connection until it ends.
pub(super) async fn run(endpoint: Arc<HttpEndpoint>, mut stream: Wire, peer: wire::Peer, place: Place) {
    let peer = Peer::new(endpoint, peer.source(), place);
    let mut patience = Patience::new(Arc::clone(&peer));
    let mut opening = Opening::default();
    let speaks = tokio::select! {
        speaks = opening.read(&mut stream, &peer) => speaks,
        event = poll_fn(|context| patience.poll(context)) => {
            match event {
                Event::Lapsed(Lapse::Head) => say_timeout(&mut stream),
                Event::Ordered(Order::Leave | Order::Unauthorized) | Event::Lapsed(_) => {}
                Event::Ordered(_) => return,
            }
            return linger(stream).await;
        }
    };
    match speaks {
        Ok(Some(true)) => two(stream, opening, peer, patience).await,
        Ok(Some(false)) => one(PeerStream::new(stream, opening, Arc::clone(&peer)), peer, patience).await,
        Ok(None) | Err(_) => {}
    }
}

async fn one(stream: PeerStream, peer: Arc<Peer>, mut patience: Patience) {
    let mut one = One::new(stream, peer);
    let leaving = AtomicBool::new(false);
    let end = {
        let serve = pin!(one.serve(&leaving));
        drive(serve, |_| leaving.store(true, Ordering::Relaxed), &mut patience).await
    };
    tracing::debug!(?end, "an HTTP/1 connection ended");
    let mut stream = one.into_inner();
    match end {
        End::Closed | End::Lapsed(Lapse::Unread) => return,
        End::Lapsed(Lapse::Head) => say_timeout(&mut stream),
        End::Lapsed(Lapse::Idle) | End::Done => {}
    }
    linger(stream).await;
}

/// HTTP/2 with prior knowledge.
async fn two(mut stream: Wire, opening: Opening, peer: Arc<Peer>, mut patience: Patience) {
    let endpoint = Arc::clone(peer.endpoint());
    let Some(window) = endpoint.windows.open(endpoint.intake.budget()) else {
        let _ = stream.try_write(NO_WINDOW);
        return linger(stream).await;
    };
    patience.framed = true;
    let stream = PeerStream::new(stream, opening, Arc::clone(&peer));
    let service = service_fn(move |request| two::answer(Arc::clone(&peer), request));
    let mut connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_connection_window_size(window.bytes())
        .initial_stream_window_size(window.bytes())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(BUFFER_BYTES.into())
        .max_send_buf_size(BUFFER_BYTES.into())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(stream), service);
    let connection = Pin::new(&mut connection);
    let end = drive(connection, |connection| connection.graceful_shutdown(), &mut patience).await;
    tracing::debug!(?end, "an HTTP/2 connection ended");
}

/// Serves until the connection is done or its patience ends; `leave` has it end when it has finished what it has begun.
async fn drive<C, E>(mut connection: Pin<&mut C>, leave: impl Fn(Pin<&mut C>), patience: &mut Patience) -> End
where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                if let Err(error) = result {
                    tracing::debug!(%error, "an HTTP connection failed");
                }
                return Poll::Ready(End::Done);
            }
            match ready!(patience.poll(context)) {
                // One that holds no longer may finish what it has begun.
                Event::Ordered(Order::Leave | Order::Unauthorized) => leave(connection.as_mut()),
                Event::Ordered(_) => return Poll::Ready(End::Closed),
                // GOAWAY first; only who does not react to that is cut off.
                Event::Lapsed(Lapse::Idle) if patience.framed && !patience.warned => {
                    patience.warned = true;
                    patience.timeouts.idle += patience.timeouts.unread;
                    leave(connection.as_mut());
                }
                Event::Lapsed(lapse) => return Poll::Ready(End::Lapsed(lapse)),
            }
        }
    })
    .await
}

/// What may end a connection from our side.
struct Patience {
    peer: Arc<Peer>,
    timeouts: Timeouts,
    timer: Timer,
    known: Option<Order>,
    /// The client speaks HTTP/2.
    framed: bool,
    warned: bool,
}

enum Event {
    Ordered(Order),
    Lapsed(Lapse),
}

impl Patience {
    fn new(peer: Arc<Peer>) -> Self {
        let timeouts = peer.endpoint().timeouts;
        Self { peer, timeouts, timer: Timer::new(), known: None, framed: false, warned: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let handle = self.peer.place().handle();
        if handle.poll_order(self.known, context).is_ready()
            && let Some(order) = handle.ordered()
        {
            self.known = Some(order);
            return Poll::Ready(Event::Ordered(order));
        }
        // Without a deadline it is our turn, and the connection is polled when that ends.
        match self.peer.activity().deadline(&self.timeouts, self.framed) {
            Some((deadline, lapse)) => self.timer.poll(deadline, context).map(|()| Event::Lapsed(lapse)),
            None => Poll::Pending,
        }
    }
}

/// Tells a client that its request did not come in time, if its socket takes that at once.
fn say_timeout(stream: &mut Wire) {
    let _ = stream
        .try_write(&answer::last_words(Problem::RequestTimeout, "the head of a request is not complete"));
}

/// Closes our side, and reads and forgets what the client still sends, for a while: closing a socket with unread bytes
/// would reset the connection and could take our answer from the client before it is read (RFC 9112 §9.6).
async fn linger(mut stream: Wire) {
    let drained = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scrap = [0; 2_048];
        while let Ok(1..) = stream.read(&mut scrap).await {}
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

//! The load: many connections on one thread. It competes with what it measures for the same processors, so it does as
//! little as it can: each wake-up reads all answers that a connection has and replies to them with the next messages
//! in one write.

mod connection;
mod http2;
mod speech;
pub(crate) mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use self::connection::Connection;
pub(crate) use self::speech::{Protocol, Style};
use crate::measured::{Clock, Measured, Pace, Phase, Times};
use crate::payload::Payloads;

/// Between two looks at the clock, and the grain of a paced load.
const TICK: Duration = Duration::from_millis(1);
/// How long answers may take after the last message.
const PATIENCE: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 64 << 10;

/// What to send where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    protocol: Protocol,
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    connections: usize,
    /// Messages that a connection has on the way at most.
    #[arg(long)]
    window: usize,
    /// Messages a second of all connections together; as fast as answers come if absent.
    #[arg(long)]
    rate: Option<u32>,
    /// Speak TLS with a server that this CA vouches for.
    #[arg(long)]
    tls_ca: Option<PathBuf>,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    times: Times,
}

/// Sends until the time is over, waits for the last answers, and tells what the span was like.
///
/// # Panics
/// When the server refuses a message or closes a connection: that is no load to measure.
pub(crate) fn run(arguments: &Arguments) -> Measured {
    let trust = arguments.tls_ca.as_deref().map(stream::trust);
    assert!(
        arguments.style.qos > 0 || arguments.rate.is_some(),
        "nobody answers at QoS 0, so that only --rate says how much to send"
    );
    let mut poll = Poll::new().expect("epoll");
    let mut connections: Vec<_> = (0..arguments.connections)
        .map(|number| {
            let mut connection = Connection::open(
                arguments.protocol,
                arguments.style,
                arguments.server,
                trust.as_ref(),
                number,
                arguments.window,
            );
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(connection.stream(), Token(number), interest)
                .expect("a descriptor that epoll takes");
            connection
        })
        .collect();
    let mut crew = Crew {
        payloads: Payloads::new(arguments.style.payload_bytes),
        buffer: vec![0; READ_BYTES],
        latencies: Vec::with_capacity(4 << 20),
        acknowledged: 0,
        measuring: false,
    };
    let mut clock = Clock::start(&arguments.times);
    // Many messages on the way: for a millisecond answers gather, so that each write carries many messages. A server
    // that is busy all the time loses nothing by that, and is spared the cost of waking us for single answers.
    let gathers = arguments.rate.is_none() && arguments.window > 1;
    let mut pace = arguments.rate.map(|rate| Pace::new(clock.started(), rate));
    if pace.is_none() {
        for connection in &mut connections {
            crew.fill(connection, clock.started());
        }
    }
    let mut events = Events::with_capacity(1024);
    let mut turn = 0;
    loop {
        if gathers {
            std::thread::park_timeout(TICK);
        }
        poll.poll(&mut events, Some(TICK)).expect("epoll_wait");
        let now = Instant::now();
        let phase = clock.phase(now, crew.acknowledged);
        crew.measuring = phase == Phase::Measuring;
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_readable() {
                crew.take_answers(connection, now);
            }
            if pace.is_none() && phase != Phase::Over {
                crew.fill(connection, now);
            } else {
                connection.flush();
            }
        }
        if phase == Phase::Over {
            break;
        }
        if let Some(pace) = &mut pace {
            crew.release(&mut connections, &mut turn, pace, now);
        }
    }
    crew.wait_for_the_rest(&mut poll, &mut events, &mut connections);
    let irregular = connections.iter().map(Connection::irregular).sum();
    clock.finish(crew.latencies, irregular)
}

/// What all connections share.
struct Crew {
    payloads: Payloads,
    buffer: Vec<u8>,
    /// In microseconds, of the messages answered in the span.
    latencies: Vec<u32>,
    acknowledged: u64,
    measuring: bool,
}

impl Crew {
    fn take_answers(&mut self, connection: &mut Connection, now: Instant) {
        let Self { latencies, acknowledged, measuring, .. } = self;
        connection.take_answers(&mut self.buffer, |sent: Instant| {
            *acknowledged += 1;
            if *measuring {
                latencies.push((now - sent).as_micros() as u32);
            }
        });
    }

    /// Brings a connection to its full window.
    fn fill(&mut self, connection: &mut Connection, now: Instant) {
        while connection.has_room() {
            connection.send(self.payloads.next(), now);
        }
        connection.flush();
    }

    /// Sends what is due, from each connection in turn.
    fn release(&mut self, connections: &mut [Connection], turn: &mut usize, pace: &mut Pace, now: Instant) {
        for _ in 0..pace.due(now) {
            let start = *turn;
            let ready = loop {
                let index = *turn % connections.len();
                *turn += 1;
                if connections[index].has_room() {
                    break Some(index);
                }
                if *turn - start == connections.len() {
                    break None;
                }
            };
            let Some(index) = ready else { break };
            let connection = &mut connections[index];
            connection.send(self.payloads.next(), pace.release(now));
            if !connection.is_answered() {
                self.acknowledged += 1;
            }
        }
        connections.iter_mut().for_each(Connection::flush);
    }

    fn wait_for_the_rest(&mut self, poll: &mut Poll, events: &mut Events, connections: &mut [Connection]) {
        self.measuring = false;
        let deadline = Instant::now() + PATIENCE;
        while connections.iter().any(|connection| connection.in_flight() > 0) {
            assert!(Instant::now() < deadline, "messages without an answer after {PATIENCE:?}");
            poll.poll(events, Some(TICK * 100)).expect("epoll_wait");
            for event in &*events {
                let connection = &mut connections[event.token().0];
                if event.is_readable() {
                    self.take_answers(connection, Instant::now());
                }
                connection.flush();
            }
        }
    }
}

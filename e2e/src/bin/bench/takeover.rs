//! Clients that go from one pod to the other while the first still has their connections: from CONNECT to CONNACK.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use penstock_e2e::load::wire::{self, Packet, Publish, Version};
use serde::{Deserialize, Serialize};

use crate::load::Style;
use crate::measured::percentile;
use crate::payload;

const CLIENTS: usize = 64;
/// QoS 2 handshakes that each client leaves open, so that there is something to take over.
const OPEN: u16 = 4;
const VERSION: Version = Version::V5;
/// Session taken over (MQTT 5 §3.14.2.1).
const TAKEN: u8 = 0x8E;
const PATIENCE: Duration = Duration::from_secs(10);

/// Where, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The pods.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<SocketAddr>,
    #[arg(long)]
    count: usize,
    #[command(flatten)]
    style: Style,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Takeovers {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// From CONNECT on the new pod to the end of the connection to the old one.
    pub(crate) old_closed_p99: f64,
}

/// Has clients go from pod to pod in turn.
///
/// # Panics
/// When one does not find its session, or an old connection is not ended as a takeover ends it.
pub(crate) fn run(arguments: &Arguments) -> Takeovers {
    let server = |turn: usize| arguments.servers[turn % arguments.servers.len()];
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (mut client, present, _) = Client::connect(server(0), arguments.style, number);
            assert!(!present, "a session from another run");
            client.leave_open();
            client
        })
        .collect();
    let (mut connected, mut closed) = (Vec::new(), Vec::new());
    for take in 0..arguments.count {
        let (number, turn) = (take % CLIENTS, take / CLIENTS + 1);
        let begun = Instant::now();
        let (new, present, took) = Client::connect(server(turn), arguments.style, number);
        assert!(present, "client {number} has lost its session");
        connected.push(took.as_micros() as u32);
        std::mem::replace(&mut clients[number], new).wait_for_the_end();
        closed.push(begun.elapsed().as_micros() as u32);
    }
    Takeovers {
        p50: percentile(&mut connected, 0.50),
        p99: percentile(&mut connected, 0.99),
        old_closed_p99: percentile(&mut closed, 0.99),
    }
}

struct Client {
    stream: TcpStream,
    input: BytesMut,
    number: usize,
}

impl Client {
    /// Connects; whether there was a session, and how long CONNACK took.
    fn connect(server: SocketAddr, style: Style, number: usize) -> (Self, bool, Duration) {
        let stream = TcpStream::connect(server).expect("a connection");
        stream.set_nodelay(true).expect("an option of ours");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option of ours");
        let mut client = Self { stream, input: BytesMut::new(), number };
        let connect = style.connect(VERSION, &format!("takeover-{number}")).encode();
        let begun = Instant::now();
        client.stream.write_all(&connect).expect("an open connection");
        match client.next() {
            Some(Packet::ConnAck { code: 0, session_present, .. }) => {
                (client, session_present, begun.elapsed())
            }
            other => panic!("client {number} is not welcome: {other:?}"),
        }
    }

    /// The next packet; none at the end of the connection.
    fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = wire::take(&mut self.input, VERSION).expect("MQTT from the server") {
                return Some(packet);
            }
            let mut chunk = [0; 1024];
            match self.stream.read(&mut chunk).expect("the server's answer in time") {
                0 => return None,
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Publishes at QoS 2 up to PUBREC.
    fn leave_open(&mut self) {
        let topic = payload::topic(self.number);
        for id in 1..=OPEN {
            let publish = Publish { qos: 2, ..Publish::new(VERSION, &topic, &[b'x'; payload::BYTES], id) };
            self.stream.write_all(&publish.encode()).expect("an open connection");
        }
        for wanted in 1..=OPEN {
            let packet = self.next();
            assert!(
                matches!(packet, Some(Packet::PubRec { id, reason: 0, .. }) if id == wanted),
                "{packet:?}"
            );
        }
    }

    fn wait_for_the_end(mut self) {
        let said = self.next();
        assert!(
            matches!(said, Some(Packet::Disconnect { reason: TAKEN, .. })),
            "not taken over but {said:?}"
        );
        let end = self.next();
        assert!(end.is_none(), "more after DISCONNECT: {end:?}");
    }
}

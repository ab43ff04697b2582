//! A stream of bytes through [`Inbound`], in pieces, as a socket would bring them.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::codec::{Frame, Packet, Version, frame};
use super::super::end::End;
use super::super::inbound::{Flow, Inbound, Read, Taker};
use crate::budget::{EndpointBudget, PodBudget};
use crate::endpoint::wire::Wire;

/// The largest packet that is taken.
pub(super) const LARGEST: usize = 20_000;
/// Room for one packet, and for what reading takes.
const BUDGET: u64 = 40_000;

/// What came of a stream: packets, and how it ended if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) packets: Vec<String>,
    pub(super) end: Option<u8>,
}

/// Takes every packet that decodes, and now and then says that it has no room.
struct Notes {
    version: Option<Version>,
    packets: Vec<String>,
    /// Refuses one time before each packet whose number is a multiple of it; never if 0.
    refuse_every: usize,
    refused: bool,
    refusals: usize,
}

impl Taker for Notes {
    fn waits(&self) -> bool {
        false
    }

    fn max_packet_bytes(&self) -> usize {
        LARGEST
    }

    fn take(&mut self, packet: &[u8], _arrived: Instant) -> Result<Flow, End> {
        let turn = self.refuse_every > 0 && (self.packets.len() + 1).is_multiple_of(self.refuse_every);
        if turn && !self.refused {
            self.refused = true;
            self.refusals += 1;
            return Ok(Flow::Full);
        }
        self.refused = false;
        let decoded = Packet::decode(self.version, packet)?;
        if let Packet::Connect(connect) = &decoded {
            self.version = Some(connect.version);
        }
        self.packets.push(seen(&decoded));
        Ok(Flow::Taken)
    }
}

/// Everything that a packet says, so that reading it all is part of the test.
fn seen(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(publish) => {
            let properties: Vec<_> = publish.properties.iter().collect();
            format!(
                "PUBLISH {} {:?} {:?} {} {properties:?}",
                publish.topic,
                publish.packet_id,
                publish.qos,
                publish.payload.len()
            )
        }
        Packet::Subscribe { filters, .. } | Packet::Unsubscribe { filters, .. } => {
            let refusals: Vec<_> = filters.refusals().collect();
            assert_eq!(refusals.len(), filters.len());
            format!("{packet:?} {refusals:?}")
        }
        other => format!("{other:?}"),
    }
}

/// What comes of `bytes` when they are there all at once.
pub(super) fn whole(version: Option<Version>, bytes: &[u8]) -> Seen {
    let mut notes = Notes { version, packets: Vec::new(), refuse_every: 0, refused: false, refusals: 0 };
    let mut rest = bytes;
    let end = loop {
        match frame(rest) {
            Ok(Frame::Unknown) => break None,
            Ok(Frame::Packet { total, .. }) if total > LARGEST => break Some(0x95),
            Ok(Frame::Packet { total, .. }) => match rest.split_at_checked(total) {
                None => break None,
                Some((packet, after)) => match notes.take(packet, Instant::now()) {
                    Ok(_) => rest = after,
                    Err(end) => break end.reason.map(|reason| reason as u8),
                },
            },
            Err(malformed) => break Some(malformed.reason as u8),
        }
    };
    Seen { packets: notes.packets, end }
}

/// What comes of `bytes` when a socket brings them in pieces of these lengths, in turn, and room is missing now and then.
pub(super) fn split(version: Option<Version>, bytes: &[u8], pieces: &[usize], refuse_every: usize) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
        let mut server = Wire::Plain(server);
        client.set_nodelay(true).unwrap();
        let budget = EndpointBudget::new(PodBudget::new(BUDGET), BUDGET, 1);
        let mut notes = Notes { version, packets: Vec::new(), refuse_every, refused: false, refusals: 0 };
        let mut inbound = Inbound::new(Instant::now());
        let mut rest = bytes;
        let mut turns = pieces.iter().cycle();
        let mut end = None;
        while end.is_none() && !rest.is_empty() {
            let length = turns.next().map_or(rest.len(), |&length| length.clamp(1, rest.len()));
            let (piece, after) = rest.split_at(length);
            rest = after;
            client.write_all(piece).await.unwrap();
            if rest.is_empty() {
                client.shutdown().await.unwrap();
            }
            end = drain(&mut inbound, &mut server, &budget, &mut notes, rest.is_empty()).await;
        }
        drop(inbound);
        assert_eq!(budget.used_bytes(), 0, "everything is given back");
        Seen { packets: notes.packets, end: end.flatten() }
    })
}

/// Reads what is there; to the end of the stream if it is `last`. How the connection ended, if it did.
async fn drain(
    inbound: &mut Inbound,
    server: &mut Wire,
    budget: &Arc<EndpointBudget>,
    notes: &mut Notes,
    last: bool,
) -> Option<Option<u8>> {
    let mut waited = false;
    loop {
        let refusals = notes.refusals;
        match inbound.read(server, budget, Instant::now(), waited, notes) {
            Ok(Read::Closed) => return Some(None),
            Ok(Read::Drained) if !last => return None,
            Ok(Read::Drained) => {
                waited = false;
                let readable = poll_fn(|context| server.poll_read_ready(context));
                tokio::time::timeout(Duration::from_secs(10), readable).await.unwrap().unwrap();
            }
            Ok(Read::Full) => {
                assert!(notes.refusals > refusals, "one packet fits the budget");
                waited = true;
            }
            Ok(Read::More) => waited = false,
            Ok(Read::Stopped) => return Some(None),
            Err(end) => return Some(end.reason.map(|reason| reason as u8)),
        }
        let (kept, covered) = inbound.kept_bytes();
        assert!(kept as u64 <= covered && covered <= BUDGET, "{kept} bytes are kept, {covered} covered");
    }
}

//! TLS on a socket that is read and written without waiting.
//!
//! rustls' unbuffered interface works on bytes that are ours: a thread has one buffer for records that come and one for
//! records that go, and a connection keeps only what is left in them, as part of the budget. A connection on which
//! nothing is half-done keeps nothing but its keys.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{HandshakeKind, ServerConfig};
use tokio::net::TcpStream;

use super::unsent::Unsent;
use crate::budget::{EndpointBudget, Reservation};

/// The largest record: header and 2^14 + 2048 bytes (RFC 5246 §6.2.3; of TLS 1.3 they are smaller).
const RECORD_BYTES: usize = 5 + 16_384 + 2_048;
/// What a client may send before its handshake is through (contract, rule 4).
const HANDSHAKE_BYTES: usize = 16_384;
/// Plaintext of one record.
const FRAGMENT_BYTES: usize = 16_384;
/// The content type with which every first record begins (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 22;

thread_local! {
    static INCOMING: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECORD_BYTES].into_boxed_slice());
    static OUTGOING: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECORD_BYTES].into_boxed_slice());
}

/// Why TLS ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client, or what it sent.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    /// The first byte belongs to another protocol.
    #[error("the client does not speak TLS: its first byte is {0:#04x}")]
    NotTls(u8),
    /// The client sends more than a handshake takes.
    #[error("the client's part of the handshake takes more than 16 KiB")]
    HandshakeTooLarge,
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// A TLS connection, server side.
pub struct TlsStream {
    tcp: TcpStream,
    tls: UnbufferedServerConnection,
    budget: Arc<EndpointBudget>,
    /// For `records` and `plaintext`.
    room: Option<Reservation>,
    /// Reading found no room.
    starved: bool,
    /// Read from the socket and not decrypted yet.
    records: Vec<u8>,
    /// Whether `records` may hold a whole one.
    unopened: bool,
    plaintext: Plaintext,
    unsent: Unsent,
    heard: bool,
    established: bool,
    closed_by_peer: bool,
    closing: bool,
}

/// What a record carries.
#[derive(Clone, Copy)]
enum Sealed<'b> {
    Data(&'b [u8]),
    /// `close_notify`.
    Close,
}

/// Decrypted bytes that the reader had no room for.
#[derive(Debug, Default)]
struct Plaintext {
    bytes: Vec<u8>,
    taken: usize,
}

/// Where decrypted bytes go: to the reader, and what does not fit is kept.
struct Delivery<'r> {
    into: &'r mut [u8],
    filled: usize,
}

impl Delivery<'_> {
    fn is_full(&self) -> bool {
        self.filled == self.into.len()
    }

    fn put(&mut self, bytes: &[u8], kept: &mut Plaintext) {
        let room = self.into.get_mut(self.filled..).unwrap_or_default();
        let (now, later) = bytes.split_at(bytes.len().min(room.len()));
        if let Some(room) = room.get_mut(..now.len()) {
            room.copy_from_slice(now);
        }
        self.filled += now.len();
        kept.bytes.extend_from_slice(later);
    }
}

impl Plaintext {
    fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(into), Some(rest)) = (into.get_mut(..count), rest.get(..count)) {
            into.copy_from_slice(rest);
        }
        self.taken += count;
        if self.len() == 0 {
            *self = Self::default();
        }
        count
    }
}

impl TlsStream {
    pub(super) fn new(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        budget: Arc<EndpointBudget>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            tcp,
            tls: UnbufferedServerConnection::new(config)?,
            budget,
            room: None,
            starved: false,
            records: Vec::new(),
            unopened: false,
            plaintext: Plaintext::default(),
            unsent: Unsent::default(),
            heard: false,
            established: false,
            closed_by_peer: false,
            closing: false,
        })
    }

    /// Goes on with the handshake as far as that needs no waiting. Returns whether it is through; if not, wait for
    /// [`poll_progress`](Self::poll_progress).
    pub(super) fn advance(&mut self) -> Result<bool, TlsError> {
        loop {
            match self.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if self.established {
                return Ok(true);
            }
            match self.read_records(&mut []) {
                Ok((0, _)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => {}
                Err(TlsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.unsent.is_empty() {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    // The alert that says why, as far as the socket takes it at once.
                    let _ = self.flush();
                    return Err(error);
                }
            }
        }
    }

    /// Waits until the handshake may go on.
    pub(super) fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unsent.is_empty() {
            return self.poll_write_ready(context);
        }
        // Not `poll_read_ready`, which says yes for what the reader has not taken yet.
        if self.starved { self.poll_room(context) } else { self.tcp.poll_read_ready(context) }
    }

    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    pub(super) fn rehome(self) -> io::Result<Self> {
        Ok(Self { tcp: TcpStream::from_std(self.tcp.into_std()?)?, ..self })
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    pub(super) fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.plaintext.len() > 0 {
            let taken = self.plaintext.take(into);
            self.settle();
            return Ok(taken);
        }
        if self.unopened {
            let filled = self.open_kept(into)?;
            if filled > 0 {
                return Ok(filled);
            }
        }
        loop {
            if self.closed_by_peer {
                return Ok(0);
            }
            // A record that is not whole yet is not worth waking the reader: the socket is asked until it has nothing.
            match self.read_records(into)? {
                // Without close_notify. What the protocols above frame is either whole or not taken.
                (0, _) => return Ok(0),
                (_, 0) => {}
                (_, filled) => return Ok(filled),
            }
        }
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let fragment = bytes.get(..FRAGMENT_BYTES).unwrap_or(bytes);
        self.seal(Sealed::Data(fragment))?;
        Ok(fragment.len())
    }

    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        self.flush()
    }

    /// Sends `close_notify` (RFC 8446 §6.1), as far as that needs no waiting.
    pub(super) fn try_close(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.closing, true) && self.established {
            self.seal(Sealed::Close)?;
        }
        self.flush()
    }

    pub(super) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.plaintext.len() > 0 || self.unopened || self.closed_by_peer {
            return Poll::Ready(Ok(()));
        }
        if !self.unsent.is_empty() && self.tcp.poll_write_ready(context).is_ready() {
            // An answer to a key update: nobody else sends it.
            match self.flush() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
        if self.starved { self.poll_room(context) } else { self.tcp.poll_read_ready(context) }
    }

    /// Waits for room in the budget.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pod = Arc::clone(self.budget.pod());
        pod.register(context.waker());
        // Once more: what was given back before we asked is not announced again.
        if !self.make_room() {
            return Poll::Pending;
        }
        self.settle();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(context)
    }

    /// Reads once from the socket and decrypts. Returns how many bytes came, and how many of them `into` got.
    fn read_records(&mut self, into: &mut [u8]) -> Result<(usize, usize), TlsError> {
        if !self.make_room() {
            return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
        }
        let result = INCOMING.with_borrow_mut(|incoming| {
            let kept = self.records.len();
            let limit = if self.established { RECORD_BYTES } else { HANDSHAKE_BYTES };
            if kept >= limit {
                return Err(TlsError::HandshakeTooLarge);
            }
            if let Some(start) = incoming.get_mut(..kept) {
                start.copy_from_slice(&self.records);
            }
            let read = self.tcp.try_read(incoming.get_mut(kept..limit).unwrap_or_default())?;
            let bytes = incoming.get_mut(..kept + read).unwrap_or_default();
            match bytes.first() {
                Some(&first) if !std::mem::replace(&mut self.heard, true) && first != HANDSHAKE_RECORD => {
                    return Err(TlsError::NotTls(first));
                }
                _ => {}
            }
            let mut delivery = Delivery { into, filled: 0 };
            let opened = self.open(bytes, &mut delivery)?;
            self.keep(bytes.get(opened..).unwrap_or_default());
            Ok((read, delivery.filled))
        });
        self.settle();
        result
    }

    /// Decrypts what was kept because the reader had no room.
    fn open_kept(&mut self, into: &mut [u8]) -> Result<usize, TlsError> {
        let mut records = std::mem::take(&mut self.records);
        let mut delivery = Delivery { into, filled: 0 };
        let opened = self.open(&mut records, &mut delivery)?;
        records.drain(..opened);
        self.records = records;
        if self.records.is_empty() {
            self.records = Vec::new();
        }
        self.settle();
        Ok(delivery.filled)
    }

    /// Runs `incoming` through rustls until it has nothing more to say or the reader has no more room. Returns how many
    /// bytes are done with.
    fn open(&mut self, incoming: &mut [u8], delivery: &mut Delivery<'_>) -> Result<usize, TlsError> {
        let mut done = 0;
        self.unopened = false;
        loop {
            let rest = incoming.get_mut(done..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(rest);
            let mut failed = None;
            let mut stop = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        delivery.put(record.payload, &mut self.plaintext);
                    }
                    // Data may come in one read with the end of the handshake.
                    self.established = true;
                    stop = delivery.is_full();
                    self.unopened = stop;
                }
                Ok(ConnectionState::EncodeTlsData(record)) => {
                    encode(record, &mut self.unsent, &self.budget)?;
                }
                // It leaves in order from `unsent`; nothing is written past it.
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.closed_by_peer = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.established = true;
                    stop = true;
                }
                // Blocked or closed. Early data is never offered: rustls would have refused it.
                Ok(other) => {
                    drop(other);
                    stop = true;
                }
                Err(error) => failed = Some(error),
            }
            done += discard;
            if let Some(error) = failed {
                self.keep_alert(incoming.get_mut(done..).unwrap_or_default());
                return Err(error.into());
            }
            if stop {
                self.unopened &= done < incoming.len();
                return Ok(done);
            }
        }
    }

    /// After an error rustls has an alert for the client.
    fn keep_alert(&mut self, rest: &mut [u8]) {
        while let Ok(ConnectionState::EncodeTlsData(record)) = self.tls.process_tls_records(rest).state {
            if encode(record, &mut self.unsent, &self.budget).is_err() {
                return;
            }
        }
    }

    /// Makes a record and gives it to the socket; what that does not take is kept.
    fn seal(&mut self, what: Sealed<'_>) -> io::Result<()> {
        OUTGOING.with_borrow_mut(|outgoing| {
            let mut records = std::mem::take(&mut self.records);
            let mut done = 0;
            let made = loop {
                let rest = records.get_mut(done..).unwrap_or_default();
                let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(rest);
                let made = match state {
                    Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                        let made = match what {
                            Sealed::Data(fragment) => traffic.encrypt(fragment, outgoing),
                            Sealed::Close => traffic.queue_close_notify(outgoing),
                        };
                        Some(made.map_err(io::Error::other))
                    }
                    Ok(ConnectionState::EncodeTlsData(record)) => {
                        encode(record, &mut self.unsent, &self.budget).err().map(Err)
                    }
                    Ok(ConnectionState::TransmitTlsData(transmit)) => {
                        transmit.done();
                        None
                    }
                    Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                        let mut delivery = Delivery { into: &mut [], filled: 0 };
                        while let Some(Ok(record)) = traffic.next_record() {
                            discard += record.discard;
                            delivery.put(record.payload, &mut self.plaintext);
                        }
                        None
                    }
                    Ok(ConnectionState::PeerClosed) => {
                        self.closed_by_peer = true;
                        None
                    }
                    Ok(_) => Some(Err(io::ErrorKind::NotConnected.into())),
                    Err(error) => Some(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
                };
                done += discard;
                if let Some(made) = made {
                    break made;
                }
            };
            records.drain(..done);
            self.records = records;
            self.unopened &= !self.records.is_empty();
            let made = outgoing.get(..made?).unwrap_or_default();
            self.send(made)
        })
    }

    fn send(&mut self, records: &[u8]) -> io::Result<()> {
        let Self { tcp, unsent, budget, .. } = self;
        unsent.send(records, budget, |bytes| tcp.try_write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { tcp, unsent, .. } = self;
        unsent.flush(|bytes| tcp.try_write(bytes))
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.records = Vec::new();
        } else {
            self.records.clear();
            self.records.extend_from_slice(rest);
        }
    }

    /// Takes from the budget what the next read may leave with us.
    fn make_room(&mut self) -> bool {
        let bytes = (RECORD_BYTES + self.plaintext.len()) as u64;
        let fits = match &mut self.room {
            Some(room) => room.grow_to(bytes),
            none => {
                *none = self.budget.reserve(bytes);
                none.is_some()
            }
        };
        self.starved = !fits;
        fits
    }

    /// Gives back what reading needed and keeping does not.
    fn settle(&mut self) {
        let bytes = self.records.len() + self.plaintext.len();
        if bytes == 0 {
            self.room = None;
        } else if let Some(room) = &mut self.room {
            room.shrink_to(bytes as u64);
            self.budget.pod().announce();
        }
    }
}

fn encode<D>(
    mut record: EncodeTlsData<'_, D>,
    unsent: &mut Unsent,
    budget: &Arc<EndpointBudget>,
) -> io::Result<()> {
    let mut bytes = vec![0; 512];
    loop {
        match record.encode(&mut bytes) {
            Ok(length) => return unsent.push(bytes.get(..length).unwrap_or_default(), budget),
            Err(EncodeError::InsufficientSize(size)) => bytes.resize(size.required_size, 0),
            Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
        }
    }
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

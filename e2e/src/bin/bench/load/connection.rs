//! One connection of the load.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use rustls::ClientConfig;

use super::speech::{Protocol, Speech, Style};
use super::stream::Stream;
use crate::payload;

/// How much may wait to be written where no answers tell how far the server is.
const UNANSWERED_BYTES: usize = 64 << 10;

/// A connection and what is on its way.
pub(crate) struct Connection {
    stream: Stream,
    speech: Speech,
    window: usize,
    /// When each unanswered message was sent. HTTP/2 may answer in another order; its times are those of the order of sending.
    sent: VecDeque<Instant>,
    output: Vec<u8>,
    written: usize,
    /// The beginning of an answer whose rest has not come.
    partial: Vec<u8>,
}

impl Connection {
    /// Connects, and says and hears what comes before the first message.
    pub(crate) fn open(
        protocol: Protocol,
        style: Style,
        server: SocketAddr,
        trust: Option<&Arc<ClientConfig>>,
        number: usize,
        window: usize,
    ) -> Self {
        let (stream, (speech, allowed)) = Stream::open(server, trust, |stream| {
            Speech::begin(protocol, style, stream, &payload::topic(number), number)
        });
        Self {
            stream,
            speech,
            window: window.min(allowed),
            sent: VecDeque::with_capacity(window),
            output: Vec::with_capacity(window * 256),
            written: 0,
            partial: Vec::new(),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.stream.tcp()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.sent.len() < self.window && (self.is_answered() || self.output.len() < UNANSWERED_BYTES)
    }

    /// Whether the server answers messages.
    pub(crate) fn is_answered(&self) -> bool {
        self.speech.is_answered()
    }

    pub(crate) fn irregular(&self) -> u64 {
        self.speech.irregular()
    }

    /// Puts a message into the output; see [`Connection::flush`].
    pub(crate) fn send(&mut self, payload: &[u8], now: Instant) {
        self.speech.write(&mut self.output, payload);
        if self.is_answered() {
            self.sent.push_back(now);
        }
    }

    /// Writes the output, as much as the socket takes.
    pub(crate) fn flush(&mut self) {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("cannot write: {error}"),
            }
        }
        self.output.clear();
        self.written = 0;
        match self.stream.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("cannot write: {error}"),
            _ => {}
        }
    }

    /// Reads what is there, and tells of each answer when its message was sent.
    pub(crate) fn take_answers(&mut self, buffer: &mut [u8], mut answered: impl FnMut(Instant)) {
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let count = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => panic!("the server closed a connection under load"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("cannot read: {error}"),
            };
            let whole = self.speech.read(&buffer[..kept + count], &mut self.output, || {
                answered(self.sent.pop_front().expect("an answer to a message of ours"));
            });
            self.partial.clear();
            self.partial.extend_from_slice(&buffer[whole..kept + count]);
            // A short read has emptied the socket: epoll(7), question 9. Of TLS a read is a record at most.
            if kept + count < buffer.len() && !self.stream.is_secure() {
                return;
            }
        }
    }
}

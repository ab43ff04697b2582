//! Raw sockets: what well-behaved clients cannot be made to send, and every byte that comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::load::wire::{self, Connect, Packet, Version};

/// How long an answer may take that comes at once on an idle machine.
pub const ANSWER: Duration = Duration::from_secs(20);

/// A TCP connection.
pub struct Raw {
    stream: TcpStream,
    input: BytesMut,
    version: Version,
}

/// A parsed HTTP/1.1 response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Raw {
    /// Connects.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, ANSWER).expect("a connection");
        stream.set_nodelay(true).expect("an option of ours");
        Self { stream, input: BytesMut::new(), version: Version::V311 }
    }

    /// Connects to read packets of this version.
    #[track_caller]
    pub fn open_as(address: SocketAddr, version: Version) -> Self {
        Self { version, ..Self::open(address) }
    }

    /// Connects and gets a good CONNACK to a clean CONNECT.
    #[track_caller]
    pub fn mqtt(address: SocketAddr, version: Version, client_id: &str) -> Self {
        let (raw, packet) = Self::mqtt_with(address, &Connect::new(version, client_id));
        assert!(matches!(packet, Packet::ConnAck { code: 0, .. }), "{packet:?}");
        raw
    }

    /// As [`Raw::next`], of a version of MQTT that was not agreed on with [`Raw::mqtt`].
    #[track_caller]
    pub fn next_of(&mut self, version: Version, patience: Duration) -> Next {
        self.version = version;
        self.next(patience)
    }

    /// Connects with any CONNECT and returns what came first.
    #[track_caller]
    pub fn mqtt_with(address: SocketAddr, connect: &Connect) -> (Self, Packet) {
        let mut raw = Self::open_as(address, connect.version);
        raw.send(&connect.encode());
        let packet = raw.packet();
        (raw, packet)
    }

    /// Sends all of it.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("an open connection");
    }

    /// Sends what the other side still takes; whether it took all.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends as much as fits without the other side reading, at most `bytes`; how much that was.
    pub fn send_until_full(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("an option of ours");
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(None).expect("an option of ours");
        sent
    }

    /// The next packet.
    ///
    /// # Panics
    /// When none comes in time, or the connection ends first.
    #[track_caller]
    pub fn packet(&mut self) -> Packet {
        match self.next(ANSWER) {
            Next::Packet(packet) => packet,
            Next::Nothing => panic!("no packet within {ANSWER:?}"),
            Next::Closed => panic!("the connection was closed instead of a packet"),
        }
    }

    /// The next packet within `patience`, a close, or nothing.
    #[track_caller]
    pub fn next(&mut self, patience: Duration) -> Next {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(packet) = wire::take(&mut self.input, self.version).expect("MQTT from the server") {
                return Next::Packet(packet);
            }
            match self.read(deadline) {
                Arrival::Some => {}
                Arrival::Nothing => return Next::Nothing,
                Arrival::Closed => return Next::Closed,
            }
        }
    }

    /// Every packet until the connection is closed.
    ///
    /// # Panics
    /// When it is still open after `patience`.
    #[track_caller]
    pub fn packets_until_closed(&mut self, patience: Duration) -> Vec<Packet> {
        let deadline = Instant::now() + patience;
        let mut packets = Vec::new();
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Next::Packet(packet) => packets.push(packet),
                Next::Closed => return packets,
                Next::Nothing => panic!("still open after {patience:?}, having sent {packets:?}"),
            }
        }
    }

    /// The next `count` bytes as they come.
    ///
    /// # Panics
    /// When fewer come in time.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + ANSWER;
        while self.input.len() < count {
            match self.read(deadline) {
                Arrival::Some => {}
                Arrival::Nothing => panic!("not {count} bytes within {ANSWER:?}: {:x?}", &self.input[..]),
                Arrival::Closed => panic!("closed before {count} bytes: {:x?}", &self.input[..]),
            }
        }
        self.input.split_to(count).to_vec()
    }

    /// Whether the other side closes within `patience`; what it sends before is thrown away.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.read(deadline) {
                Arrival::Some => self.input.clear(),
                Arrival::Nothing => return false,
                Arrival::Closed => return true,
            }
        }
    }

    /// Closes the sending half.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next HTTP/1.1 response with a Content-Length.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some((response, length)) = parse_response(&self.input) {
                let _ = self.input.split_to(length);
                return response;
            }
            match self.read(deadline) {
                Arrival::Some => {}
                Arrival::Nothing => panic!("no response within {ANSWER:?}: {:?}", self.input),
                Arrival::Closed => panic!("closed before a whole response: {:?}", self.input),
            }
        }
    }

    /// All bytes up to and with `end`.
    #[track_caller]
    pub fn bytes_until(&mut self, end: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some(at) = self.input.windows(end.len()).position(|window| window == end) {
                return self.input.split_to(at + end.len()).to_vec();
            }
            assert!(matches!(self.read(deadline), Arrival::Some), "no {end:?} in {:?}", self.input);
        }
    }

    /// Everything until the connection is closed, as text.
    #[track_caller]
    pub fn text_until_closed(&mut self, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        while let Arrival::Some = self.read(deadline) {}
        String::from_utf8_lossy(&self.input).into_owned()
    }

    fn read(&mut self, deadline: Instant) -> Arrival {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Arrival::Nothing;
        }
        self.stream.set_read_timeout(Some(left)).expect("an option of ours");
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Arrival::Closed,
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Arrival::Some
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Arrival::Nothing
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Arrival::Some,
            Err(_) => Arrival::Closed,
        }
    }
}

enum Arrival {
    Some,
    Nothing,
    Closed,
}

/// What came next on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A packet.
    Packet(Packet),
    /// Neither, in the time given.
    Nothing,
    /// The end.
    Closed,
}

impl Response {
    /// The first header field of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Demands a problem (RFC 9457) with this status.
    #[track_caller]
    pub fn assert_problem(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self:?}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].is_string(), "{member} in {self:?}");
        }
        problem
    }
}

/// The first whole response in `bytes`, and its length there.
pub(crate) fn parse_response(bytes: &[u8]) -> Option<(Response, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(Some(0), |(_, value)| value.parse().ok())?;
    let body = bytes.get(end + 4..end + 4 + length)?;
    let body = String::from_utf8_lossy(body).into_owned();
    Some((Response { status, headers, body }, end + 4 + length))
}

//! What is stored: key, payload and headers of one message, borrowed from where they arrived.

use std::fmt;
use std::io::Write as _;

use uuid::Uuid;

use crate::session::handshake::Number;

/// The id of a message, unique within its source.
#[derive(Clone, PartialEq, Eq)]
pub enum MessageId {
    /// Ours: a `UUIDv7` (RFC 9562).
    Uuid(Uuid),
    /// That of an MQTT session: the same for every repetition of a message at QoS 2. 16 hexadecimal digits, `-`, and a
    /// decimal number.
    Session(Number),
    /// The sender's.
    Sender(Box<str>),
}

impl MessageId {
    /// A new id.
    #[must_use]
    pub fn generate() -> Self {
        Self::Uuid(Uuid::now_v7())
    }

    /// Calls `with` with the id's text.
    pub fn with_text<T>(&self, with: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Uuid(uuid) => with(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Self::Session(Number { incarnation, number }) => {
                // Text of at most 37 bytes: writing it cannot fail.
                let mut bytes = [0; 40];
                let mut rest = &mut bytes[..];
                let _ = write!(rest, "{:016x}-{number}", incarnation.0);
                let length = 40 - rest.len();
                with(bytes.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default())
            }
            Self::Sender(text) => with(text),
        }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Record headers in one buffer that is used again for the next record.
#[derive(Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    /// End of name and end of value, per header.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// Empties the list and keeps its room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends a header.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len()));
    }

    /// Appends all of a list.
    pub fn extend(&mut self, list: HeaderList<'_>) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(list.bytes);
        let moved = |end| end - list.start + before;
        self.ends.extend(list.ends.iter().map(|&(name_end, value_end)| (moved(name_end), moved(value_end))));
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> HeaderList<'_> {
        HeaderList { bytes: &self.bytes, start: 0, ends: &self.ends }
    }

    /// Names and values together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Headers that stand behind one another in a [`Headers`].
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderList<'a> {
    /// Theirs alone.
    bytes: &'a [u8],
    /// Where they begin in the buffer that the ends are counted in.
    start: usize,
    ends: &'a [(usize, usize)],
}

impl<'a> HeaderList<'a> {
    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let Self { mut bytes, mut start, ends } = *self;
        ends.iter().filter_map(move |&(name_end, value_end)| {
            let name = bytes.split_off(..name_end - start)?;
            let value = bytes.split_off(..value_end - name_end)?;
            start = value_end;
            Some((name, value))
        })
    }

    /// Takes the first `count` off.
    #[must_use]
    pub fn split_off_front(&mut self, count: usize) -> Self {
        let ends = self.ends.split_off(..count).unwrap_or_default();
        let end = ends.last().map_or(self.start, |(_, value_end)| *value_end);
        let bytes = self.bytes.split_off(..end - self.start).unwrap_or_default();
        let start = std::mem::replace(&mut self.start, end);
        Self { bytes, start, ends }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Names and values together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A record for one topic.
#[derive(Debug)]
pub struct Record<'a> {
    /// Index of the topic in the configuration.
    pub topic: usize,
    /// Absent: any partition.
    pub key: Option<&'a [u8]>,
    /// As it arrived.
    pub payload: &'a [u8],
    /// `CloudEvents` attributes and the sender's own.
    pub headers: HeaderList<'a>,
    /// Arrival, Unix milliseconds. Never the event time: retention goes by it.
    pub timestamp_millis: i64,
}

impl Record<'_> {
    /// An upper bound of the record's size on the broker, uncompressed: the batch header (61 bytes), and each part
    /// with the largest varints in front (message format v2, KIP-98).
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        const BATCH: usize = 61;
        const RECORD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        const HEADER: usize = 5 + 5;
        BATCH
            + RECORD
            + self.key.map_or(0, <[u8]>::len)
            + self.payload.len()
            + self.headers.bytes()
            + self.headers.len() * HEADER
    }
}

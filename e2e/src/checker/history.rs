//! What a generator did and was told.

use std::fmt;
use std::time::{Duration, Instant};

/// One message and its fate as the sender knows it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Which of the generator's clients sent it. A client has one connection at a time.
    pub client: u32,
    /// The connection that it was first sent on, counted by its client.
    pub connection: usize,
    /// The record key that its route renders; `None` for a route without a key.
    pub key: Option<String>,
    /// Place in the client's order of sending, from 0.
    pub sequence: u64,
    /// The payload: unique, and begins with [`Message::identity`].
    pub payload: Vec<u8>,
    /// How often it was sent: more than once when a connection ended before its acknowledgement.
    pub sends: u32,
    /// Every copy of it must have one id: sent at QoS 2, in a session that was never forgotten meanwhile.
    pub once: bool,
    /// What the sender was told.
    pub outcome: Outcome,
}

/// What a sender was told about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Open,
    /// A positive answer, with a receipt where the protocol carries one.
    Acknowledged(Option<Receipt>),
    /// It was sent at QoS 0: nobody will say anything.
    Unanswerable,
    /// A negative answer that is final: an error PUBACK, an HTTP status in the 400s.
    Refused(String),
}

/// Where a message was stored, as the sender was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's `ce_id`.
    pub id: String,
    /// Kafka topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset, unless Kafka did not tell it.
    pub offset: Option<i64>,
}

/// The end of a connection that the generator did not end.
#[derive(Clone, Debug)]
pub struct Close {
    /// Whose connection.
    pub client: u32,
    /// Reason code of an MQTT 5 DISCONNECT or of a CONNACK that refused.
    pub reason: Option<u8>,
    /// Messages that were sent on it and not acknowledged.
    pub unacknowledged: usize,
    /// When.
    pub at: Instant,
}

/// An answer that came later than the generator was told to expect.
#[derive(Clone, Debug)]
pub struct Late {
    /// The message.
    pub message: String,
    /// When it was sent, for the last time before its answer.
    pub sent: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// Everything that a generator did and was told.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every message that was sent at least once.
    pub messages: Vec<Message>,
    /// Connections that ended.
    pub closes: Vec<Close>,
    /// Transient negative answers (HTTP 503 and 429): status and Retry-After.
    pub transient: Vec<(u16, Option<u64>)>,
    /// Answers that came late.
    pub late: Vec<Late>,
    /// Sessions that the server should have had and had not: one line each.
    pub forgotten_sessions: Vec<String>,
    /// Breaches of the protocol, such as a PUBACK out of turn.
    pub irregular: Vec<String>,
}

impl Message {
    /// What the payload of a message begins with, so that a record can be told from any other.
    pub fn identity(load: &str, client: u32, sequence: u64) -> String {
        format!("{load}:{client}:{sequence} ")
    }

    /// The identity in a stored payload.
    pub fn identity_of(payload: &[u8]) -> &[u8] {
        payload.split(|&byte| byte == b' ').next().unwrap_or_default()
    }

    /// Whether a positive answer came.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged(_))
    }
}

impl History {
    /// Number of messages with a positive answer.
    pub fn acknowledged(&self) -> usize {
        self.messages.iter().filter(|message| message.is_acknowledged()).count()
    }

    /// Number of messages without any final answer.
    pub fn open(&self) -> usize {
        self.messages.iter().filter(|message| message.outcome == Outcome::Open).count()
    }

    /// Number of messages with a final negative answer.
    pub fn refused(&self) -> usize {
        self.messages.iter().filter(|message| matches!(message.outcome, Outcome::Refused(_))).count()
    }

    /// Which messages have no final answer, and how the last connections of their clients ended; a few of each.
    pub fn unanswered(&self) -> String {
        const FEW: usize = 8;
        let open: Vec<_> = self.messages.iter().filter(|message| message.outcome == Outcome::Open).collect();
        let messages: Vec<_> = open.iter().take(FEW).map(ToString::to_string).collect();
        let mine = |close: &&Close| open.iter().any(|message| message.client == close.client);
        let closes: Vec<_> = self.closes.iter().rev().filter(mine).take(FEW).map(Close::to_string).collect();
        let (count, irregular) = (open.len(), &self.irregular);
        format!(
            "{count} messages, such as {messages:?}; their clients' connections ended last with {closes:?}; {irregular:?}"
        )
    }

    /// Takes in what another generator noted.
    pub fn merge(&mut self, other: History) {
        self.messages.extend(other.messages);
        self.closes.extend(other.closes);
        self.transient.extend(other.transient);
        self.late.extend(other.late);
        self.forgotten_sessions.extend(other.forgotten_sessions);
        self.irregular.extend(other.irregular);
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, reason, unacknowledged, at } = self;
        write!(f, "client {client}: {reason:#04x?}, {unacknowledged} unanswered, {:?} ago", at.elapsed())
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = String::from_utf8_lossy(Self::identity_of(&self.payload));
        write!(f, "{identity} (sent {} times, {:?})", self.sends, self.outcome)
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, sent, took } = self;
        write!(f, "{message}: sent {:?} ago, answered after {took:?}", sent.elapsed())
    }
}

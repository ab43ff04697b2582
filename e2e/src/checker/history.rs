//! What a generator did and was told.

use std::fmt::{self, Write};
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// From which on moments are counted.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One message and its fate as the sender knows it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Which of the generator's clients sent it. A client has one connection at a time.
    pub client: u32,
    /// The record key that its route renders; `None` for a route without a key.
    pub key: Option<String>,
    /// Place in the client's order of sending, from 0.
    pub sequence: u64,
    /// The payload: unique, and begins with [`Message::identity`].
    pub payload: Vec<u8>,
    /// How often it was sent: more than once when a connection ended before its acknowledgement.
    pub sends: u32,
    /// When it was sent for the first time.
    pub sent: Option<Moment>,
    /// When its final answer came.
    pub answered: Option<Moment>,
    /// Every copy of it must have one id: sent at QoS 2, in a session that was never forgotten meanwhile.
    pub once: bool,
    /// What the sender was told.
    pub outcome: Outcome,
}

/// When something happened to a message, and on which connection. There are two for each message of a long load: 8 bytes,
/// also where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Of [`History::connections`], counted from 1.
    connection: NonZeroU32,
    /// Milliseconds since [`EPOCH`].
    millis: u32,
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
    /// Which of [`History::messages`].
    pub message: usize,
    /// When it was sent, for the last time before its answer.
    pub sent: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// Something that was broken for a while.
#[derive(Clone, Debug)]
pub struct Disturbance {
    /// What.
    pub what: String,
    /// Since when.
    pub from: Instant,
    /// When all was as before.
    pub to: Instant,
}

/// Everything that a generator did and was told.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When the generator began.
    pub began: Option<Instant>,
    /// To which pod each connection went, where a balancer could tell. Those of one client follow each other.
    pub connections: Vec<Option<usize>>,
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
    /// What was broken meanwhile, by a test that says so.
    pub disturbances: Vec<Disturbance>,
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

impl Moment {
    /// The connection, counted from 1.
    pub fn connection(self) -> u32 {
        self.connection.get()
    }

    fn time(self) -> Instant {
        *EPOCH + Duration::from_millis(self.millis.into())
    }
}

impl History {
    /// A time on the connection that was opened last; none before the first.
    pub fn moment(&self, time: Instant) -> Option<Moment> {
        let connection = u32::try_from(self.connections.len()).ok().and_then(NonZeroU32::new)?;
        let micros = time.saturating_duration_since(*EPOCH).as_micros();
        let millis = u32::try_from((micros + 500) / 1_000).ok()?;
        Some(Moment { connection, millis })
    }

    /// A time, in seconds since the generator began.
    pub fn seconds(&self, time: Instant) -> f64 {
        time.saturating_duration_since(self.began.unwrap_or(*EPOCH)).as_secs_f64()
    }

    /// Which message it is and what its sender was told; when, on which pods, and what was broken then.
    pub fn describe(&self, message: &Message) -> String {
        let mut line = message.to_string();
        let Some(sent) = message.sent else { return line };
        let last = message.answered.unwrap_or(sent);
        let _ = write!(line, ", sent at {:.3} s", self.seconds(sent.time()));
        if message.answered.is_some() {
            let _ = write!(line, ", answered at {:.3} s", self.seconds(last.time()));
        }
        // It was sent again on every connection between the two.
        let connections = sent.connection() as usize - 1..last.connection() as usize;
        let pods = self.connections.get(connections).unwrap_or_default();
        if pods.iter().any(Option::is_some) {
            let pods: Vec<_> =
                pods.iter().map(|pod| pod.map_or("?".to_owned(), |pod| pod.to_string())).collect();
            let _ = write!(line, ", on pod {}", pods.join(", then "));
        }
        if !self.disturbances.is_empty() {
            let there = |broken: &&Disturbance| broken.from <= last.time() && sent.time() <= broken.to;
            let broken: Vec<_> = self.disturbances.iter().filter(there).map(|broken| &*broken.what).collect();
            let _ = write!(
                line,
                ", under {}",
                if broken.is_empty() { "no fault".to_owned() } else { broken.join(", ") }
            );
        }
        line
    }

    /// An answer that came late, and to what.
    pub fn describe_late(&self, late: &Late) -> String {
        let message =
            self.messages.get(late.message).map_or_else(String::new, |message| self.describe(message));
        format!("{message}: {:?} after it was sent for the last time", late.took)
    }

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
        let messages: Vec<_> = open.iter().take(FEW).map(|message| self.describe(message)).collect();
        let mine = |close: &&Close| open.iter().any(|message| message.client == close.client);
        let closes: Vec<_> = self.closes.iter().rev().filter(mine).take(FEW).map(Close::to_string).collect();
        let (count, irregular) = (open.len(), &self.irregular);
        format!(
            "{count} messages, such as {messages:?}; their clients' connections ended last with {closes:?}; {irregular:?}"
        )
    }

    /// Takes in what another generator noted.
    pub fn merge(&mut self, other: History) {
        self.began = self.began.into_iter().chain(other.began).min();
        let (messages, connections) = (self.messages.len(), self.connections.len() as u32);
        let shifted = |moment: Option<Moment>| {
            moment.map(|Moment { connection, millis }| Moment {
                connection: connection.saturating_add(connections),
                millis,
            })
        };
        self.messages.extend(other.messages.into_iter().map(|message| Message {
            sent: shifted(message.sent),
            answered: shifted(message.answered),
            ..message
        }));
        self.connections.extend(other.connections);
        self.closes.extend(other.closes);
        self.transient.extend(other.transient);
        self.late
            .extend(other.late.into_iter().map(|late| Late { message: late.message + messages, ..late }));
        self.forgotten_sessions.extend(other.forgotten_sessions);
        self.irregular.extend(other.irregular);
        self.disturbances.extend(other.disturbances);
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

//! The judgement.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::history::{History, Message, Moment, Outcome, Receipt};
use crate::kafka::Record;

/// What a history and a log together show. Each list holds one line per violation.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Messages sent.
    pub sent: usize,
    /// Messages acknowledged.
    pub acknowledged: usize,
    /// Messages stored at least once.
    pub stored: usize,
    /// Later copies of messages that were sent more than once: what at-least-once allows.
    pub duplicates: usize,
    /// Those of them that have the id of an earlier copy, so that who reads the topic can tell.
    pub duplicates_under_one_id: usize,
    /// Acknowledged, and not in the log.
    pub lost: Vec<String>,
    /// In the log, and never sent like this: an unknown payload, a changed one, another key.
    pub foreign: Vec<String>,
    /// Refused for good, and yet in the log.
    pub refused_yet_stored: Vec<String>,
    /// In the log more often than it was sent.
    pub multiplied: Vec<String>,
    /// The same, but each sending is there under one id: what one batch became, twice.
    pub repeated: Vec<String>,
    /// Messages whose copies must have one id (QoS 2) and have several.
    pub under_two_ids: Vec<String>,
    /// Ids that stand for more than one message: whoever goes by ids would drop all but the first.
    pub ambiguous_ids: Vec<String>,
    /// Sessions that the server should have had at a reconnect and had not.
    pub forgotten_sessions: Vec<String>,
    /// First copies that do not follow the order of sending, per client and key.
    pub out_of_order: Vec<String>,
    /// Receipts that name a place where the message is not, or another id.
    pub wrong_receipts: Vec<String>,
    /// Answers that came later than they may.
    pub late: Vec<String>,
    /// What the generator saw the protocol break.
    pub irregular: Vec<String>,
    /// Violations that the test allows.
    pub allowed: Vec<String>,
}

/// Compares what senders were told with every record of the topics that they wrote to. The records of a partition
/// come in the order of their offsets.
pub fn check(history: &History, records: &[Record]) -> Verdict {
    let by_identity: HashMap<&[u8], usize> = history
        .messages
        .iter()
        .enumerate()
        .map(|(index, message)| (Message::identity_of(&message.payload), index))
        .collect();
    let mut verdict = Verdict {
        sent: history.messages.len(),
        acknowledged: history.acknowledged(),
        forgotten_sessions: history.forgotten_sessions.clone(),
        late: history.late.iter().map(|late| history.describe_late(late)).collect(),
        irregular: history.irregular.clone(),
        ..Verdict::default()
    };
    let mut copies: Vec<Vec<&Record>> = vec![Vec::new(); history.messages.len()];
    let mut message_of_id: HashMap<&str, usize> = HashMap::new();
    let mut last_first_copy: HashMap<(u32, u32, &str), (i32, u64)> = HashMap::new();
    for record in records {
        let Some(&index) = by_identity.get(Message::identity_of(&record.payload)) else {
            verdict.foreign.push(format!("{}: nobody sent it", place(record)));
            continue;
        };
        let message = &history.messages[index];
        let described = || history.describe(message);
        if record.payload != message.payload {
            verdict.foreign.push(format!("{}: another payload than sent: {}", place(record), described()));
        }
        if record.key.as_deref() != message.key.as_deref().map(str::as_bytes) {
            let (place, key) = (place(record), record.key());
            verdict.foreign.push(format!("{place}: key {key:?}, not that of {}", described()));
        }
        let earlier = &mut copies[index];
        if let Some(id) = record.header("ce_id") {
            let first = *message_of_id.entry(id).or_insert(index);
            if first != index {
                let (message, other) = (described(), history.describe(&history.messages[first]));
                verdict.ambiguous_ids.push(format!("{}: {id} of {message} and of {other}", place(record)));
            }
            let known = earlier.iter().any(|copy: &&Record| copy.header("ce_id") == Some(id));
            verdict.duplicates_under_one_id += usize::from(known);
            if !known && !earlier.is_empty() && message.once {
                verdict.under_two_ids.push(format!("{}: {}", place(record), described()));
            }
        }
        earlier.push(record);
        if earlier.len() > 1 {
            verdict.duplicates += 1;
            continue;
        }
        verdict.stored += 1;
        // Without a key nothing promises an order.
        let Some(key) = message.key.as_deref() else { continue };
        // What is not sent again is in no order with what came by another connection.
        let apart = message.sent.filter(|_| message.outcome == Outcome::Unanswerable);
        let connection = apart.map_or(0, Moment::connection);
        let sender = (message.client, connection, key);
        let last = last_first_copy.entry(sender).or_insert((record.partition, message.sequence));
        if last.0 != record.partition {
            verdict.out_of_order.push(format!("{}: key {key} was in partition {}", place(record), last.0));
        } else if message.sequence < last.1 {
            let (place, message) = (place(record), described());
            verdict.out_of_order.push(format!("{place}: {message}, after sequence {}", last.1));
        }
        *last = (record.partition, message.sequence.max(last.1));
    }
    for (message, copies) in history.messages.iter().zip(&copies) {
        let described = || history.describe(message);
        if copies.len() > message.sends as usize {
            let ids: HashSet<_> = copies.iter().map(|copy| copy.header("ce_id")).collect();
            let explained = !ids.contains(&None) && ids.len() <= message.sends as usize;
            let found = if explained { &mut verdict.repeated } else { &mut verdict.multiplied };
            found.push(format!("{}: {} copies under {} ids", described(), copies.len(), ids.len()));
        }
        match &message.outcome {
            Outcome::Acknowledged(_) if copies.is_empty() => verdict.lost.push(described()),
            Outcome::Acknowledged(Some(receipt)) => {
                if let Some(wrong) = contradiction(receipt, copies) {
                    verdict.wrong_receipts.push(format!("{}: {wrong}", described()));
                }
            }
            Outcome::Refused(_) if !copies.is_empty() => verdict.refused_yet_stored.push(described()),
            _ => {}
        }
    }
    verdict
}

fn contradiction(receipt: &Receipt, copies: &[&Record]) -> Option<String> {
    let there = copies.iter().find(|record| {
        *record.topic == *receipt.topic
            && record.partition == receipt.partition
            && receipt.offset.is_none_or(|offset| offset == record.offset)
            && record.header("ce_id").is_none_or(|id| id == receipt.id)
    });
    if there.is_some() {
        return None;
    }
    let places: Vec<_> =
        copies.iter().map(|record| format!("{} ce_id {:?}", place(record), record.header("ce_id"))).collect();
    Some(format!("stored at {}", places.join(", ")))
}

fn place(record: &Record) -> String {
    format!("{}/{}@{}", record.topic, record.partition, record.offset)
}

impl Verdict {
    /// Every violation, under its name.
    pub fn violations(&self) -> Vec<(&'static str, &[String])> {
        let all: [(&'static str, &[String]); 12] = [
            ("lost", &self.lost),
            ("stored but never sent", &self.foreign),
            ("refused yet stored", &self.refused_yet_stored),
            ("stored more often than sent", &self.multiplied),
            ("stored again under its id", &self.repeated),
            ("stored under two ids", &self.under_two_ids),
            ("two messages under one id", &self.ambiguous_ids),
            ("session forgotten", &self.forgotten_sessions),
            ("out of order", &self.out_of_order),
            ("wrong receipt", &self.wrong_receipts),
            ("late", &self.late),
            ("irregular", &self.irregular),
        ];
        all.into_iter().filter(|(_, found)| !found.is_empty()).collect()
    }

    /// The test takes sessions away, for example by killing what keeps them: that is no violation. Messages that were on
    /// their way in such a session may then have several ids; the generator says so of each.
    #[must_use]
    pub fn allow_forgotten_sessions(mut self) -> Self {
        self.allowed.append(&mut self.forgotten_sessions);
        self
    }

    /// The test lets the session store forget what it has confirmed: copies may have several ids.
    #[must_use]
    pub fn allow_two_ids(mut self) -> Self {
        self.allowed.append(&mut self.under_two_ids);
        self
    }

    /// The test lets the time of batches run out whose fate nobody knows: librdkafka then takes another epoch, and what of the
    /// partition it still has it stores again, if it was stored.
    #[must_use]
    pub fn allow_repeats(mut self) -> Self {
        self.allowed.append(&mut self.repeated);
        self
    }

    /// Demands that nothing acknowledged was lost, nothing is out of order, and no other violation was found.
    ///
    /// # Panics
    /// With the first violations of each kind.
    #[track_caller]
    pub fn assert_kept(&self) {
        eprintln!("{self}");
        assert!(self.violations().is_empty(), "{self}");
        assert!(self.acknowledged > 0, "nothing was acknowledged, so nothing was proved: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {}, acknowledged {}, stored {}, later copies {} ({} under the id of the first), lost {}, out of order \
             {}, allowed {}",
            self.sent,
            self.acknowledged,
            self.stored,
            self.duplicates,
            self.duplicates_under_one_id,
            self.lost.len(),
            self.out_of_order.len(),
            self.allowed.len()
        )?;
        for (name, found) in self.violations() {
            write!(f, "\n{name}: {}", found.len())?;
            for line in found.iter().take(10) {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

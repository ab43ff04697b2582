//! What a store keeps of one session, and all that may be done to it.
//!
//! Pure, and run by the model checker. A store holds a record or none for each client
//! identifier; every operation is atomic.
//!
//! Two rules carry the rest. Only the owner writes: it shows its [`Fence`], and a takeover sets a new one. And a store
//! may forget: each operation names the [`Epoch`] of the server it talks to, and what was written under another epoch
//! is not built upon (a server that restarted, or a replica that was promoted, may lack its tail).

use std::collections::BTreeMap;

/// Which life of a server wrote something: a hash of what changes when a server restarts or another one takes its
/// place. A store that cannot forget has one epoch for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Shows that its holder owns a session. Compared for equality; the count tells which of two is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence {
    /// How many owners there have been, as far as the store remembers.
    pub count: u64,
    /// Random.
    pub token: u64,
}

/// The random name under which a session's messages are numbered. A new one is taken whenever a number may have been
/// forgotten, so that no number means two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// What tells a repeated PUBLISH from a new one under the same packet identifier: a hash of topic, properties and
/// payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u128);

/// Where a message was stored, as a session store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeptReceipt {
    /// The topic's name in Kafka.
    pub topic: Box<str>,
    /// The partition.
    pub partition: i32,
    /// The offset, if Kafka told it.
    pub offset: Option<i64>,
    /// Unix milliseconds.
    pub timestamp_millis: i64,
}

/// A QoS 2 handshake that the client has not released: its message's number under the record's incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Open {
    /// The number.
    pub number: u64,
    /// What the PUBLISH looked like.
    pub digest: Digest,
    /// Where it is stored; none while that is not known.
    pub receipt: Option<KeptReceipt>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// Who made the session; empty where nobody is asked.
    pub identity: Box<str>,
    /// Who may change it.
    pub fence: Fence,
    /// The pod that has the client's connection; none while the client is away.
    pub owner: Option<Box<str>>,
    /// Under which epoch `incarnation` began.
    pub epoch: Epoch,
    /// The name of its numbers.
    pub incarnation: Incarnation,
    /// The highest number of an intent.
    pub issued: u64,
    /// Its owner took it back from a store that forgot. That owner may have lost the client before, to another one that
    /// nobody remembers: its handshakes are not built upon by the next.
    pub reclaimed: bool,
    /// Unreleased handshakes by packet identifier.
    pub open: BTreeMap<u16, Open>,
}

/// A CONNECT that wants a session.
#[derive(Clone, Debug)]
pub struct TakeOver<'a> {
    /// Who connects.
    pub identity: &'a str,
    /// The pod it connects to.
    pub pod: &'a str,
    /// Clean Start: what was there is forgotten.
    pub clean: bool,
    /// A random number for the new fence.
    pub token: u64,
    /// A random name, in case a new one is due.
    pub incarnation: Incarnation,
    /// The server's epoch.
    pub epoch: Epoch,
}

/// What a new owner gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taken {
    /// Whether there was a session (Session Present, `[MQTT-3.2.2-2]`).
    pub present: bool,
    /// Shows the ownership from now on.
    pub fence: Fence,
    /// The name of its numbers.
    pub incarnation: Incarnation,
    /// The highest number given out.
    pub issued: u64,
    /// Unreleased handshakes.
    pub open: BTreeMap<u16, Open>,
    /// The pod that had the client, and is to be told.
    pub before: Option<Box<str>>,
}

/// A session that belongs to another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session belongs to another identity")]
pub struct WrongIdentity;

/// A change to the handshakes, in the order of the client's packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A message is about to be produced under this number. By itself never a reason to answer.
    Intend {
        /// Packet identifier.
        packet_id: u16,
        /// Its number under the current incarnation.
        number: u64,
        /// What it looks like.
        digest: Digest,
    },
    /// The message with this number is stored. Nothing if the handshake is not there any more, or another one is.
    Keep {
        /// Packet identifier.
        packet_id: u16,
        /// Its number.
        number: u64,
        /// Where.
        receipt: KeptReceipt,
    },
    /// The handshake is over. Nothing if it is not there.
    Release {
        /// Packet identifier.
        packet_id: u16,
    },
}

/// An owner's changes.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// The owner's.
    pub fence: Fence,
    /// The server's epoch.
    pub epoch: Epoch,
    /// The highest number that the store has confirmed to the owner: a store that has a lower one forgot.
    pub confirmed: u64,
    /// What to change.
    pub changes: &'a [Change],
}

/// Why an owner's write was not done. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Another owner has the session, for good.
    #[error("the session was taken over")]
    Fenced,
    /// The store does not know what it confirmed: [`reclaim`].
    #[error("the session store forgot")]
    Forgot,
}

/// An owner that found that the store forgot.
#[derive(Clone, Debug)]
pub struct Reclaim<'a> {
    /// The owner's fence until now.
    pub fence: Fence,
    /// Who made the session.
    pub identity: &'a str,
    /// The owner's pod.
    pub pod: &'a str,
    /// A random number for the new fence.
    pub token: u64,
    /// The new name of its numbers.
    pub incarnation: Incarnation,
    /// The server's epoch.
    pub epoch: Epoch,
    /// Intents under the new incarnation.
    pub changes: &'a [Change],
}

/// A client's connection has ended.
#[derive(Clone, Debug)]
pub struct Leave<'a> {
    /// The last changes.
    pub write: Write<'a>,
    /// Whether the session is kept, for its expiry interval.
    pub keep: bool,
}

/// Gives the session to a new owner.
///
/// # Errors
/// It belongs to another identity; nothing was changed.
pub fn take_over(record: &mut Option<Record>, request: &TakeOver<'_>) -> Result<Taken, WrongIdentity> {
    if record.as_ref().is_some_and(|record| *record.identity != *request.identity) {
        return Err(WrongIdentity);
    }
    let known = record.take();
    let count = known.as_ref().map_or(0, |known| known.fence.count) + 1;
    let before = known.as_ref().and_then(|known| known.owner.clone());
    let kept = known.filter(|_| !request.clean);
    let present = kept.is_some();
    // Handshakes of another epoch may have been released, and their numbers given out again, without a trace here.
    let trusted = kept.filter(|kept| kept.epoch == request.epoch && !kept.reclaimed);
    let (incarnation, issued, open) = match trusted {
        Some(kept) => (kept.incarnation, kept.issued, kept.open),
        None => (request.incarnation, 0, BTreeMap::new()),
    };
    let fence = Fence { count, token: request.token };
    *record = Some(Record {
        identity: request.identity.into(),
        fence,
        owner: Some(request.pod.into()),
        epoch: request.epoch,
        incarnation,
        issued,
        reclaimed: false,
        open: open.clone(),
    });
    Ok(Taken { present, fence, incarnation, issued, open, before })
}

/// Does an owner's changes, all or none.
///
/// # Errors
/// The writer is not the owner any more, or the store forgot.
pub fn write(record: &mut Option<Record>, request: &Write<'_>) -> Result<(), Rejected> {
    let record = record.as_mut().ok_or(Rejected::Forgot)?;
    if record.fence != request.fence {
        let forgot = record.fence.count < request.fence.count;
        return Err(if forgot { Rejected::Forgot } else { Rejected::Fenced });
    }
    if record.epoch != request.epoch || record.issued < request.confirmed {
        return Err(Rejected::Forgot);
    }
    record.change(request.changes);
    Ok(())
}

/// Takes a session back that the store forgot, under a new incarnation. What the store still has of handshakes is
/// dropped: it may be older than what the client knows.
///
/// # Errors
/// [`Rejected::Fenced`]: another owner has the session.
pub fn reclaim(record: &mut Option<Record>, request: &Reclaim<'_>) -> Result<Fence, Rejected> {
    let count = match record {
        Some(known) if known.fence.count > request.fence.count => return Err(Rejected::Fenced),
        Some(known) if known.fence.count == request.fence.count && known.fence != request.fence => {
            return Err(Rejected::Fenced);
        }
        _ => request.fence.count + 1,
    };
    let fence = Fence { count, token: request.token };
    let mut reclaimed = Record {
        identity: request.identity.into(),
        fence,
        owner: Some(request.pod.into()),
        epoch: request.epoch,
        incarnation: request.incarnation,
        issued: 0,
        reclaimed: true,
        open: BTreeMap::new(),
    };
    reclaimed.change(request.changes);
    *record = Some(reclaimed);
    Ok(fence)
}

/// Notes that the client is gone. The session ends here, or when its expiry interval has passed.
///
/// # Errors
/// As [`write()`]: then nobody needs to be told.
pub fn leave(record: &mut Option<Record>, request: &Leave<'_>) -> Result<(), Rejected> {
    write(record, &request.write)?;
    match record {
        Some(record) if request.keep => record.owner = None,
        _ => *record = None,
    }
    Ok(())
}

impl Record {
    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Intend { packet_id, number, digest } => {
                    self.issued = self.issued.max(*number);
                    let open = Open { number: *number, digest: *digest, receipt: None };
                    self.open.insert(*packet_id, open);
                }
                Change::Keep { packet_id, number, receipt } => {
                    if let Some(open) = self.open.get_mut(packet_id).filter(|open| open.number == *number) {
                        open.receipt = Some(receipt.clone());
                    }
                }
                Change::Release { packet_id } => {
                    self.open.remove(packet_id);
                }
            }
        }
    }
}

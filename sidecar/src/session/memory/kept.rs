//! All sessions, and when something is due for one. No I/O and no clock: what happens is told with its time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::error::{Away, StoreError};
use crate::session::record::{self, Change, Fence, Leave, Reclaim, Record, TakeOver, Taken, Write};
use crate::session::will::{Farewell, KeptWill};

/// What a session takes beside its texts and its Will: its places in the tables, and what these leave empty.
const SESSION_BYTES: u64 = 512;
/// What a handshake takes, with the longest name of a topic that Kafka has.
const OPEN_BYTES: u64 = 384;
/// What a Will takes beside its id and message.
const WILL_BYTES: u64 = 160;

/// A time at which something is due, and a number that no other has.
type At = (Instant, u64);

/// What is due.
enum Event {
    /// The end of a session.
    Expiry(Arc<str>),
    /// A Will whose session waits for its client.
    Will(Arc<str>),
    /// A Will that waits for nobody, and was not persisted.
    Again(KeptWill),
}

/// What is kept under a client identifier: a session, a Will, or both.
#[derive(Default)]
struct Kept {
    record: Option<Record>,
    /// For how long the session is kept without its client.
    expiry: Duration,
    expires: Option<At>,
    will: Option<KeptWill>,
    waits: Option<Waiting>,
    /// Taken for it.
    bytes: u64,
}

/// A Will whose client is away.
#[derive(Clone, Copy)]
struct Waiting {
    until: At,
    /// As in [`Farewell::Due`].
    for_grace: bool,
}

/// The sessions.
pub(super) struct Sessions {
    limit_bytes: u64,
    used_bytes: u64,
    kept: HashMap<Arc<str>, Kept>,
    timeline: BTreeMap<At, Event>,
    events: u64,
    /// Wills that are due, and since when.
    ripe: VecDeque<(Instant, KeptWill)>,
}

impl Sessions {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            used_bytes: 0,
            kept: HashMap::new(),
            timeline: BTreeMap::new(),
            events: 0,
            ripe: VecDeque::new(),
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    #[cfg(test)]
    pub(super) fn record(&self, client_id: &str) -> Option<&Record> {
        self.kept.get(client_id)?.record.as_ref()
    }

    /// When something is due, or since when.
    pub(super) fn next(&self) -> Option<Instant> {
        let event = self.timeline.first_key_value().map(|((at, _), _)| *at);
        let ripe = self.ripe.front().map(|(since, _)| *since);
        event.into_iter().chain(ripe).min()
    }

    /// [`record::take_over`].
    pub(super) fn take_over(
        &mut self,
        client_id: &str,
        request: &TakeOver<'_>,
        expiry: Duration,
        will: Option<&KeptWill>,
        now: Instant,
    ) -> Result<Taken, StoreError> {
        self.pass(now);
        let known = self.kept.get(client_id);
        let open = known.and_then(|known| known.record.as_ref()).map_or(0, |record| record.open.len());
        // The session's end is the latest time for its Will, unless its client was away only because its pod was.
        let waits = known.and_then(|known| known.waits).is_some_and(|waiting| !waiting.for_grace);
        let ends = request.clean && waits;
        let ripe = known.and_then(|known| known.will.as_ref()).filter(|_| ends).map_or(0, will_bytes);
        let bytes = session_bytes(client_id, request.identity, request.pod, open);
        self.room(client_id, ripe + bytes + will.map_or(0, will_bytes))?;
        let kept = self.kept.entry(client_id.into()).or_default();
        let taken = record::take_over(&mut kept.record, request)?;
        let before = self.begin(client_id, expiry, will);
        if let Some(before) = before.filter(|_| ends) {
            self.ripen(before, now);
        }
        self.settle(client_id);
        Ok(taken)
    }

    /// [`record::write`](record::write()).
    pub(super) fn write(&mut self, client_id: &str, request: &Write<'_>) -> Result<(), StoreError> {
        let Some(kept) = self.kept.get_mut(client_id) else { return Ok(record::write(&mut None, request)?) };
        let more = intents(request.changes) as u64 * OPEN_BYTES;
        if more > 0 && self.used_bytes + more > self.limit_bytes {
            return Err(StoreError::Unavailable(Away::NoRoom));
        }
        record::write(&mut kept.record, request)?;
        self.settle(client_id);
        Ok(())
    }

    /// [`record::reclaim`].
    pub(super) fn reclaim(
        &mut self,
        client_id: &str,
        request: &Reclaim<'_>,
        expiry: Duration,
        will: Option<&KeptWill>,
        now: Instant,
    ) -> Result<Fence, StoreError> {
        self.pass(now);
        let bytes = session_bytes(client_id, request.identity, request.pod, intents(request.changes));
        self.room(client_id, bytes + will.map_or(0, will_bytes))?;
        let kept = self.kept.entry(client_id.into()).or_default();
        let fence = record::reclaim(&mut kept.record, request)?;
        self.begin(client_id, expiry, will);
        self.settle(client_id);
        Ok(fence)
    }

    /// [`record::leave`].
    pub(super) fn leave(
        &mut self,
        client_id: &str,
        request: &Leave<'_>,
        expiry: Duration,
        farewell: Farewell,
        now: Instant,
    ) -> Result<(), StoreError> {
        self.pass(now);
        let Some(kept) = self.kept.get_mut(client_id) else { return Ok(record::leave(&mut None, request)?) };
        record::leave(&mut kept.record, request)?;
        let will = self.begin(client_id, expiry, None);
        self.expire(client_id, now);
        match (farewell, will) {
            (Farewell::Discard, _) | (_, None) => {}
            (Farewell::Due { wait: Duration::ZERO, for_grace: false }, Some(will)) => self.ripen(will, now),
            (Farewell::Due { wait, for_grace }, Some(will)) => {
                self.wait(client_id, will, now, wait, for_grace)
            }
        }
        self.settle(client_id);
        Ok(())
    }

    /// The owner went without a word.
    pub(super) fn disown(&mut self, client_id: &str, fence: Fence, now: Instant) {
        let record = self.kept.get(client_id).and_then(|kept| kept.record.as_ref());
        if record.is_some_and(|record| record.fence == fence && record.owner.is_some()) {
            self.expire(client_id, now);
        }
    }

    /// A Will that is to be published now. It is kept in mind until it is [`published`](Self::published).
    pub(super) fn take_will(&mut self, now: Instant) -> Option<KeptWill> {
        self.pass(now);
        self.ripe.pop_front().map(|(_, will)| will)
    }

    /// A Will is persisted, or is due again.
    pub(super) fn published(&mut self, will: KeptWill, persisted: bool, again: Instant) {
        if persisted {
            self.used_bytes -= will_bytes(&will);
        } else {
            self.schedule(again, Event::Again(will));
        }
    }

    /// Does what is due.
    fn pass(&mut self, now: Instant) {
        while let Some(due) = self.timeline.first_entry().filter(|due| due.key().0 <= now) {
            let (since, _) = *due.key();
            match due.remove() {
                Event::Expiry(client_id) => {
                    let Some(kept) = self.kept.get_mut(&client_id) else { continue };
                    (kept.record, kept.expires) = (None, None);
                    // Nobody said when.
                    let overdue = if kept.waits.is_none() { kept.will.take() } else { None };
                    if let Some(will) = overdue {
                        self.ripen(will, since);
                    }
                    self.settle(&client_id);
                }
                Event::Will(client_id) => {
                    let Some(kept) = self.kept.get_mut(&client_id) else { continue };
                    kept.waits = None;
                    if let Some(will) = kept.will.take() {
                        self.ripen(will, since);
                    }
                    self.settle(&client_id);
                }
                Event::Again(will) => self.ripe.push_back((since, will)),
            }
        }
    }

    /// Whatever was waited for until now is not any more. Returns the Will of before.
    fn begin(&mut self, client_id: &str, expiry: Duration, will: Option<&KeptWill>) -> Option<KeptWill> {
        let kept = self.kept.get_mut(client_id)?;
        kept.expiry = expiry;
        for event in [kept.expires.take(), kept.waits.take().map(|waiting| waiting.until)] {
            event.and_then(|event| self.timeline.remove(&event));
        }
        std::mem::replace(&mut kept.will, will.cloned())
    }

    /// The session, if there is one, ends when its expiry has passed.
    fn expire(&mut self, client_id: &str, now: Instant) {
        let Some((name, kept)) = self.kept.get_key_value(client_id) else { return };
        if kept.record.is_none() || kept.expires.is_some() {
            return;
        }
        let Some(at) = now.checked_add(kept.expiry) else { return };
        let expires = self.schedule(at, Event::Expiry(Arc::clone(name)));
        if let Some(kept) = self.kept.get_mut(client_id) {
            kept.expires = Some(expires);
        }
    }

    fn wait(&mut self, client_id: &str, will: KeptWill, now: Instant, wait: Duration, for_grace: bool) {
        let Some((name, _)) = self.kept.get_key_value(client_id) else { return };
        let Some(at) = now.checked_add(wait) else { return };
        let until = self.schedule(at, Event::Will(Arc::clone(name)));
        if let Some(kept) = self.kept.get_mut(client_id) {
            (kept.will, kept.waits) = (Some(will), Some(Waiting { until, for_grace }));
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) -> At {
        self.events += 1;
        self.timeline.insert((at, self.events), event);
        (at, self.events)
    }

    /// A Will waits for nobody any more.
    fn ripen(&mut self, will: KeptWill, since: Instant) {
        self.used_bytes += will_bytes(&will);
        self.ripe.push_back((since, will));
    }

    /// Whether what a client identifier has may grow to this.
    fn room(&self, client_id: &str, bytes: u64) -> Result<(), StoreError> {
        let before = self.kept.get(client_id).map_or(0, |kept| kept.bytes);
        let more = bytes.saturating_sub(before);
        if more > 0 && self.used_bytes + more > self.limit_bytes {
            return Err(StoreError::Unavailable(Away::NoRoom));
        }
        Ok(())
    }

    /// Takes what a client identifier needs now, and forgets it if that is nothing.
    fn settle(&mut self, client_id: &str) {
        let Some(kept) = self.kept.get_mut(client_id) else { return };
        let bytes = kept.bytes(client_id);
        self.used_bytes = self.used_bytes - kept.bytes + bytes;
        kept.bytes = bytes;
        if bytes == 0 {
            self.kept.remove(client_id);
        }
    }
}

impl Kept {
    fn bytes(&self, client_id: &str) -> u64 {
        let will = self.will.as_ref().map_or(0, will_bytes);
        match &self.record {
            Some(record) => {
                let pod = record.owner.as_deref().unwrap_or_default();
                session_bytes(client_id, &record.identity, pod, record.open.len()) + will
            }
            None if will > 0 => session_bytes(client_id, "", "", 0) + will,
            None => 0,
        }
    }
}

fn will_bytes(will: &KeptWill) -> u64 {
    WILL_BYTES + (will.id.len() + will.message.len()) as u64
}

fn session_bytes(client_id: &str, identity: &str, pod: &str, open: usize) -> u64 {
    SESSION_BYTES + (client_id.len() + identity.len() + pod.len()) as u64 + open as u64 * OPEN_BYTES
}

fn intents(changes: &[Change]) -> usize {
    changes.iter().filter(|change| matches!(change, Change::Intend { .. })).count()
}

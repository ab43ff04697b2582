//! What a candidate does next: a state machine without clock and client.
//!
//! Why never two lead: a holder counts its time from the moment at which it *sent* its last good renewal, and stops
//! after [`Timing::renew`]. Another waits [`Timing::duration`], which is longer, from the moment at which it *saw* the
//! last change, which is later. No clock is compared with another's; only their rates must agree. Whatever a late or
//! repeated call does, it replaces one resourceVersion, and only once.

use std::time::{Duration, Instant};

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others leave a Lease alone that they do not see change.
    pub duration: Duration,
    /// How long after a renewal was sent its holder still leads.
    pub renew: Duration,
    /// The pause between two renewals, and between two looks of a candidate.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(10),
            renew: Duration::from_secs(7),
            retry: Duration::from_secs(2),
        }
    }
}

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// resourceVersion.
    pub version: String,
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// How long its holder asks others to wait, if it says.
    pub duration: Option<Duration>,
}

/// A write that makes, takes or renews the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The resourceVersion that it replaces; none to create.
    pub replaces: Option<String>,
    /// Whether the holder changes by it.
    pub takes_over: bool,
}

/// What to do now; its [`Outcome`] is the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the Lease.
    Read,
    /// Write it.
    Write(Claim),
    /// Nothing until then.
    Wait(Instant),
    /// The Lease is lost, now and for ever.
    End(Lost),
}

/// What an action came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The time is over; also the first input.
    Waited,
    /// This was read, or that there is none.
    Read(Option<Record>),
    /// Our claim is written, and the Lease is now this.
    Written(Record),
    /// Nothing is written: the Lease is not what the claim would replace.
    Conflict,
    /// There was no answer. What was asked for may have happened, or may yet.
    Failed,
}

/// Why a holder no longer leads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No renewal in time.
    #[error("the lease could not be renewed for {0:?}; another operator may lead now")]
    Missed(Duration),
    /// Another is written there.
    #[error("the lease is held by {0:?} now")]
    Taken(String),
    /// The object was deleted.
    #[error("the lease was deleted; another operator may make it anew")]
    Deleted,
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    /// The last record, and when it was first seen.
    seen: Option<(Record, Instant)>,
    /// When the last call was begun.
    began: Instant,
    /// Until when this candidate leads, once it does.
    until: Option<Instant>,
    /// Whether `seen` may be replaced without another look.
    current: bool,
    ended: Option<Lost>,
}

impl Election {
    /// A candidate that has seen nothing yet.
    #[must_use]
    pub fn new(identity: &str, timing: Timing) -> Self {
        Self {
            identity: identity.to_owned(),
            timing,
            seen: None,
            began: Instant::now(),
            until: None,
            current: false,
            ended: None,
        }
    }

    /// The name of this candidate.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Its times.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Whether this candidate may act as the leader.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Until when it leads if no further renewal succeeds; none for one that does not.
    #[must_use]
    pub fn leads_until(&self) -> Option<Instant> {
        self.until
    }

    /// What to do after `outcome`, which came at `now`.
    pub fn next(&mut self, outcome: Outcome, now: Instant) -> Action {
        if self.until.is_some_and(|until| now >= until) {
            self.end(Lost::Missed(self.timing.renew));
        }
        if let Some(lost) = &self.ended {
            return Action::End(lost.clone());
        }
        let action = match outcome {
            Outcome::Waited => match (&self.seen, self.until) {
                (Some((record, _)), Some(_)) if self.current => self.claim(record, false),
                _ => Action::Read,
            },
            Outcome::Read(Some(record)) => self.read(record, now),
            Outcome::Read(None) => self.absent(now),
            Outcome::Written(record) => self.written(record, now),
            Outcome::Conflict => {
                self.current = false;
                Action::Read
            }
            Outcome::Failed => {
                self.current = false;
                // A holder has no time to lose.
                let pause = if self.until.is_some() { self.timing.retry / 4 } else { self.timing.retry };
                Action::Wait(now + pause)
            }
        };
        match (action, self.until) {
            (Action::Wait(time), Some(until)) => Action::Wait(time.min(until)),
            (action @ (Action::Read | Action::Write(_)), _) => {
                self.began = now;
                action
            }
            (action, _) => action,
        }
    }

    fn read(&mut self, record: Record, now: Instant) -> Action {
        // By the resourceVersion: whatever changes, waiting longer is the safe side.
        let since = match &self.seen {
            Some((seen, since)) if seen.version == record.version => *since,
            _ => now,
        };
        self.seen = Some((record.clone(), since));
        self.current = true;
        if record.holder == self.identity {
            // Ours; also by a claim whose answer was lost. To lead it takes one whose answer comes in time.
            return self.claim(&record, false);
        }
        if self.until.is_some() {
            return self.end(Lost::Taken(record.holder));
        }
        let expires = self.expiry(&record, since);
        if record.holder.is_empty() || now >= expires {
            self.claim(&record, true)
        } else {
            Action::Wait(expires.min(now + self.timing.retry))
        }
    }

    fn absent(&mut self, now: Instant) -> Action {
        if self.until.is_some() {
            return self.end(Lost::Deleted);
        }
        // Its holder may not know yet.
        if let Some((record, since)) = &self.seen
            && !record.holder.is_empty()
            && record.holder != self.identity
        {
            let expires = self.expiry(record, *since);
            if now < expires {
                return Action::Wait(expires.min(now + self.timing.retry));
            }
        }
        Action::Write(Claim { replaces: None, takes_over: true })
    }

    fn written(&mut self, record: Record, now: Instant) -> Action {
        let until = self.began + self.timing.renew;
        self.current = true;
        if now < until {
            self.seen = Some((record, now));
            self.until = Some(until);
            return Action::Wait((self.began + self.timing.retry).max(now));
        }
        // A holder has been ended above. For a candidate the answer came too late to lead by it: it claims again.
        let action = self.claim(&record, false);
        self.seen = Some((record, now));
        action
    }

    fn claim(&self, record: &Record, takes_over: bool) -> Action {
        Action::Write(Claim { replaces: Some(record.version.clone()), takes_over })
    }

    fn expiry(&self, record: &Record, since: Instant) -> Instant {
        since + record.duration.unwrap_or(self.timing.duration)
    }

    fn end(&mut self, lost: Lost) -> Action {
        self.until = None;
        Action::End(self.ended.insert(lost).clone())
    }
}

#[cfg(test)]
mod tests;

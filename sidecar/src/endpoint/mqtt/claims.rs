//! What the next connection of a client says to the older one on the same pod, and what goes from one to the other.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::kept::KeptSession;
use super::will::StoredWill;
use crate::session::handshake::Handshakes;
use crate::session::store::KeptWill;

/// Where the next connection of a client asks for its session.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Whether it is worth a lock.
    asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Asked(Box<Claim>),
    /// The connection is ending.
    Closed,
}

/// What the heir brings.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) identity: Box<str>,
    pub(super) expiry_seconds: u32,
    pub(super) will: Option<KeptWill>,
    pub(super) heir: oneshot::Sender<Heritage>,
}

impl Claims {
    /// Leaves a claim. False where nobody will look at it, or another heir was earlier.
    pub(super) fn ask(&self, claim: Claim) -> bool {
        let mut state = self.state.lock();
        match &*state {
            State::Closed => return false,
            State::Asked(earlier) if !earlier.heir.is_closed() => return false,
            State::None | State::Asked(_) => {}
        }
        *state = State::Asked(Box::new(claim));
        self.asked.store(true, Ordering::Release);
        true
    }

    /// Whether there is a claim to look at.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Option<Box<Claim>> {
        if !self.is_asked() {
            return None;
        }
        let mut state = self.state.lock();
        self.asked.store(false, Ordering::Relaxed);
        match std::mem::take(&mut *state) {
            State::Asked(claim) => Some(claim),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Nobody looks at claims any more: whoever waits is free to ask the store.
    pub(super) fn close(&self) {
        *self.state.lock() = State::Closed;
    }
}

/// What goes from a connection to the next. One that nobody takes is left as by a connection that went without a word.
#[derive(Debug)]
pub(super) struct Heritage(pub(super) Option<Estate>);

pub(super) struct Estate {
    pub(super) client_id: Box<str>,
    pub(super) kept: KeptSession,
    pub(super) handshakes: Handshakes,
    /// It has not become due, and stays in the store as it is.
    pub(super) will: Option<Box<StoredWill>>,
}

impl fmt::Debug for Estate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Estate").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Drop for Heritage {
    fn drop(&mut self) {
        if let Some(Estate { client_id, kept, .. }) = &self.0 {
            kept.ownership().claims().close();
            kept.abandon(client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> (Claim, oneshot::Receiver<Heritage>) {
        let (heir, heritage) = oneshot::channel();
        (Claim { identity: "".into(), expiry_seconds: 1, will: None, heir }, heritage)
    }

    #[test]
    fn one_heir_at_a_time_is_looked_at() {
        let claims = Claims::default();
        assert!(!claims.is_asked() && claims.take().is_none());
        let (first, heritage) = claim();
        assert!(claims.ask(first) && claims.is_asked());
        let (second, _heritage) = claim();
        assert!(!claims.ask(second), "another was earlier");
        drop(heritage);
        let (third, mut heritage) = claim();
        assert!(claims.ask(third), "that one is gone");
        assert!(claims.take().is_some_and(|claim| !claim.heir.is_closed()));
        assert!(heritage.try_recv().is_err() && claims.take().is_none() && !claims.is_asked());
    }

    #[test]
    fn nobody_waits_for_a_connection_that_ends() {
        let claims = Claims::default();
        let (waiting, mut heritage) = claim();
        assert!(claims.ask(waiting));
        claims.close();
        assert_eq!(heritage.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert!(claims.take().is_none());
        let (late, _heritage) = claim();
        assert!(!claims.ask(late));
        assert!(claims.take().is_none());
    }
}

//! A client that comes again while its older connection is on the same pod: the session goes from one to the other, and
//! the store is not asked before CONNACK.
//!
//! That is the plain case: the same identity, Session Expiry and Will as before, no Clean Start, and nothing of which the
//! store has yet to be told. What CONNECT changes must be in the store before CONNACK promises it, and what is being
//! written is known to nobody. In every other case, and when the older connection does not answer, the session is had
//! from the store, as from another pod.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::MqttEndpoint;
use super::client::Client;
use super::codec::Reason;
use super::end::{By, End};
use super::entry::Hello;
use super::exactly_once::ExactlyOnce;
use super::kept::{KeptSession, Resumed};
use super::will::{StoredWill, Testator};
use crate::ledger::Ending;
use crate::session::handshake::Handshakes;
use crate::session::store::KeptWill;

/// How long the older connection may take. It waits for nobody.
const PATIENCE: Duration = Duration::from_secs(1);

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
    identity: Box<str>,
    expiry_seconds: u32,
    will: Option<KeptWill>,
    heir: oneshot::Sender<Heritage>,
}

impl Claims {
    /// Leaves a claim. False where nobody will look at it, or another heir was earlier.
    fn ask(&self, claim: Claim) -> bool {
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

    fn take(&self) -> Option<Box<Claim>> {
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
struct Heritage(Option<Estate>);

struct Estate {
    client_id: Box<str>,
    kept: KeptSession,
    handshakes: Handshakes,
    /// It has not become due, and stays in the store as it is.
    will: Option<Box<StoredWill>>,
}

impl std::fmt::Debug for Estate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// Asks the client's older connection on this pod for its session. None where it must be had from the store.
pub(super) async fn inherit(
    endpoint: &MqttEndpoint,
    hello: &mut Hello,
    identity: &str,
    will: Option<&KeptWill>,
) -> Option<Resumed> {
    let session = &mut hello.session;
    // A session without an expiry ends with the older connection.
    if session.clean_start || session.expiry_seconds == 0 {
        return None;
    }
    let (handle, ownership) = endpoint.clients.owner(&session.client_id)?;
    let (heir, mut heritage) = oneshot::channel();
    let claim = Claim {
        identity: identity.into(),
        expiry_seconds: session.expiry_seconds,
        will: will.cloned(),
        heir,
    };
    if !ownership.claims().ask(claim) {
        return None;
    }
    handle.wake();
    let mut heritage = match timeout(PATIENCE, &mut heritage).await {
        Ok(answer) => answer.ok()?,
        Err(_) => {
            // From here on it keeps the session, or has given it.
            heritage.close();
            heritage.try_recv().ok()?
        }
    };
    let Estate { kept, handshakes, will, .. } = heritage.0.take()?;
    session.will = will;
    Some(Resumed { kept, exactly_once: ExactlyOnce::new(handshakes), present: true })
}

impl Client {
    /// The connection ends: who wants its session need not wait for that.
    pub(super) fn refuse_claims(&self) {
        if let Some(kept) = &self.kept_session {
            kept.ownership().claims().close();
        }
    }

    /// Gives the session to another connection of the client, if one asks for it and it is the plain case: then this
    /// connection has neither fence nor handshakes any more, and ends. Otherwise it goes on, until the store has given
    /// the session away.
    pub(super) fn hand_over(&mut self) -> Result<(), End> {
        let Some(claim) = self.kept_session.as_ref().and_then(|kept| kept.ownership().claims().take()) else {
            return Ok(());
        };
        if claim.heir.is_closed() || !self.is_plain(&claim) {
            return Ok(());
        }
        let waited = self.exactly_once.as_ref().map_or(0, |exactly_once| exactly_once.unanswered() as u64);
        let handshakes = self.exactly_once.take().and_then(|exactly_once| exactly_once.hand_over());
        let (Some(session), Some(handshakes), Some(kept)) =
            (&mut self.session, handshakes, self.kept_session.take())
        else {
            return Err(End::silent("a session was not as it was found"));
        };
        // They were in no lane, and nobody will take them out of their line.
        self.entry.leave(waited);
        self.entry.end(Ending::Abandoned, waited);
        let (client_id, will) = (session.client_id.clone(), session.will.take());
        let estate = Estate { client_id, kept: *kept, handshakes, will };
        let what = "another connection uses this client identifier";
        let end = End::told(Reason::SessionTakenOver, what);
        match claim.heir.send(Heritage(Some(estate))) {
            Ok(()) => Err(end.by(By::Heir { clean: false })),
            Err(mut back) => {
                // The heir is gone, and so is what waited here: the session is left as by a client that was lost.
                if let Some(Estate { kept, handshakes, will, .. }) = back.0.take() {
                    session.will = will;
                    self.kept_session = Some(Box::new(kept));
                    self.exactly_once = Some(ExactlyOnce::new(handshakes));
                }
                Err(end)
            }
        }
    }

    /// Whether nothing changes by the claim but the connection.
    fn is_plain(&self, claim: &Claim) -> bool {
        let Self {
            session: Some(session), exactly_once: Some(exactly_once), kept_session: Some(kept), ..
        } = self
        else {
            return false;
        };
        let same_will = match (&session.will, &claim.will) {
            (None, None) => true,
            // One that does not wait is due now, and the new one needs another id.
            (Some(will), Some(new)) if !will.delay().is_zero() => {
                let testator =
                    Testator { client_id: session.client_id.clone(), source: self.source.as_str().into() };
                will.to_bytes(self.endpoint.intake.ledger().name(), &testator) == new.message
            }
            _ => false,
        };
        same_will
            && kept.identity() == &*claim.identity
            && session.expiry_seconds == claim.expiry_seconds
            && exactly_once.may_be_handed_over()
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

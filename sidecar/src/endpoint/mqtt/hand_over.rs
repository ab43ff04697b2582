//! The older connection's side of what [`inherit`](super::inherit) tells.

use super::claims::{Claim, Estate, Heritage};
use super::client::Client;
use super::codec::Reason;
use super::end::{By, End};
use super::exactly_once::ExactlyOnce;
use super::will::Testator;
use crate::ledger::Ending;

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

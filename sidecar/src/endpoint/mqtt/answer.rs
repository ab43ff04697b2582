//! What is said of messages that have come to their end, in the order of their arrival, and of handshakes.

use std::ops::ControlFlow;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::client::Client;
use super::codec::{Acknowledgement, Encoder, Malformed, Reason, Version};
use super::end::{By, End};
use super::exactly_once::ExactlyOnce;
use super::inbound::Flow;
use super::outbound::Outbound;
use super::resume;
use super::will::Testator;
use crate::ledger::Ending;
use crate::planted::{self, Bug};
use crate::session::handshake::{Ended, Released, Ticket};
use crate::session::store::StoreError;
use crate::store::Outcome;
use crate::store::lane::Return;

/// What is said of a message.
enum Reply {
    /// Something that is in the outbound buffer now.
    Answer(Ending),
    /// Nothing: nobody waits for an answer any more.
    Nothing(Ending),
    /// Nothing, and the connection ends.
    Close(Ending, End),
    /// Its refusal, once the store has ended its handshake. Nothing behind it is answered before.
    Later,
}

impl Client {
    /// Answers finished messages in the order of their arrival, until one of them ends the connection.
    pub(super) fn answer(&mut self, outbound: &mut Outbound) -> Result<(), End> {
        if !self.may_answer() {
            return Ok(());
        }
        let version = self.version();
        let room = self.session.as_ref().map_or(0, |session| session.receipt_room);
        let Self { lane, entry, unacknowledged, exactly_once, .. } = self;
        let mut end = None;
        lane.drain(|slot, outcome| {
            let back = &slot.back;
            let encoder = Encoder::new(version, outbound.buffer());
            let reply = if back.tag == 0 {
                at_qos_0(back, outcome)
            } else {
                let handshake = exactly_once.as_deref_mut().zip(Ticket::from_bits(back.ticket));
                above_qos_0(handshake, back, outcome, version, encoder, room)
            };
            // At QoS 2 PUBCOMP is the last answer, or what is said later.
            let is_last = match &reply {
                Reply::Answer(_) => back.ticket == 0,
                Reply::Nothing(_) => back.tag != 0,
                Reply::Close(..) | Reply::Later => false,
            };
            *unacknowledged = unacknowledged.saturating_sub(usize::from(is_last));
            match reply {
                Reply::Answer(ending) => outbound.answers(ending, back.arrived),
                Reply::Nothing(ending) => {
                    entry.leave(1);
                    entry.end(ending, 1);
                }
                Reply::Close(ending, why) => {
                    entry.leave(1);
                    entry.end(ending, 1);
                    end = Some(why);
                }
                Reply::Later => return ControlFlow::Break(()),
            }
            if end.is_some() || outbound.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        end.map_or(Ok(()), Err)
    }

    /// Whether the next answer need not wait for the session store.
    pub(super) fn may_answer(&self) -> bool {
        !self.exactly_once.as_ref().is_some_and(|exactly_once| exactly_once.is_refusing())
    }

    /// A PUBREL. It stays where it is while there is no room for what must wait.
    pub(super) fn release(&mut self, packet_id: u16, outbound: &mut Outbound) -> Result<Flow, End> {
        let Self { endpoint, exactly_once, .. } = self;
        let released = match exactly_once {
            Some(exactly_once) => {
                let receive_maximum = endpoint.config.receive_maximum;
                if !exactly_once.may_release(endpoint.intake.budget(), receive_maximum) {
                    return Ok(Flow::Full);
                }
                exactly_once.release(packet_id)
            }
            None => Released::Unknown,
        };
        match released {
            Released::Known => Ok(Flow::Taken),
            Released::Unknown => {
                Encoder::new(self.version(), outbound.buffer()).pubcomp_unknown(packet_id);
                Ok(Flow::Taken)
            }
            Released::TooEarly => {
                Err(Malformed::protocol("PUBREL for a message that has no PUBREC yet").into())
            }
        }
    }

    /// Whether something has been said of the session that the next turn is to look at.
    pub(super) fn has_news(&self) -> bool {
        self.kept_session.as_ref().is_some_and(|kept| kept.has_news())
    }

    /// Asks the session store what is due.
    pub(super) fn ask(&mut self, outbound: &mut Outbound) -> Result<(), End> {
        if self.kept_session.as_ref().is_some_and(|kept| kept.was_forgotten()) {
            self.reclaim()?;
        }
        let Self { session: Some(session), exactly_once: Some(exactly_once), kept_session, .. } = self else {
            return Ok(());
        };
        let (version, unacknowledged) = (session.version, &mut self.unacknowledged);
        exactly_once.ask(kept_session.as_deref(), &session.client_id, |over, arrived| {
            end_handshake(over, arrived, version, outbound, unacknowledged);
        });
        Ok(())
    }

    /// Waits for the session store. Pending also when it has not been asked.
    pub(super) fn poll_store(
        &mut self,
        outbound: &mut Outbound,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        let version = self.version();
        let Self { exactly_once: Some(exactly_once), kept_session, unacknowledged, .. } = self else {
            return Poll::Pending;
        };
        let error = match ready!(exactly_once.poll_store(context)) {
            Ok(fence) => {
                if let (Some(fence), Some(kept)) = (fence, kept_session) {
                    kept.refence(fence);
                }
                exactly_once.written(|over, arrived| {
                    end_handshake(over, arrived, version, outbound, unacknowledged);
                });
                return Poll::Ready(Ok(()));
            }
            Err(error) => error,
        };
        tracing::debug!(reason = error.reason(), "the session store: {error}");
        Poll::Ready(match error {
            StoreError::Forgot => self.reclaim(),
            StoreError::Fenced | StoreError::WrongIdentity(_) => {
                let end = End::told(Reason::SessionTakenOver, "the session has another owner");
                Err(end.by(By::Heir { clean: false }))
            }
            // An heir of whom nobody wants QoS 2: it is asked again when somebody does.
            StoreError::Unavailable(_) if exactly_once.put_off() => Ok(()),
            // It may or may not have been done: only a new owner can know.
            StoreError::Unavailable(_) => Err(End::transient("the session store cannot be asked")),
        })
    }

    /// Takes the session back from a store that forgot it, unless an answer is due that will say so, too.
    fn reclaim(&mut self) -> Result<(), End> {
        let Self {
            session: Some(session), exactly_once: Some(exactly_once), kept_session: Some(kept), ..
        } = self
        else {
            return Ok(());
        };
        if exactly_once.is_asking() {
            return Ok(());
        }
        let testator = Testator { client_id: session.client_id.clone(), source: self.source.as_str().into() };
        let will = session.will.as_ref().map(|will| resume::kept_will(&self.endpoint, will, &testator));
        let expiry = Duration::from_secs(session.expiry_seconds.into());
        let asked = exactly_once.reclaim(|changes, incarnation| {
            kept.reclaim(&session.client_id, changes, incarnation, expiry, will)
        });
        let what = "a session that the store forgot cannot be taken back";
        if asked { Ok(()) } else { Err(End::told(Reason::ServerBusy, what)) }
    }
}

fn positive(back: &Return) -> Ending {
    match back {
        Return { duplicate: true, .. } => Ending::Duplicate,
        Return { dead_letter: true, .. } => Ending::DeadLettered,
        _ => Ending::Acknowledged,
    }
}

/// Nobody waits for an answer, so it ends here.
fn at_qos_0(back: &Return, outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Persisted(_) => Reply::Nothing(positive(back)),
        Outcome::Refused => Reply::Nothing(Ending::Dropped),
        Outcome::Transient(cause) => Reply::Close(Ending::Dropped, End::transient(cause.detail())),
    }
}

/// `handshake` is there at QoS 2.
fn above_qos_0(
    handshake: Option<(&mut ExactlyOnce, Ticket)>,
    back: &Return,
    outcome: Outcome,
    version: Version,
    mut encoder: Encoder<'_>,
    room: usize,
) -> Reply {
    match (outcome, version, handshake) {
        (Outcome::Persisted(receipt), _, handshake) => {
            let mut packet = Acknowledgement::PubAck;
            if let Some((exactly_once, ticket)) = handshake {
                packet = Acknowledgement::PubRec;
                if !exactly_once.persisted(back.tag, ticket, receipt) {
                    return Reply::Nothing(Ending::Abandoned);
                }
            }
            encoder.stored(packet, back.tag, &back.id, &receipt, room);
            if planted::is(Bug::DoubleAck) {
                encoder.stored(packet, back.tag, &back.id, &receipt, room);
            }
            Reply::Answer(positive(back))
        }
        (Outcome::Refused, Version::V5, Some((exactly_once, ticket))) => {
            let is_due = exactly_once.refused(back.tag, ticket, back.refusal, back.arrived);
            if is_due { Reply::Later } else { Reply::Nothing(Ending::Abandoned) }
        }
        (Outcome::Refused, Version::V5, None) => {
            encoder.refused(Acknowledgement::PubAck, back.tag, back.refusal);
            Reply::Answer(Ending::Refused)
        }
        (Outcome::Refused, Version::V3, _) => {
            let what = "a message was refused, which 3.1.1 can only say by closing";
            Reply::Close(Ending::Refused, End::silent(what))
        }
        (Outcome::Transient(cause), ..) => Reply::Close(Ending::Abandoned, End::transient(cause.detail())),
    }
}

/// Tells the client that a handshake is over.
fn end_handshake(
    over: Ended,
    arrived: Instant,
    version: Version,
    outbound: &mut Outbound,
    unacknowledged: &mut usize,
) {
    // No PUBLISH of this connection waits for the answer to a release that nobody knows.
    *unacknowledged = unacknowledged.saturating_sub(usize::from(!matches!(over, Ended::Unknown(_))));
    let mut encoder = Encoder::new(version, outbound.buffer());
    match over {
        Ended::Completed(packet_id) => encoder.pubcomp(packet_id),
        Ended::Unknown(packet_id) => encoder.pubcomp_unknown(packet_id),
        Ended::Refused(packet_id, reason) => {
            encoder.refused(Acknowledgement::PubRec, packet_id, reason);
            outbound.answers(Ending::Refused, arrived);
        }
    }
}

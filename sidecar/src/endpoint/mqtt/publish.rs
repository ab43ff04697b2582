//! A PUBLISH on its way to intake, and what is answered if it does not get there.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::client::Client;
use super::codec::{Packet, Publish, Reason, Version};
use super::end::End;
use super::exactly_once::{ExactlyOnce, Mark, Next, Waiting, digest};
use super::headers::{self, Said};
use super::inbound::Flow;
use crate::intake::router::Sender;
use crate::intake::{Arrival, Intake, Refusal, SenderHeaders};
use crate::ledger::Ending;
use crate::planted::{self, Bug};
use crate::session::handshake::{Number, Ticket};
use crate::store::lane::Return;
use crate::store::{Lane, LaneKey, MessageId, Outcome, TransientCause};

/// A PUBLISH whose turn it is.
struct Submission<'p> {
    publish: &'p Publish<'p>,
    /// Its own, or what its alias stood for.
    topic: &'p str,
    sender: Sender<'p>,
    /// At QoS 2.
    number: Option<(Ticket, Number)>,
    /// When its first byte was read.
    came: Instant,
    /// When it was taken.
    arrived: Instant,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Submitted {
    /// It has its slot in the lane.
    Taken,
    /// The same, and nothing behind it may be taken: its answer ends the connection.
    Last,
    /// It is refused at QoS 0, where nobody is told.
    Dropped,
    /// Not now; nothing was taken.
    NoRoom,
}

impl Client {
    /// Takes a PUBLISH that came at `came` as `packet`, or leaves it where it is until there is room.
    pub(super) fn publish(
        &mut self,
        publish: &Publish<'_>,
        packet: &[u8],
        came: Instant,
        now: Instant,
    ) -> Result<Flow, End> {
        let Some(session) = &mut self.session else {
            return Err(End::silent("PUBLISH before CONNECT"));
        };
        let Self { endpoint, lane, exactly_once, .. } = self;
        if publish.qos > endpoint.config.maximum_qos {
            return Err(End::told(Reason::QosNotSupported, "PUBLISH at a QoS that is not served"));
        }
        let receive_maximum = usize::from(endpoint.config.receive_maximum);
        let (slots, bytes) = lane.load();
        let (waiting, waiting_bytes) =
            exactly_once.as_ref().map_or((0, 0), |exactly_once| exactly_once.waiting());
        if publish.qos > 0 && session.version == Version::V5 {
            if self.unacknowledged >= receive_maximum {
                let what = "more PUBLISH packets in flight than Receive Maximum";
                return Err(End::told(Reason::ReceiveMaximumExceeded, what));
            }
        } else if slots + waiting >= receive_maximum {
            return Ok(Flow::Full);
        }
        if bytes + waiting_bytes >= endpoint.limits.max_in_flight_bytes_per_connection {
            return Ok(Flow::Full);
        }
        if publish.qos == 2 || waiting > 0 {
            return self.line_up(publish, packet, came, now);
        }
        let version = session.version;
        let said = Said::of(publish.properties);
        let aliases = endpoint.config.topic_alias_maximum;
        let kept = &mut self.kept;
        let (topic, client_id) =
            session.topic(publish.topic, said.alias, aliases, |bytes| Self::keep_more(kept, bytes))?;
        let sender = Sender { client_id, source: &self.source, identity: self.identity.as_deref() };
        let submission = Submission { publish, topic, sender, number: None, came, arrived: now };
        let submitted = submission.submit(&endpoint.intake, self.key, lane, version, now);
        if submitted != Submitted::NoRoom {
            self.entry.receive();
        }
        Ok(match submitted {
            Submitted::NoRoom => Flow::Full,
            Submitted::Dropped => {
                self.entry.end(Ending::Dropped, 1);
                Flow::Taken
            }
            Submitted::Taken | Submitted::Last => {
                self.entry.occupy();
                self.unacknowledged += usize::from(publish.qos > 0);
                if submitted == Submitted::Last { Flow::Stop } else { Flow::Taken }
            }
        })
    }

    /// Has a PUBLISH wait for its intent, or behind one that does: what a client sends is stored in its order.
    fn line_up(
        &mut self,
        publish: &Publish<'_>,
        packet: &[u8],
        came: Instant,
        now: Instant,
    ) -> Result<Flow, End> {
        let Some(session) = &mut self.session else { return Ok(Flow::Full) };
        let exactly_once = match &mut self.exactly_once {
            Some(exactly_once) => exactly_once,
            none => {
                let new = ExactlyOnce::in_memory();
                none.insert(new.ok_or(End::told(Reason::ServerBusy, "no random numbers"))?)
            }
        };
        let budget = self.endpoint.intake.budget();
        if !exactly_once.make_room(budget, packet.len()) {
            return Ok(Flow::Full);
        }
        let said = Said::of(publish.properties);
        let aliases = self.endpoint.config.topic_alias_maximum;
        let kept = &mut self.kept;
        let (topic, _) =
            session.topic(publish.topic, said.alias, aliases, |bytes| Self::keep_more(kept, bytes))?;
        let packet_id = publish.packet_id.map_or(0, NonZero::get);
        let mark = if publish.qos == 2 {
            let digest = digest(topic, publish.properties, publish.payload);
            let (mark, replaces) = exactly_once.arrived(packet_id, publish.dup, digest);
            if replaces {
                self.endpoint.replaced.fetch_add(1, Ordering::Relaxed);
            }
            mark
        } else {
            Mark::Plain
        };
        exactly_once.wait(Waiting {
            packet: packet.into(),
            packet_id,
            topic: publish.topic.is_empty().then(|| topic.into()),
            mark,
            came,
            arrived: now,
        });
        self.entry.receive();
        self.entry.occupy();
        self.unacknowledged += usize::from(publish.qos > 0);
        Ok(Flow::Taken)
    }

    /// Takes packets that have waited and need not wait any more. [`Flow::Full`]: there is no room for the next one.
    pub(super) fn go_on(&mut self, now: Instant) -> Result<Flow, End> {
        let Self { endpoint, session: Some(session), exactly_once: Some(exactly_once), .. } = self else {
            return Ok(Flow::Taken);
        };
        let (intake, version) = (&endpoint.intake, session.version);
        while !self.last_taken
            && let Some(next) = exactly_once.next(intake.budget())
        {
            let (Next::Replaced(waiting) | Next::Recall(waiting, ..) | Next::Admit(waiting, _)) = &next;
            let Ok(Packet::Publish(publish)) = Packet::decode(Some(version), &waiting.packet) else {
                return Err(End::silent("a packet was read once and cannot be read again"));
            };
            match &next {
                Next::Replaced(_) => {
                    self.unacknowledged = self.unacknowledged.saturating_sub(1);
                    self.entry.leave(1);
                    self.entry.end(Ending::Abandoned, 1);
                }
                Next::Recall(waiting, (ticket, number), receipt) => {
                    let id = Said::of(publish.properties).id.map(|id| MessageId::Sender(id.into()));
                    let back = Return {
                        id: id.unwrap_or(MessageId::Session(*number)),
                        tag: waiting.packet_id,
                        ticket: ticket.to_bits(),
                        refusal: 0,
                        dead_letter: false,
                        duplicate: true,
                        arrived: waiting.arrived,
                    };
                    self.lane.recall(back, *receipt);
                }
                Next::Admit(waiting, number) => {
                    let sender = Sender {
                        client_id: &session.client_id,
                        source: &self.source,
                        identity: self.identity.as_deref(),
                    };
                    let submission = Submission {
                        publish: &publish,
                        topic: waiting.topic.as_deref().unwrap_or(publish.topic),
                        sender,
                        number: *number,
                        came: waiting.came,
                        arrived: waiting.arrived,
                    };
                    match submission.submit(intake, self.key, &self.lane, version, now) {
                        Submitted::Taken => {}
                        Submitted::Last => self.last_taken = true,
                        Submitted::Dropped => {
                            self.entry.leave(1);
                            self.entry.end(Ending::Dropped, 1);
                        }
                        Submitted::NoRoom => {
                            let Next::Admit(waiting, _) = next else { return Ok(Flow::Full) };
                            return if exactly_once.put_back(intake.budget(), waiting) {
                                Ok(Flow::Full)
                            } else {
                                Err(End::transient(TransientCause::BudgetExhausted.detail()))
                            };
                        }
                    }
                }
            }
        }
        Ok(Flow::Taken)
    }
}

impl Submission<'_> {
    /// Gives the message to intake. One that is not taken gets its turn among the answers.
    fn submit(
        &self,
        intake: &Arc<Intake>,
        key: LaneKey,
        lane: &Lane,
        version: Version,
        now: Instant,
    ) -> Submitted {
        let Self { publish, topic, sender, number, came, arrived } = *self;
        let said = Said::of(publish.properties);
        let (ticket, number) = number.unzip();
        let arrival = Arrival {
            address: topic,
            subject: topic,
            payload: publish.payload,
            id: said.id,
            number,
            sender,
            arrived,
            allowed: false,
            tag: publish.packet_id.map_or(0, NonZero::get),
            ticket: ticket.map_or(0, Ticket::to_bits),
            dead_letter: true,
        };
        let waited = now.saturating_duration_since(came);
        let (outcome, reason) = match said.unfit(publish.payload, waited) {
            Some(reason) => (Outcome::Refused, reason),
            None => {
                let left = said.left(waited);
                let headers = |headers: &mut SenderHeaders<'_>| {
                    headers::write(publish.retain, publish.properties, left, headers);
                };
                match intake.admit(key, lane, &arrival, headers) {
                    Ok(()) => return Submitted::Taken,
                    Err(Refusal::Transient(TransientCause::BudgetExhausted)) => return Submitted::NoRoom,
                    Err(refusal) => verdict(&refusal),
                }
            }
        };
        let Arrival { tag, ticket, .. } = arrival;
        if tag == 0 {
            return Submitted::Dropped;
        }
        let back = Return {
            id: MessageId::Sender(Box::default()),
            tag,
            ticket,
            refusal: reason as u8,
            dead_letter: false,
            duplicate: false,
            arrived,
        };
        lane.decide(back, outcome);
        // What ends the connection also ends the reading: nothing behind it may be taken.
        let ends = matches!(outcome, Outcome::Transient(_)) || version == Version::V3;
        let ends = ends && !planted::is(Bug::ReorderingRetry);
        if ends { Submitted::Last } else { Submitted::Taken }
    }
}

/// What a refusal means for the sender, by the table of the contract.
fn verdict(refusal: &Refusal) -> (Outcome, Reason) {
    match refusal {
        Refusal::Transient(cause) => (Outcome::Transient(*cause), Reason::ServerBusy),
        Refusal::NotAllowed => (Outcome::Refused, Reason::NotAuthorized),
        Refusal::NoRoute | Refusal::UncleanCapture => (Outcome::Refused, Reason::TopicNameInvalid),
        Refusal::Schema(_) => (Outcome::Refused, Reason::PayloadFormatInvalid),
        Refusal::TooLarge { .. } => (Outcome::Refused, Reason::ImplementationSpecific),
    }
}

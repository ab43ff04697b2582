//! What a client has been let in with, and what each of its packets does.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::MqttEndpoint;
use super::clients::Seat;
use super::codec::{ConnAck, Connect, Encoder, Malformed, Packet, Reason, Version, refusal_version};
use super::end::End;
use super::entry::{Entered, Entering, Hello, enter};
use super::inbound::{CHUNK_BYTES, Flow, Taker};
use super::outbound::Outbound;
use super::session::{Session, TOPIC_ALIAS_MAXIMUM, Welcome};
use crate::auth::{CertificateNames, Credentials, Identity, Proof};
use crate::budget::Reservation;
use crate::endpoint::connections::Handle;
use crate::ledger::{Account, Ending, Entry};
use crate::store::{Lane, LaneKey, Outcome};

/// Length of an MQTT 5 CONNACK that refuses.
const REFUSING_CONNACK_BYTES: usize = 5;

/// One client and its messages between produce and answer.
pub(super) struct Client {
    pub(super) endpoint: Arc<MqttEndpoint>,
    pub(super) source: String,
    pub(super) account: Account,
    pub(super) key: LaneKey,
    pub(super) lane: Arc<Lane>,
    pub(super) entry: Entry,
    /// A CONNECT that is being looked at, and its version.
    entering: Option<(Version, Entering)>,
    /// None before CONNACK.
    pub(super) session: Option<Box<Session>>,
    /// Who it has proved to be, where somebody asks.
    pub(super) identity: Option<Arc<Identity>>,
    /// The hold on the client identifier.
    pub(super) seat: Option<Seat>,
    /// What the session keeps: client identifier, Will and topic aliases.
    pub(super) kept: Option<Reservation>,
    /// PUBLISH packets above QoS 0 that have not been answered.
    pub(super) unacknowledged: usize,
}

impl Client {
    pub(super) fn new(endpoint: Arc<MqttEndpoint>, source: String, number: usize) -> Self {
        let account = endpoint.intake.ledger().account(number);
        let (key, lane) = endpoint.intake.open_lane(&account);
        Self {
            endpoint,
            source,
            account,
            key,
            lane,
            entry: Entry::default(),
            entering: None,
            session: None,
            identity: None,
            seat: None,
            kept: None,
            unacknowledged: 0,
        }
    }

    /// Protocol version; 3.1.1 before CONNECT, as anybody reads it.
    pub(super) fn version(&self) -> Version {
        self.session.as_ref().map_or(Version::V3, |session| session.version)
    }

    /// Answers finished messages in the order of their arrival, until one of them ends the connection.
    pub(super) fn answer(&mut self, outbound: &mut Outbound) -> Result<(), End> {
        let version = self.version();
        let room = self.session.as_ref().map_or(0, |session| session.receipt_room);
        let mut end = None;
        let (entry, unacknowledged) = (&mut self.entry, &mut self.unacknowledged);
        self.lane.drain(|slot, outcome| {
            let back = &slot.back;
            let positive = if back.dead_letter { Ending::DeadLettered } else { Ending::Acknowledged };
            if back.tag == 0 {
                // QoS 0: nobody waits for an answer, so it ends here.
                let persisted = matches!(outcome, Outcome::Persisted(_));
                entry.leave(1);
                entry.end(if persisted { positive } else { Ending::Dropped }, 1);
            } else {
                let mut encoder = Encoder::new(version, outbound.buffer());
                let ending = match (outcome, version) {
                    (Outcome::Persisted(receipt), _) => {
                        encoder.puback(back.tag, &back.id, &receipt, room);
                        Some(positive)
                    }
                    (Outcome::Refused, Version::V5) => {
                        encoder.puback_refused(back.tag, back.refusal);
                        Some(Ending::Refused)
                    }
                    (Outcome::Refused, Version::V3) => {
                        end = Some(End::silent("a message was refused, which 3.1.1 can only say by closing"));
                        entry.leave(1);
                        entry.end(Ending::Refused, 1);
                        None
                    }
                    (Outcome::Transient(_), _) => {
                        entry.leave(1);
                        entry.end(Ending::Abandoned, 1);
                        None
                    }
                };
                *unacknowledged = unacknowledged.saturating_sub(1);
                if let Some(ending) = ending {
                    outbound.answers(ending, back.arrived);
                }
            }
            if let Outcome::Transient(cause) = outcome {
                end = Some(End::transient(cause.detail()));
            }
            if end.is_some() || outbound.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        end.map_or(Ok(()), Err)
    }

    /// Begins to let a client in; [`entered`](Self::entered) is called when that is done.
    fn connect(
        &mut self,
        connect: &Connect<'_>,
        outbound: &mut Outbound,
        handle: &Arc<Handle>,
    ) -> Result<(), End> {
        let kept = connect.kept_bytes() as u64;
        let opened = Session::open(connect, self.endpoint.config.maximum_qos).and_then(|welcome| {
            let reservation = self.endpoint.intake.budget().reserve(kept).ok_or(Reason::ServerBusy)?;
            Ok((welcome, reservation))
        });
        let (welcome, kept) = opened.map_err(|reason| refuse(connect.version, reason, outbound))?;
        let Welcome { session, assigned_client_id, session_expires_now } = welcome;
        let version = session.version;
        let check = self.endpoint.intake.gate().map(|gate| {
            let source = self.source.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let proof = Proof::Connect { user: connect.user_name, password: connect.password };
            let names = handle.certificate().map(CertificateNames::from);
            gate.check(Credentials { source, proof, certificate: names.as_ref() })
        });
        let hello = Hello {
            session: Box::new(session),
            assigned_client_id,
            session_expires_now,
            kept,
            source: self.source.clone(),
            check,
            identity: None,
        };
        let entering = enter(Arc::clone(&self.endpoint), hello, Arc::clone(handle));
        self.entering = Some((version, Box::pin(entering)));
        Ok(())
    }

    /// Polls an entry that is under way. Ready when it is through, pending also when there is none.
    pub(super) fn poll_entering(
        &mut self,
        outbound: &mut Outbound,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        let Some((version, entering)) = &mut self.entering else { return Poll::Pending };
        let entered = ready!(entering.as_mut().poll(context));
        let version = *version;
        self.entering = None;
        Poll::Ready(match entered {
            Ok(entered) => self.entered(entered, outbound),
            Err(reason) => Err(refuse(version, reason, outbound)),
        })
    }

    fn entered(&mut self, entered: Entered, outbound: &mut Outbound) -> Result<(), End> {
        let Entered { hello, seat } = entered;
        let Hello { session, assigned_client_id, session_expires_now, kept, identity, .. } = hello;
        let config = &self.endpoint.config;
        let told = Encoder::new(session.version, outbound.buffer()).connack(&ConnAck {
            maximum_qos: config.maximum_qos,
            receive_maximum: config.receive_maximum,
            maximum_packet_size: self.endpoint.limits.max_message_bytes,
            topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
            session_expires_now,
            assigned_client_id: assigned_client_id.then_some(&*session.client_id),
            room: session.largest_packet,
        });
        if !told {
            if session.largest_packet >= REFUSING_CONNACK_BYTES {
                return Err(refuse(session.version, Reason::ImplementationSpecific, outbound));
            }
            return Err(End::silent("CONNACK is larger than the client takes").without_will());
        }
        self.session = Some(session);
        self.identity = identity;
        self.seat = Some(seat);
        self.kept = Some(kept);
        Ok(())
    }

    /// Keeps `bytes` more for the session, from the budget.
    pub(super) fn keep_more(kept: &mut Option<Reservation>, bytes: usize) -> Result<(), End> {
        let fits = kept.as_mut().is_some_and(|kept| kept.grow_to(kept.bytes() + bytes as u64));
        if fits { Ok(()) } else { Err(End::told(Reason::ServerBusy, "no room for a topic alias")) }
    }
}

/// Says in CONNACK why a client is not let in.
fn refuse(version: Version, reason: Reason, outbound: &mut Outbound) -> End {
    Encoder::new(version, outbound.buffer()).connack_refused(reason);
    End::silent("CONNECT was refused").without_will()
}

/// An answer that is larger than the client takes is not sent (`[MQTT-3.1.2-24]`).
fn told(fits: bool) -> Result<(), End> {
    if fits {
        Ok(())
    } else {
        Err(End::told(Reason::PacketTooLarge, "an answer larger than the client takes"))
    }
}

/// A turn of reading.
pub(super) struct Turn<'c> {
    pub(super) client: &'c mut Client,
    pub(super) outbound: &'c mut Outbound,
    pub(super) handle: &'c Arc<Handle>,
    pub(super) now: Instant,
}

impl Taker for Turn<'_> {
    fn waits(&self) -> bool {
        self.client.entering.is_some()
    }

    fn max_packet_bytes(&self) -> usize {
        match self.client.session {
            Some(_) => self.client.endpoint.limits.max_message_bytes as usize,
            None => CHUNK_BYTES,
        }
    }

    fn take(&mut self, bytes: &[u8], arrived: Instant) -> Result<Flow, End> {
        let Self { client, outbound, handle, now } = self;
        // What is answered at once needs room among the answers.
        if outbound.is_full() {
            return Ok(Flow::Full);
        }
        let version = client.session.as_ref().map(|session| session.version);
        let packet = match Packet::decode(version, bytes) {
            Ok(packet) => packet,
            Err(malformed) => {
                if version.is_none() {
                    if let Some(version) = refusal_version(bytes) {
                        Encoder::new(version, outbound.buffer()).connack_refused(malformed.reason);
                    }
                    return Err(End::silent(malformed.what).without_will());
                }
                return Err(malformed.into());
            }
        };
        let room = client.session.as_ref().map_or(0, |session| session.largest_packet);
        let mut encoder = Encoder::new(client.version(), outbound.buffer());
        match packet {
            Packet::Publish(publish) => return client.publish(&publish, arrived, *now),
            Packet::Connect(connect) => client.connect(&connect, outbound, handle)?,
            Packet::PingReq => encoder.pingresp(),
            Packet::Subscribe { packet_id, filters } => {
                told(encoder.suback_refused(packet_id.get(), &filters, room))?;
            }
            Packet::Unsubscribe { packet_id, filters } => {
                told(encoder.unsuback(packet_id.get(), &filters, room))?;
            }
            Packet::PubRel { packet_id } => encoder.pubcomp_unknown(packet_id.get()),
            Packet::Disconnect { reason, session_expiry_seconds } => {
                let expires_at_once = client.session.as_ref().is_some_and(|session| session.expires_at_once);
                if expires_at_once && session_expiry_seconds.is_some_and(|seconds| seconds > 0) {
                    // §3.14.2.2.2: it is no valid DISCONNECT, so the Will stands.
                    return Err(Malformed::protocol("DISCONNECT keeps a session that CONNECT did not").into());
                }
                // [MQTT-3.14.4-3]: only a normal one takes the Will back.
                let end = End::silent("the client left");
                return Err(if reason == 0 { end.without_will() } else { end });
            }
            Packet::Auth => {
                return Err(End::told(Reason::ProtocolError, "AUTH without an authentication method"));
            }
            Packet::Unsolicited => {
                return Err(End::told(Reason::ProtocolError, "an answer to a packet that was never sent"));
            }
        }
        Ok(Flow::Taken)
    }
}

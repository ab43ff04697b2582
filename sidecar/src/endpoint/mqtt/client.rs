//! What a client has been let in with, and what each of its packets does.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::MqttEndpoint;
use super::codec::{ConnAck, Connect, Encoder, Malformed, Packet, Reason, Version, refusal_version};
use super::end::End;
use super::inbound::{CHUNK_BYTES, Flow, Taker};
use super::outbound::Outbound;
use super::session::{Session, TOPIC_ALIAS_MAXIMUM};
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
    /// None before CONNECT.
    pub(super) session: Option<Box<Session>>,
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
            session: None,
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

    fn connect(
        &mut self,
        connect: &Connect<'_>,
        outbound: &mut Outbound,
        handle: &Arc<Handle>,
    ) -> Result<(), End> {
        let config = &self.endpoint.config;
        let kept = connect.kept_bytes() as u64;
        let opened = Session::open(connect, config.maximum_qos).and_then(|welcome| {
            let reservation = self.endpoint.intake.budget().reserve(kept).ok_or(Reason::ServerBusy)?;
            Ok((welcome, reservation))
        });
        let mut encoder = Encoder::new(connect.version, outbound.buffer());
        let (welcome, reservation) = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                encoder.connack_refused(reason);
                return Err(End::silent("CONNECT was refused").without_will());
            }
        };
        let assigned = welcome.assigned_client_id.then_some(&*welcome.session.client_id);
        let told = encoder.connack(&ConnAck {
            maximum_qos: config.maximum_qos,
            receive_maximum: config.receive_maximum,
            maximum_packet_size: self.endpoint.limits.max_message_bytes,
            topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
            session_expires_now: welcome.session_expires_now,
            assigned_client_id: assigned,
            room: welcome.session.largest_packet,
        });
        if !told {
            let what = "a Maximum Packet Size that CONNACK does not fit";
            if welcome.session.largest_packet >= REFUSING_CONNACK_BYTES {
                encoder.connack_refused(Reason::ImplementationSpecific);
            }
            return Err(End::silent(what).without_will());
        }
        self.endpoint.clients.enter(&welcome.session.client_id, handle);
        self.session = Some(Box::new(welcome.session));
        self.kept = Some(reservation);
        Ok(())
    }

    /// Keeps `bytes` more for the session, from the budget.
    pub(super) fn keep_more(kept: &mut Option<Reservation>, bytes: usize) -> Result<(), End> {
        let fits = kept.as_mut().is_some_and(|kept| kept.grow_to(kept.bytes() + bytes as u64));
        if fits { Ok(()) } else { Err(End::told(Reason::ServerBusy, "no room for a topic alias")) }
    }
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
    fn max_packet_bytes(&self) -> usize {
        match self.client.session {
            Some(_) => self.client.endpoint.limits.max_message_bytes as usize,
            None => CHUNK_BYTES,
        }
    }

    fn take(&mut self, packet: &[u8], arrived: Instant) -> Result<Flow, End> {
        let Self { client, outbound, handle, now } = self;
        // What is answered at once needs room among the answers.
        if outbound.is_full() {
            return Ok(Flow::Full);
        }
        let version = client.session.as_ref().map(|session| session.version);
        let bytes = packet;
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

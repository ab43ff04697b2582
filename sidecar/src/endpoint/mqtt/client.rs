//! What a client has been let in with, and what each of its packets does.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::MqttEndpoint;
use super::clients::Seat;
use super::codec::{ConnAck, Connect, Encoder, Malformed, Packet, Reason, Version, refusal_version};
use super::end::{By, End};
use super::entry::{Entered, Entering, enter};
use super::exactly_once::ExactlyOnce;
use super::hello::Hello;
use super::inbound::{CHUNK_BYTES, Flow, Taker};
use super::kept::{KeptSession, Leaving};
use super::outbound::Outbound;
use super::resume::Resumed;
use super::session::{Session, Welcome};
use super::will::Testator;
use crate::auth::{CertificateNames, Credentials, Identity, Proof};
use crate::budget::Reservation;
use crate::endpoint::connections::Handle;
use crate::ledger::{Account, Entry};
use crate::session::store::{Departure, Farewell};
use crate::store::{Lane, LaneKey};

/// How long the end of an entry is waited for whose client has gone.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// PUBLISH packets above QoS 0 whose last answer has not been given (`[MQTT-3.3.4-7]`).
    pub(super) unacknowledged: usize,
    /// From the first PUBLISH at QoS 2 on, or as the session store had it.
    pub(super) exactly_once: Option<Box<ExactlyOnce>>,
    /// The hold on a session that outlives the connection.
    pub(super) kept_session: Option<Box<KeptSession>>,
    /// A message was taken whose answer ends the connection: none behind it may be.
    pub(super) last_taken: bool,
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
            exactly_once: None,
            kept_session: None,
            last_taken: false,
        }
    }

    /// Protocol version; 3.1.1 before CONNECT, as anybody reads it.
    pub(super) fn version(&self) -> Version {
        self.session.as_ref().map_or(Version::V3, |session| session.version)
    }

    /// Begins to let a client in; [`entered`](Self::entered) is called when that is done.
    fn connect(
        &mut self,
        connect: &Connect<'_>,
        outbound: &mut Outbound,
        handle: &Arc<Handle>,
    ) -> Result<(), End> {
        let kept = connect.kept_bytes() as u64;
        let opened = Session::open(connect, &self.endpoint.config).and_then(|welcome| {
            let reservation = self.endpoint.intake.budget().reserve(kept).ok_or(Reason::ServerBusy)?;
            Ok((welcome, reservation))
        });
        let (welcome, kept) = opened.map_err(|reason| refuse(connect.version, reason, outbound))?;
        let Welcome { session, terms } = welcome;
        let version = session.version;
        let check = self.endpoint.intake.gate().map(|gate| {
            let source = self.source.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let proof = Proof::Connect { user: connect.user_name, password: connect.password };
            let names = handle.certificate().map(CertificateNames::from);
            gate.check(Credentials { source, proof, certificate: names.as_ref() })
        });
        let hello = Hello {
            session: Box::new(session),
            terms,
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
        let Entered { hello, seat, resumed } = entered;
        let Hello { session, terms, kept, identity, .. } = hello;
        let present = resumed.as_ref().is_some_and(|resumed| resumed.present);
        self.identity = identity;
        self.kept = Some(kept);
        self.adopt(session, seat, resumed);
        let Self { session: Some(session), exactly_once, .. } = self else { return Ok(()) };
        let budget = self.endpoint.intake.budget();
        if !exactly_once.as_mut().is_none_or(|exactly_once| exactly_once.make_room(budget, 0)) {
            return Err(refuse(session.version, Reason::ServerBusy, outbound));
        }
        let config = &self.endpoint.config;
        let told = Encoder::new(session.version, outbound.buffer()).connack(&ConnAck {
            maximum_qos: config.maximum_qos,
            receive_maximum: config.receive_maximum,
            maximum_packet_size: self.endpoint.limits.max_message_bytes,
            topic_alias_maximum: config.topic_alias_maximum,
            session_present: present,
            session_expiry_seconds: terms.session_expiry_seconds,
            server_keep_alive_seconds: terms.keep_alive_seconds,
            assigned_client_id: terms.assigned_client_id.then_some(&*session.client_id),
            room: session.largest_packet,
        });
        if told {
            return Ok(());
        }
        if session.largest_packet >= REFUSING_CONNACK_BYTES {
            return Err(refuse(session.version, Reason::ImplementationSpecific, outbound));
        }
        Err(End::silent("CONNACK is larger than the client takes").by(By::Client))
    }

    /// Takes a session as this connection's.
    fn adopt(&mut self, session: Box<Session>, seat: Seat, resumed: Option<Resumed>) -> &mut Session {
        if let Some(Resumed { kept, exactly_once, .. }) = resumed {
            (self.kept_session, self.exactly_once) = (Some(Box::new(kept)), Some(exactly_once));
        }
        self.seat = Some(seat);
        self.session.insert(session)
    }

    /// Sees an entry through whose client has gone meanwhile: the session may be this pod's by now.
    pub(super) async fn end_entry(&mut self) {
        let Some((_, entering)) = self.entering.take() else { return };
        if let Ok(Ok(Entered { hello, seat, resumed })) = tokio::time::timeout(ENTRY_TIMEOUT, entering).await
        {
            // It was told nothing, so nothing is to be told of it.
            self.adopt(hello.session, seat, resumed).will = None;
            self.refuse_claims();
        }
    }

    /// Leaves the session, and sees to the Will, when all else is over.
    pub(super) async fn depart(self, by: By) {
        let Self {
            endpoint, source, account, session: Some(session), mut exactly_once, kept_session, ..
        } = self
        else {
            return;
        };
        let Session { client_id, will, expiry_seconds, .. } = *session;
        let testator = Testator { client_id, source: source.into() };
        let Some(kept) = kept_session else {
            if let Some(will) = will.filter(|_| matches!(by, By::Accident | By::Heir { .. })) {
                will.publish(&endpoint, &account, &testator).await;
            }
            return;
        };
        let departure = match by {
            By::Heir { clean } => {
                kept.abandon(&testator.client_id);
                // The heir's Will has taken the place of this one, which is due if it did not wait (§3.1.4-3).
                if let Some(will) = will.filter(|will| clean || will.delay().is_zero()) {
                    will.publish(&endpoint, &account, &testator).await;
                }
                return;
            }
            By::Client => Departure::Said,
            By::Pod => Departure::Drained,
            By::Accident => Departure::Lost,
        };
        let expiry = Duration::from_secs(expiry_seconds.into());
        let farewell = will.as_ref().map_or(Farewell::Discard, |will| {
            Farewell::after(departure, will.delay(), endpoint.will_grace(), expiry)
        });
        let leaving = Leaving {
            kept: *kept,
            client_id: testator.client_id.clone(),
            confirmed: exactly_once.as_ref().map_or(0, |exactly_once| exactly_once.confirmed()),
            changes: exactly_once.as_mut().map(|exactly_once| exactly_once.last()).unwrap_or_default(),
            expiry,
            farewell,
        };
        let publish = async move {
            if let Some(will) = will {
                will.publish(&endpoint, &account, &testator).await;
            }
        };
        leaving.leave(publish).await;
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
    End::silent("CONNECT was refused").by(By::Client)
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
                    return Err(End::silent(malformed.what).by(By::Client));
                }
                return Err(malformed.into());
            }
        };
        let room = client.session.as_ref().map_or(0, |session| session.largest_packet);
        let mut encoder = Encoder::new(client.version(), outbound.buffer());
        match packet {
            Packet::Publish(publish) => return client.publish(&publish, bytes, arrived, *now),
            Packet::Connect(connect) => client.connect(&connect, outbound, handle)?,
            Packet::PingReq => encoder.pingresp(),
            Packet::Subscribe { packet_id, filters } => {
                told(encoder.suback_refused(packet_id.get(), &filters, room))?;
            }
            Packet::Unsubscribe { packet_id, filters } => {
                told(encoder.unsuback(packet_id.get(), &filters, room))?;
            }
            Packet::PubRel { packet_id } => return client.release(packet_id.get(), outbound),
            Packet::Disconnect { reason, session_expiry_seconds } => {
                let expires_at_once = client.session.as_ref().is_some_and(|session| session.expires_at_once);
                if expires_at_once && session_expiry_seconds.is_some_and(|seconds| seconds > 0) {
                    // §3.14.2.2.2: it is no valid DISCONNECT, so the Will stands.
                    return Err(Malformed::protocol("DISCONNECT keeps a session that CONNECT did not").into());
                }
                if let (Some(session), Some(seconds)) = (&mut client.session, session_expiry_seconds) {
                    session.expiry_seconds = seconds.min(client.endpoint.config.session_expiry_seconds);
                }
                // [MQTT-3.14.4-3]: only a normal one takes the Will back.
                let end = End::silent("the client left");
                return Err(if reason == 0 { end.by(By::Client) } else { end });
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

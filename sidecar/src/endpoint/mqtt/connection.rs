//! One MQTT connection: read, hand to intake, wait for reports, answer in order.
//!
//! Nothing here waits for Kafka while it could read: a PINGREQ is answered while acknowledgements are pending.

use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;

use super::MqttEndpoint;
use super::client::{Client, Turn};
use super::codec::{Encoder, Reason};
use super::end::{By, End};
use super::inbound::{Flow, Inbound, Read};
use super::outbound::Outbound;
use crate::endpoint::connections::{Order, Place};
use crate::endpoint::wire::{Peer, Wire};
use crate::ledger::Ending;
use crate::planted::{self, Bug};
use crate::store::Outcome;

/// How long a client may take for its CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client is held whose message was answered as transient at once: it would come back at once.
const HOLD: Duration = Duration::from_secs(1);
/// How long our last word may take, and how long we wait for the client to close after it, so that a reset does not
/// overtake it.
const LINGER: Duration = Duration::from_millis(500);
/// Reads before other connections get their turn.
const READS_PER_TURN: usize = 4;

/// A client's connection.
pub(super) struct Connection {
    stream: Wire,
    place: Place,
    client: Client,
    inbound: Inbound,
    outbound: Outbound,
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    opened: Instant,
    /// Since when reading waits for room, and at which announcement of the pod's budget we asked to be woken.
    full: Option<(Instant, Option<u64>)>,
    /// Cleared when nothing more is taken; the rest is answered.
    reading: bool,
    /// The pod is ending.
    leaving: bool,
}

impl Connection {
    pub(super) fn new(endpoint: Arc<MqttEndpoint>, stream: Wire, peer: &Peer, place: Place) -> Self {
        let now = Instant::now();
        let armed = now + CONNECT_TIMEOUT;
        Self {
            stream,
            client: Client::new(endpoint, peer.source(), place.number()),
            place,
            inbound: Inbound::new(now),
            outbound: Outbound::default(),
            timer: Box::pin(tokio::time::sleep_until(armed.into())),
            armed,
            opened: now,
            full: None,
            reading: true,
            leaving: false,
        }
    }

    /// Serves the client to its end. What the future holds, every idle connection holds: the connection is in it once, as
    /// what the block captures, and its end is not.
    #[allow(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let end = loop {
                let turn = self.turn();
                self.client.account.book(&mut self.client.entry);
                if let Err(end) = turn {
                    break end;
                }
                if let Err(end) = poll_fn(|context| self.poll_event(context)).await {
                    break end;
                }
            };
            Box::pin(self.finish(end)).await;
        }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) -> Result<(), End> {
        match self.place.handle().ordered() {
            Some(order @ (Order::TakenOver | Order::SessionEnded)) => {
                let what = "another connection uses this client identifier";
                let heir = By::Heir { clean: order == Order::SessionEnded };
                return Err(End::told(Reason::SessionTakenOver, what).by(heir));
            }
            Some(Order::Unauthorized) => {
                let what = "the client's certificate or credentials hold no longer";
                return Err(End::told(Reason::NotAuthorized, what));
            }
            Some(Order::Close) => {
                return Err(End::told(Reason::ServerShuttingDown, "the pod is ending").by(By::Pod));
            }
            Some(Order::Leave) => {
                self.leaving = true;
                self.reading = false;
            }
            None => {}
        }
        let waited_at = self.full.map(|_| self.client.lane.ends());
        self.answer()?;
        // With the receipts that have just come, and before anything is taken that would have to be written.
        self.client.hand_over()?;
        let room = self.go_on()?;
        if self.reading && room {
            self.read()?;
            self.go_on()?;
        }
        self.client.ask(&mut self.outbound)?;
        self.write()?;
        if self.client.is_idle() && self.outbound.is_empty() {
            if self.leaving {
                return Err(End::told(Reason::ServerShuttingDown, "the pod is ending").by(By::Pod));
            }
            self.outbound.rest();
            if let Some(exactly_once) = &mut self.client.exactly_once {
                exactly_once.rest(self.client.endpoint.intake.budget());
            }
        }
        let now = Instant::now();
        if waited_at.is_some_and(|ends| ends != self.client.lane.ends()) {
            self.wait_anew(now);
        }
        match self.deadlines().into_iter().flatten().find(|(deadline, _)| *deadline <= now) {
            Some((_, end)) => Err(end),
            None => Ok(()),
        }
    }

    /// Takes what has waited for the session store. Whether more may be read.
    fn go_on(&mut self) -> Result<bool, End> {
        // Most connections have nothing that waits, and need no clock for it.
        if self.client.exactly_once.is_some() {
            let now = Instant::now();
            if self.client.go_on(now)? == Flow::Full {
                self.full.get_or_insert((now, None));
                return Ok(false);
            }
            self.reading &= !self.client.last_taken;
        }
        // What waits in the buffer of a connection that reads no more is not waited for.
        if !self.reading {
            self.full = None;
        }
        Ok(true)
    }

    /// Answers what is finished and writes it.
    fn answer(&mut self) -> Result<(), End> {
        loop {
            let answered = self.client.answer(&mut self.outbound);
            let full = self.outbound.is_full();
            self.write()?;
            answered?;
            // A full buffer that went out at once makes room for the next answers.
            if !full || self.outbound.is_full() {
                return Ok(());
            }
        }
    }

    fn write(&mut self) -> Result<(), End> {
        let budget = self.client.endpoint.intake.budget();
        self.outbound.write(&mut self.stream, budget, &mut self.client.entry)
    }

    fn read(&mut self) -> Result<(), End> {
        let budget = Arc::clone(self.client.endpoint.intake.budget());
        let now = Instant::now();
        for _ in 0..READS_PER_TURN {
            let Self { stream, inbound, client, outbound, place, .. } = self;
            let mut turn = Turn { client, outbound, handle: place.handle(), now };
            match inbound.read(stream, &budget, now, self.full.is_some(), &mut turn)? {
                Read::More => self.resume(now),
                Read::Drained => {
                    self.resume(now);
                    return Ok(());
                }
                Read::Full => {
                    self.full.get_or_insert((now, None));
                    return Ok(());
                }
                Read::Stopped => {
                    self.reading = false;
                    return Ok(());
                }
                Read::Closed => return Err(End::silent("the client closed the connection")),
            }
        }
        Ok(())
    }

    /// There is room again: the client's silence counts from now.
    fn resume(&mut self, now: Instant) {
        if self.full.take().is_some() {
            self.inbound.forgive(now);
        }
    }

    /// A message has found room, or was answered: a connection that has its turn where room is short waits for room from now
    /// on. To close it would waste what it has under way.
    fn wait_anew(&mut self, now: Instant) {
        if let Some((since, _)) = &mut self.full {
            *since = now;
        }
    }

    /// Waits until there is something to do.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let known = self.leaving.then_some(Order::Leave);
        if self.place.handle().poll_order(known, context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.client.has_news() {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(entered) = self.client.poll_entering(&mut self.outbound, context) {
            return Poll::Ready(entered);
        }
        if let Poll::Ready(answered) = self.client.poll_store(&mut self.outbound, context) {
            return Poll::Ready(answered);
        }
        let may_answer = !self.outbound.is_full() && self.client.may_answer();
        if may_answer && self.client.lane.poll_front(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !self.outbound.is_empty() && self.stream.poll_write_ready(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.full {
            Some((_, announcement)) => {
                let pod = self.client.endpoint.intake.budget().pod();
                if *announcement != Some(pod.announcements()) {
                    *announcement = Some(pod.register(context.waker()));
                    // Once more: what was given back before we asked is not announced again.
                    return Poll::Ready(Ok(()));
                }
            }
            None if self.reading && self.stream.poll_read_ready(context).is_ready() => {
                return Poll::Ready(Ok(()));
            }
            None => {}
        }
        let deadline = self.deadline();
        if deadline < self.armed {
            self.arm(deadline);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(Ok(()));
            }
            self.arm(deadline);
        }
        Poll::Pending
    }

    fn arm(&mut self, deadline: Instant) {
        self.armed = deadline;
        self.timer.as_mut().reset(deadline.into());
    }

    /// The earliest of all deadlines.
    fn deadline(&self) -> Instant {
        let deadlines = self.deadlines().into_iter().flatten();
        deadlines.map(|(deadline, _)| deadline).min().unwrap_or_else(|| Instant::now() + CONNECT_TIMEOUT)
    }

    fn deadlines(&self) -> [Option<(Instant, End)>; 8] {
        let ack_timeout = self.client.endpoint.ack_timeout;
        let session = self.client.session.as_ref();
        let connect =
            session.is_none().then(|| (self.opened + CONNECT_TIMEOUT, End::silent("no CONNECT in time")));
        let reports = self.client.lane.oldest().map(|arrived| {
            let what = "Kafka did not confirm a message within the ack timeout";
            (arrived + ack_timeout, End::told(Reason::ServerBusy, what))
        });
        let waiting = self.client.exactly_once.as_ref().and_then(|exactly_once| exactly_once.oldest());
        let waiting = waiting.map(|arrived| {
            let what = "a message waited for the session store or for room, and its ack timeout is over";
            (arrived + ack_timeout, End::told(Reason::ServerBusy, what))
        });
        // Before CONNACK reading waits for the entry, not for room.
        let room = self.full.filter(|_| session.is_some()).map(|(since, _)| {
            (
                since + ack_timeout,
                End::told(Reason::ServerBusy, "no room for a message within the ack timeout"),
            )
        });
        let stall = self
            .outbound
            .stall_deadline()
            .map(|deadline| (deadline, End::silent("the client does not read its answers")));
        // While reading waits for room the client cannot be heard: neither timer runs (contract, rule 4).
        let listening = self.reading && self.full.is_none();
        let silence = session.and_then(|session| session.silence).filter(|_| listening).map(|silence| {
            let what = "nothing heard for 1.5 times the Keep Alive";
            (self.inbound.heard() + silence, End::told(Reason::KeepAliveTimeout, what))
        });
        let packet = self.inbound.packet_deadline().filter(|_| listening).map(|deadline| {
            (deadline, End::told(Reason::KeepAliveTimeout, "the rest of a packet did not come in time"))
        });
        let identity = self.client.identity.as_ref().and_then(|identity| identity.expires());
        let expiry = identity
            .map(|expires| (expires, End::told(Reason::NotAuthorized, "the client's token has expired")));
        [connect, reports, waiting, room, stall, silence, packet, expiry]
    }

    /// Ends the connection: the last word, the books, the Will.
    async fn finish(mut self, end: End) {
        // Whoever wants the session need not wait for this.
        self.client.refuse_claims();
        if end.hold {
            tokio::time::sleep(HOLD).await;
        }
        if let Some(reason) = end.reason {
            let version = self.client.version();
            Encoder::new(version, self.outbound.buffer()).disconnect(reason);
        }
        let Self { stream, place, mut client, inbound, mut outbound, .. } = self;
        drop(inbound);
        say_last(stream, &mut outbound, &mut client).await;
        outbound.abandon(&mut client.entry);
        client.account.book(&mut client.entry);
        tracing::debug!(
            endpoint = client.endpoint.intake.ledger().name(),
            source = client.source,
            reason = end.reason.map(|reason| reason as u8),
            "an MQTT connection ended: {}",
            end.what
        );
        client.end_entry().await;
        client.seat = None;
        client.settle().await;
        client.depart(end.by).await;
        drop(place);
    }
}

/// Writes what is left, closes our side, and lets the client read it before a reset could overtake it.
async fn say_last(mut stream: Wire, outbound: &mut Outbound, client: &mut Client) {
    let budget = Arc::clone(client.endpoint.intake.budget());
    let last = async {
        while !outbound.is_empty() {
            if outbound.write(&mut stream, &budget, &mut client.entry).is_err() {
                return;
            }
            let writable = poll_fn(|context| stream.poll_write_ready(context));
            if !outbound.is_empty() && writable.await.is_err() {
                return;
            }
        }
        if stream.shutdown().await.is_ok() {
            let mut rest = [0; 512];
            while let Ok(1..) = stream.read(&mut rest).await {}
        }
    };
    // A client that does not close is closed.
    let _ = tokio::time::timeout(LINGER, last).await;
}

impl Client {
    /// Whether nothing is under way.
    fn is_idle(&self) -> bool {
        self.lane.load().0 == 0
            && self.exactly_once.as_ref().is_none_or(|exactly_once| exactly_once.is_idle())
    }

    /// Books what is still in the lane. A message above QoS 0 is abandoned: its sender will send it again. One at
    /// QoS 0 still gets its report, for nobody sends it again.
    async fn settle(&mut self) {
        let deadline = tokio::time::Instant::now() + self.endpoint.ack_timeout;
        while self.lane.any(|slot| slot.back.tag == 0) {
            let front = poll_fn(|context| self.lane.poll_front(context));
            if tokio::time::timeout_at(deadline, front).await.is_err() {
                break;
            }
            let entry = &mut self.entry;
            self.lane.drain(|slot, outcome| {
                let ending = match outcome {
                    _ if slot.back.tag != 0 => Ending::Abandoned,
                    Outcome::Persisted(_) if slot.back.dead_letter => Ending::DeadLettered,
                    Outcome::Persisted(_) => Ending::Acknowledged,
                    Outcome::Transient(_) | Outcome::Refused => Ending::Dropped,
                };
                entry.leave(1);
                entry.end(ending, 1);
                ControlFlow::Continue(())
            });
            self.account.book(&mut self.entry);
        }
        let waited = self.exactly_once.as_ref().map_or(0, |exactly_once| exactly_once.unanswered());
        let given_up =
            self.endpoint.intake.store().lanes().close(self.key, &self.lane) as u64 + waited as u64;
        self.entry.leave(given_up);
        if !planted::is(Bug::ForgottenInFlight) {
            self.entry.end(Ending::Abandoned, given_up);
        }
        self.account.book(&mut self.entry);
    }
}

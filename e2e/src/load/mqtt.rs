//! An MQTT client: pipelined QoS 1 or 2, and after a reconnect everything that is not finished again in order.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout_at};

use super::in_flight::{InFlight, Stage};
use super::wire::{self, Connect, Packet, Properties, Publish, Version};
use super::{Plan, Script, Session, Signals, WILL, pace};
use crate::checker::{Close, History, Outcome, Receipt};
use crate::secure;

const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);
/// Receive Maximum in CONNACK.
const RECEIVE_MAXIMUM: u8 = 0x21;
/// Packet Identifier not found (MQTT 5 §2.4).
const NOT_FOUND: u8 = 0x92;

pub(super) async fn run(plan: &Plan, version: Version, script: Script, signals: &Signals) -> History {
    let mut client = Client {
        plan,
        version,
        signals,
        script,
        in_flight: InFlight::default(),
        window: plan.window,
        attempts: 0,
        has_session: false,
    };
    loop {
        if signals.abandon.load(Relaxed) || client.is_done() {
            return client.script.history;
        }
        if client.visit().await.is_none() {
            sleep(RETRY).await;
        }
    }
}

struct Client<'a> {
    plan: &'a Plan,
    version: Version,
    signals: &'a Signals,
    script: Script,
    in_flight: InFlight,
    window: usize,
    /// CONNECTs that were sent: the server may have made a session of each.
    attempts: usize,
    /// The server has said that it keeps a session of ours.
    has_session: bool,
}

impl Client<'_> {
    fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.has_no_more()
    }

    fn has_no_more(&self) -> bool {
        self.script.left == 0 || self.signals.finish.load(Relaxed)
    }

    fn irregular(&mut self, what: String) {
        self.script.irregular(what);
    }

    fn connect_packet(&self) -> Connect {
        let client_id = format!("{}-{}", self.script.load, self.script.client);
        let connect = match self.plan.session {
            Session::Clean => Connect::new(self.version, &client_id),
            Session::Kept { expiry_seconds } => Connect::kept(self.version, &client_id, expiry_seconds),
        };
        if self.plan.will { connect.will(&self.script.topic(0), WILL.as_bytes(), 0) } else { connect }
    }

    /// A connection from its beginning to its end; none that never had a good CONNACK.
    async fn visit(&mut self) -> Option<()> {
        let deadline = (Instant::now() + PATIENCE).into();
        let stream = timeout_at(deadline, self.reach()).await.ok()??;
        let from = stream.local_addr().ok()?;
        let Some(identity) = &self.plan.secure else {
            let (reader, writer) = stream.into_split();
            return self.talk(deadline, from, reader, writer).await;
        };
        let shaken = timeout_at(deadline, identity.shake_hands(stream)).await.ok()?;
        let stream = shaken.inspect_err(|error| self.doubt(error)).ok()?;
        let (reader, writer) = tokio::io::split(stream);
        self.talk(deadline, from, reader, writer).await
    }

    /// MQTT on a connection from this address; none without a good CONNACK until a time.
    async fn talk(
        &mut self,
        deadline: tokio::time::Instant,
        from: SocketAddr,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) -> Option<()> {
        let hello = self.greet(from, &mut reader, &mut writer);
        let input = timeout_at(deadline, hello).await.ok()??;
        self.converse(reader, writer, input).await;
        Some(())
    }

    fn doubt(&mut self, error: &io::Error) {
        if secure::breaks_tls(error) {
            self.irregular(format!("TLS: {error}"));
        }
    }

    /// A connection, on which nothing was said.
    async fn reach(&mut self) -> Option<TcpStream> {
        let servers = 1 + self.plan.others.len();
        let server = match self.attempts % servers {
            0 => self.plan.server,
            other => self.plan.others[other - 1],
        };
        self.attempts += 1;
        let Ok(stream) = TcpStream::connect(server).await else {
            self.signals.unreachable.fetch_add(1, Relaxed);
            return None;
        };
        stream.set_nodelay(true).ok()?;
        Some(stream)
    }

    /// Sends CONNECT, from this address, and takes a good CONNACK; what was read behind it.
    async fn greet(
        &mut self,
        from: SocketAddr,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Option<BytesMut> {
        write(writer, &mut BytesMut::from(&*self.connect_packet().encode())).await.ok()?;
        let mut input = BytesMut::with_capacity(16 << 10);
        loop {
            match wire::take(&mut input, self.version) {
                Ok(Some(Packet::ConnAck { code: 0, session_present, properties })) => {
                    let allowed = properties.number(RECEIVE_MAXIMUM).unwrap_or(u32::from(u16::MAX));
                    self.window = self.plan.window.min(allowed as usize);
                    let passages = self.plan.passages.as_ref();
                    self.script.connected(passages.and_then(|passages| passages.server(from)));
                    self.resume(session_present);
                    return Some(input);
                }
                Ok(Some(Packet::ConnAck { code, .. })) => {
                    self.closed(Some(code));
                    return None;
                }
                Ok(Some(other)) => {
                    self.irregular(format!("{other:?} instead of a CONNACK"));
                    return None;
                }
                Ok(None) => {
                    if reader.read_buf(&mut input).await.ok()? == 0 {
                        return None;
                    }
                }
                Err(error) => {
                    self.irregular(error);
                    return None;
                }
            }
        }
    }

    /// Compares Session Present with what there should be ([MQTT-3.2.2-2] and the clauses after it).
    fn resume(&mut self, present: bool) {
        let kept = self.plan.session != Session::Clean;
        if present && (!kept || self.attempts == 1) {
            self.irregular("Session Present for a client that had none".to_owned());
        }
        if !present {
            if self.has_session {
                let line =
                    format!("{} with {} messages on the way", self.script.here(), self.in_flight.len());
                self.script.history.forgotten_sessions.push(line);
            }
            self.forget();
        }
        self.has_session = kept;
    }

    /// There is no session on the other side: what is not acknowledged becomes new messages, what is acknowledged is
    /// done.
    fn forget(&mut self) {
        for index in self.in_flight.forget() {
            self.script.message(index).once = false;
        }
        self.signals.completed.fetch_add(self.in_flight.drop_released(), Relaxed);
    }

    fn closed(&mut self, reason: Option<u8>) {
        self.signals.closes.fetch_add(1, Relaxed);
        self.script.history.closes.push(Close {
            client: self.script.client,
            reason,
            unacknowledged: self.in_flight.len(),
            at: Instant::now(),
        });
    }

    /// Sends and receives until the connection ends or there is nothing more to do.
    async fn converse(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        mut input: BytesMut,
    ) {
        let mut output = BytesMut::new();
        // TLS may hold what it has taken.
        let mut is_flushed = true;
        self.send_again(&mut output);
        let mut reason = None;
        let mut pace = pace(self.plan);
        let mut ping = tokio::time::interval(Duration::from_secs(1));
        loop {
            if self.signals.abandon.load(Relaxed) {
                return;
            }
            is_flushed &= output.is_empty();
            if self.is_done() && is_flushed {
                let _ = write(&mut writer, &mut BytesMut::from(&wire::DISCONNECT[..])).await;
                let _ = writer.shutdown().await;
                return;
            }
            let may_send = self.in_flight.len() < self.window && output.is_empty() && !self.has_no_more();
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if !matches!(read, Ok(1..)) {
                        let _ = read.inspect_err(|error| self.doubt(error));
                        return self.closed(reason);
                    }
                    loop {
                        match wire::take(&mut input, self.version) {
                            Ok(Some(packet)) => reason = self.received(packet, &mut output).or(reason),
                            Ok(None) => break,
                            Err(error) => {
                                self.irregular(error);
                                return self.closed(reason);
                            }
                        }
                    }
                }
                written = write(&mut writer, &mut output), if !is_flushed => {
                    is_flushed = true;
                    if written.is_err() {
                        // What the server said last may still be there to read.
                        output.clear();
                    }
                }
                _ = pace.tick(), if may_send => {
                    let index = self.script.next();
                    self.script.message(index).once = self.plan.qos == 2;
                    self.signals.sent.fetch_add(1, Relaxed);
                    let id = if self.plan.qos == 0 {
                        self.script.message(index).outcome = Outcome::Unanswerable;
                        0
                    } else {
                        self.in_flight.begin(index)
                    };
                    self.publish(id, index, false, &mut output);
                }
                _ = ping.tick() => output.extend_from_slice(&wire::PINGREQ),
            }
        }
    }

    /// Everything on the way once more, in its order: PUBLISH with DUP, and PUBREL ([MQTT-4.4.0-1]).
    fn send_again(&mut self, output: &mut BytesMut) {
        for (id, index, stage) in self.in_flight.again() {
            match stage {
                Stage::New => self.publish(id, index, false, output),
                Stage::Published => self.publish(id, index, true, output),
                Stage::Released { .. } => output.extend_from_slice(&wire::pubrel(id)),
            }
        }
    }

    fn publish(&mut self, id: u16, index: usize, dup: bool, output: &mut BytesMut) {
        let topic = self.script.topic(index);
        let (version, qos) = (self.version, self.plan.qos);
        let message = self.script.sends(index);
        let publish = Publish { qos, dup, ..Publish::new(version, &topic, &message.payload, id) };
        output.extend_from_slice(&publish.encode());
    }

    /// Takes a packet in; the reason code if it was a DISCONNECT.
    fn received(&mut self, packet: Packet, output: &mut BytesMut) -> Option<u8> {
        match packet {
            Packet::PubAck { id, reason, properties } if self.plan.qos == 1 => {
                if let Some((index, sent)) = self.answered("PUBACK", id, |flight| flight.finish(id)) {
                    self.note(index, sent, reason, &properties);
                }
            }
            Packet::PubRec { id, reason, properties } if self.plan.qos == 2 => {
                let refused = reason >= 0x80;
                let advance = |flight: &mut InFlight| {
                    if refused { flight.finish(id) } else { flight.release(id) }
                };
                let (index, sent) = self.answered("PUBREC", id, advance)?;
                self.note(index, sent, reason, &properties);
                if refused {
                    self.signals.completed.fetch_add(1, Relaxed);
                } else {
                    output.extend_from_slice(&wire::pubrel(id));
                }
            }
            Packet::PubComp { id, reason, .. } if self.plan.qos == 2 => match self.in_flight.complete(id) {
                Some(releases) => {
                    self.signals.completed.fetch_add(1, Relaxed);
                    // The first PUBCOMP may have been lost, and with it the identifier.
                    if reason != 0 && !(reason == NOT_FOUND && releases > 1) {
                        self.irregular(format!(
                            "PUBCOMP {id} with {reason:#04x} to PUBREL number {releases}"
                        ));
                    }
                }
                None => self.irregular(format!("PUBCOMP {id} that nothing waits for")),
            },
            Packet::PingResp => {
                self.signals.pings.fetch_add(1, Relaxed);
            }
            Packet::Disconnect { reason, .. } if self.version == Version::V5 => return Some(reason),
            other => self.irregular(format!("unexpected {other:?}")),
        }
        None
    }

    /// The message that `name` answers, which must be the oldest that waits for one.
    fn answered(
        &mut self,
        name: &str,
        id: u16,
        advance: impl FnOnce(&mut InFlight) -> Option<(usize, Instant)>,
    ) -> Option<(usize, Instant)> {
        let first = self.in_flight.oldest_published();
        let answered = advance(&mut self.in_flight);
        match (answered, first) {
            (None, _) => self.irregular(format!("{name} {id} that nothing waits for")),
            (_, Some(first)) if first != id => self.irregular(format!("{name} {id} before {first}")),
            _ => {}
        }
        answered
    }

    fn note(&mut self, index: usize, sent: Instant, reason: u8, properties: &Properties) {
        if reason < 0x80 {
            self.script.acknowledged(self.plan, self.signals, index, sent, receipt(properties));
        } else {
            self.script.refused(index, format!("{reason:#04x}"));
        }
    }
}

/// Writes everything. What is not written when this is dropped is still there, in `output` or in the writer.
async fn write(writer: &mut (impl AsyncWrite + Unpin), output: &mut BytesMut) -> io::Result<()> {
    writer.write_all_buf(output).await?;
    writer.flush().await
}

/// The receipt that the user properties of a PUBACK or PUBREC carry.
pub fn receipt(properties: &Properties) -> Option<Receipt> {
    Some(Receipt {
        id: properties.user("id")?.to_owned(),
        topic: properties.user("topic")?.to_owned(),
        partition: properties.user("partition")?.parse().ok()?,
        offset: properties.user("offset").and_then(|offset| offset.parse().ok()),
    })
}

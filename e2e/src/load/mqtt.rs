//! An MQTT client: pipelined QoS 1, and after a reconnect everything unacknowledged again in order.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::wire::{self, Connect, Packet, Properties, Publish, Version};
use super::{Plan, Script, Signals, pace};
use crate::checker::{Close, History, Outcome, Receipt};

const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);
/// Receive Maximum in CONNACK.
const RECEIVE_MAXIMUM: u8 = 0x21;

pub(super) async fn run(plan: &Plan, version: Version, script: Script, signals: &Signals) -> History {
    let mut client = Client {
        plan,
        version,
        signals,
        script,
        outstanding: VecDeque::new(),
        next_id: 0,
        window: plan.window,
    };
    loop {
        if signals.abandon.load(Relaxed) || client.is_done() {
            return client.script.history;
        }
        match timeout(PATIENCE, client.connect()).await {
            Ok(Some(stream)) => client.converse(stream).await,
            _ => sleep(RETRY).await,
        }
    }
}

struct Client<'a> {
    plan: &'a Plan,
    version: Version,
    signals: &'a Signals,
    script: Script,
    /// Packet identifier and index in the history, in the order of sending.
    outstanding: VecDeque<(u16, usize)>,
    next_id: u16,
    window: usize,
}

impl Client<'_> {
    fn is_done(&self) -> bool {
        self.outstanding.is_empty() && self.has_no_more()
    }

    fn has_no_more(&self) -> bool {
        self.script.left == 0 || self.signals.finish.load(Relaxed)
    }

    /// A connection with a good CONNACK.
    async fn connect(&mut self) -> Option<(TcpStream, BytesMut)> {
        let Ok(mut stream) = TcpStream::connect(self.plan.server).await else {
            self.signals.unreachable.fetch_add(1, Relaxed);
            return None;
        };
        stream.set_nodelay(true).ok()?;
        let client_id = format!("{}-{}", self.script.load, self.script.client);
        stream.write_all(&Connect::new(self.version, &client_id).encode()).await.ok()?;
        let mut input = BytesMut::with_capacity(16 << 10);
        loop {
            match wire::take(&mut input, self.version) {
                Ok(Some(Packet::ConnAck { code: 0, properties, .. })) => {
                    let allowed = properties.number(RECEIVE_MAXIMUM).unwrap_or(u32::from(u16::MAX));
                    self.window = self.plan.window.min(allowed as usize);
                    return Some((stream, input));
                }
                Ok(Some(Packet::ConnAck { code, .. })) => {
                    self.closed(Some(code));
                    return None;
                }
                Ok(Some(other)) => {
                    self.script.history.irregular.push(format!("{other:?} instead of a CONNACK"));
                    return None;
                }
                Ok(None) => {
                    if stream.read_buf(&mut input).await.ok()? == 0 {
                        return None;
                    }
                }
                Err(error) => {
                    self.script.history.irregular.push(error);
                    return None;
                }
            }
        }
    }

    fn closed(&mut self, reason: Option<u8>) {
        self.signals.closes.fetch_add(1, Relaxed);
        self.script.history.closes.push(Close {
            client: self.script.client,
            reason,
            unacknowledged: self.outstanding.len(),
            at: Instant::now(),
        });
    }

    /// Sends and receives until the connection ends or there is nothing more to do.
    async fn converse(&mut self, (stream, mut input): (TcpStream, BytesMut)) {
        let (mut reader, mut writer) = stream.into_split();
        let mut output = BytesMut::new();
        for index in self.outstanding.drain(..).map(|(_, index)| index).collect::<Vec<_>>() {
            self.publish(index, &mut output);
        }
        let mut reason = None;
        let mut pace = pace(self.plan);
        let mut ping = tokio::time::interval(Duration::from_secs(1));
        loop {
            if self.signals.abandon.load(Relaxed) {
                return;
            }
            if self.is_done() {
                let _ = writer.write_all(&wire::DISCONNECT).await;
                return;
            }
            let may_send = self.outstanding.len() < self.window && output.is_empty() && !self.has_no_more();
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if !matches!(read, Ok(1..)) {
                        return self.closed(reason);
                    }
                    loop {
                        match wire::take(&mut input, self.version) {
                            Ok(Some(packet)) => reason = self.received(packet).or(reason),
                            Ok(None) => break,
                            Err(error) => {
                                self.script.history.irregular.push(error);
                                return self.closed(reason);
                            }
                        }
                    }
                }
                written = writer.write_buf(&mut output), if !output.is_empty() => {
                    if written.is_err() {
                        // What the server said last may still be there to read.
                        output.clear();
                    }
                }
                _ = pace.tick(), if may_send => {
                    let index = self.script.next();
                    self.signals.sent.fetch_add(1, Relaxed);
                    self.publish(index, &mut output);
                }
                _ = ping.tick() => output.extend_from_slice(&wire::PINGREQ),
            }
        }
    }

    fn publish(&mut self, index: usize, output: &mut BytesMut) {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let topic = self.script.topic(index);
        let (version, id) = (self.version, self.next_id);
        let message = self.script.message(index);
        message.sends += 1;
        output.extend_from_slice(&Publish::new(version, &topic, &message.payload, id).encode());
        self.outstanding.push_back((id, index));
    }

    /// Takes a packet in; the reason code if it was a DISCONNECT.
    fn received(&mut self, packet: Packet) -> Option<u8> {
        match packet {
            Packet::PubAck { id, reason, properties } => self.acknowledged(id, reason, &properties),
            Packet::PingResp => {
                self.signals.pings.fetch_add(1, Relaxed);
            }
            Packet::Disconnect { reason, .. } if self.version == Version::V5 => return Some(reason),
            other => self.script.history.irregular.push(format!("unexpected {other:?}")),
        }
        None
    }

    fn acknowledged(&mut self, id: u16, reason: u8, properties: &Properties) {
        let Some(place) = self.outstanding.iter().position(|&(candidate, _)| candidate == id) else {
            self.script.history.irregular.push(format!("PUBACK {id} that nothing waits for"));
            return;
        };
        if place > 0 {
            let first = self.outstanding[0].0;
            self.script.history.irregular.push(format!("PUBACK {id} before {first}"));
        }
        let Some((_, index)) = self.outstanding.remove(place) else { return };
        let outcome = if reason < 0x80 {
            self.signals.acknowledged.fetch_add(1, Relaxed);
            Outcome::Acknowledged(receipt(properties))
        } else {
            Outcome::Refused(format!("{reason:#04x}"))
        };
        self.script.message(index).outcome = outcome;
    }
}

fn receipt(properties: &Properties) -> Option<Receipt> {
    Some(Receipt {
        id: properties.user("id")?.to_owned(),
        topic: properties.user("topic")?.to_owned(),
        partition: properties.user("partition")?.parse().ok()?,
        offset: properties.user("offset").and_then(|offset| offset.parse().ok()),
    })
}

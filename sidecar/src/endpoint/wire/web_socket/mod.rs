//! MQTT over WebSocket (MQTT 5 §6): a stream of bytes in binary frames, whose borders mean nothing.

mod frame;
mod upgrade;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use self::frame::{Control, Decoder, Found, Opcode};
pub(super) use self::upgrade::{UpgradeError, upgrade};
use super::Wire;
use super::unsent::Unsent;
use crate::budget::EndpointBudget;

/// Payload of one frame of ours: with its header it fits into one TLS record.
const PAYLOAD_BYTES: usize = 16_380;
/// Normal closure (RFC 6455 §7.4.1).
const NORMAL: u16 = 1_000;

thread_local! {
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A WebSocket, server side, over TCP or TLS.
#[derive(Debug)]
pub struct WebSocket {
    under: Wire,
    budget: Arc<EndpointBudget>,
    decoder: Decoder,
    /// What came behind the upgrade request.
    early: Vec<u8>,
    unsent: Unsent,
    pong: Option<Control>,
    closed_by_peer: bool,
    /// A close frame was sent, the last of ours.
    closing: bool,
}

impl WebSocket {
    /// Goes on with a connection that was upgraded.
    pub(super) fn new(under: Wire, early: Vec<u8>, budget: Arc<EndpointBudget>) -> Self {
        Self {
            under,
            budget,
            decoder: Decoder::default(),
            early,
            unsent: Unsent::default(),
            pong: None,
            closed_by_peer: false,
            closing: false,
        }
    }

    pub(super) fn under(&mut self) -> &mut Wire {
        &mut self.under
    }

    pub(super) fn is_starved(&self) -> bool {
        self.under.is_starved()
    }

    pub(super) fn rehome(self) -> io::Result<Self> {
        Ok(Self { under: self.under.rehome()?, ..self })
    }

    pub(super) fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.closed_by_peer {
            let read = match self.early.len().min(into.len()) {
                0 => self.under.try_read(into)?,
                count => {
                    if let (Some(into), Some(early)) = (into.get_mut(..count), self.early.get(..count)) {
                        into.copy_from_slice(early);
                    }
                    self.early.drain(..count);
                    count
                }
            };
            if read == 0 {
                return Ok(0);
            }
            match self.decoder.decode(into.get_mut(..read).unwrap_or_default()) {
                Ok(found) => {
                    let payload = found.payload;
                    self.react(found)?;
                    if payload > 0 {
                        return Ok(payload);
                    }
                }
                Err(violation) => {
                    self.close(violation.code)?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, violation));
                }
            }
        }
        Ok(0)
    }

    fn react(&mut self, found: Found) -> io::Result<()> {
        if let Some(ping) = found.ping {
            // An older one that could not be answered yet needs no answer any more.
            self.pong = Some(ping);
        }
        if let Some(close) = found.close {
            self.closed_by_peer = true;
            let code = close.as_slice().first_chunk().map_or(NORMAL, |code| u16::from_be_bytes(*code));
            self.close(code)?;
        }
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Sends a close frame, the last of ours, as far as the layer below takes it.
    fn close(&mut self, code: u16) -> io::Result<()> {
        if std::mem::replace(&mut self.closing, true) {
            return Ok(());
        }
        self.pong = None;
        match self.send(Opcode::Close, &code.to_be_bytes()).and_then(|()| self.flush()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closing {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.flush()?;
        let payload = bytes.get(..PAYLOAD_BYTES).unwrap_or(bytes);
        self.send(Opcode::Binary, payload)?;
        Ok(payload.len())
    }

    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        self.flush()
    }

    pub(super) fn try_close(&mut self) -> io::Result<()> {
        self.close(NORMAL)?;
        self.flush()?;
        self.under.try_close()
    }

    pub(super) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() || self.closed_by_peer {
            return Poll::Ready(Ok(()));
        }
        let waiting = !self.unsent.is_empty() || self.pong.is_some();
        if waiting && self.under.poll_write_ready(context).is_ready() {
            match self.flush() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
        self.under.poll_read_ready(context)
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.under.poll_write_ready(context)
    }

    /// Hands a frame down; what is not taken is kept.
    fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        FRAME.with_borrow_mut(|frame| {
            frame.clear();
            frame::encode(opcode, payload, frame);
            let Self { under, unsent, budget, .. } = self;
            unsent.send(frame, budget, |bytes| under.try_write(bytes))
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { under, unsent, .. } = self;
        unsent.flush(|bytes| under.try_write(bytes))?;
        if let Some(pong) = self.pong.take() {
            self.send(Opcode::Pong, pong.as_slice())?;
        }
        self.under.try_flush()
    }
}

//! The packets that this server sends, written one after the other into one buffer.

use std::io::Write as _;

use super::{Filters, Reason, Version};
use crate::store::{MessageId, Receipt};

/// What CONNACK says (§3.2).
#[derive(Clone, Debug)]
pub struct ConnAck<'a> {
    /// Highest QoS that is served.
    pub maximum_qos: u8,
    /// Receive Maximum.
    pub receive_maximum: u16,
    /// Maximum Packet Size.
    pub maximum_packet_size: u32,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: u16,
    /// A session goes on that the client had before (`[MQTT-3.2.2-2]`).
    pub session_present: bool,
    /// For how many seconds the session is kept, where that is not what the client asked for.
    pub session_expiry_seconds: Option<u32>,
    /// Server Keep Alive in seconds, where it is not what the client asked for.
    pub server_keep_alive_seconds: Option<u16>,
    /// The identifier given to a client that brought none.
    pub assigned_client_id: Option<&'a str>,
    /// The client's Maximum Packet Size.
    pub room: usize,
}

/// The packet that says that a PUBLISH is stored, or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Acknowledgement {
    /// At QoS 1.
    PubAck = 0x40,
    /// At QoS 2.
    PubRec = 0x50,
}

/// Writes packets of one protocol version.
#[derive(Debug)]
pub struct Encoder<'b> {
    version: Version,
    out: &'b mut Vec<u8>,
}

impl<'b> Encoder<'b> {
    /// Appends to `out`.
    pub fn new(version: Version, out: &'b mut Vec<u8>) -> Self {
        Self { version, out }
    }

    /// A CONNACK that lets the client in. Whether it fits what the client takes: it is not written
    /// if what it must say does not (`[MQTT-3.1.2-24]`).
    #[must_use]
    pub fn connack(&mut self, connack: &ConnAck<'_>) -> bool {
        if self.version == Version::V3 {
            self.out.extend_from_slice(&[0x20, 2, u8::from(connack.session_present), 0]);
            return true;
        }
        let mut properties = Vec::with_capacity(64);
        if connack.maximum_qos < 2 {
            properties.extend_from_slice(&[0x24, connack.maximum_qos]);
        }
        properties.push(0x21);
        properties.extend_from_slice(&connack.receive_maximum.to_be_bytes());
        properties.push(0x27);
        properties.extend_from_slice(&connack.maximum_packet_size.to_be_bytes());
        if let Some(seconds) = connack.session_expiry_seconds {
            properties.push(0x11);
            properties.extend_from_slice(&seconds.to_be_bytes());
        }
        if let Some(seconds) = connack.server_keep_alive_seconds {
            properties.push(0x13);
            properties.extend_from_slice(&seconds.to_be_bytes());
        }
        if let Some(client_id) = connack.assigned_client_id {
            properties.push(0x12);
            text(&mut properties, client_id.as_bytes());
        }
        let [high, low] = connack.topic_alias_maximum.to_be_bytes();
        // What a client can do without. Wildcard, identified and shared subscriptions: nothing is delivered.
        for optional in [&[0x22, high, low][..], &[0x28, 0], &[0x29, 0], &[0x2A, 0]] {
            if connack_bytes(properties.len() + optional.len()) <= connack.room {
                properties.extend_from_slice(optional);
            }
        }
        if connack_bytes(properties.len()) > connack.room {
            return false;
        }
        self.header(0x20, 2 + variable_length(properties.len()) + properties.len());
        self.out.extend_from_slice(&[u8::from(connack.session_present), Reason::Success as u8]);
        variable(self.out, properties.len());
        self.out.extend_from_slice(&properties);
        true
    }

    /// A CONNACK that refuses. 3.1.1 has return codes of its own, and none for most reasons: then nothing is written
    /// and the connection is just closed.
    pub fn connack_refused(&mut self, reason: Reason) {
        if self.version == Version::V5 {
            self.out.extend_from_slice(&[0x20, 3, 0, reason as u8, 0]);
            return;
        }
        let code = match reason {
            Reason::UnsupportedProtocolVersion => 1,
            Reason::ClientIdentifierNotValid => 2,
            Reason::ServerBusy | Reason::ServerShuttingDown | Reason::ConnectionRateExceeded => 3,
            Reason::BadUserNameOrPassword => 4,
            Reason::NotAuthorized => 5,
            _ => return,
        };
        self.out.extend_from_slice(&[0x20, 2, 0, code]);
    }

    /// A PUBACK or PUBREC for a stored message. With `room` for it, in bytes of the whole packet, MQTT 5 carries the
    /// receipt in user properties.
    pub fn stored(
        &mut self,
        packet: Acknowledgement,
        packet_id: u16,
        id: &MessageId,
        receipt: &Receipt,
        room: usize,
    ) {
        let (first, [high, low]) = (packet as u8, packet_id.to_be_bytes());
        if self.version == Version::V3 || room == 0 {
            self.out.extend_from_slice(&[first, 2, high, low]);
            return;
        }
        let partition = Digits::of(i64::from(receipt.partition()));
        let offset = receipt.offset().map(Digits::of);
        id.with_text(|id| {
            let properties = [
                Some(("id", id.as_bytes())),
                Some(("topic", receipt.topic().as_bytes())),
                Some(("partition", partition.as_bytes())),
                offset.as_ref().map(|offset| ("offset", offset.as_bytes())),
            ];
            let properties = properties.iter().flatten();
            let length: usize = properties.clone().map(|(name, value)| 5 + name.len() + value.len()).sum();
            let remaining = 3 + variable_length(length) + length;
            if 1 + variable_length(remaining) + remaining > room {
                self.out.extend_from_slice(&[first, 2, high, low]);
                return;
            }
            self.header(first, remaining);
            self.out.extend_from_slice(&[high, low, Reason::Success as u8]);
            variable(self.out, length);
            for (name, value) in properties {
                self.out.push(0x26);
                text(self.out, name.as_bytes());
                text(self.out, value);
            }
        });
    }

    /// A PUBACK or PUBREC that refuses a message for good, with the code of a [`Reason`]; only MQTT 5 can say that.
    /// Without a code it was the store that refused it.
    pub fn refused(&mut self, packet: Acknowledgement, packet_id: u16, code: u8) {
        let [high, low] = packet_id.to_be_bytes();
        let code = if code == 0 { Reason::ImplementationSpecific as u8 } else { code };
        self.out.extend_from_slice(&[packet as u8, 3, high, low, code]);
    }

    /// A SUBACK that refuses each subscription: nothing is delivered by this server. Whether it fits `room`, in bytes of
    /// the whole packet; else it is not written.
    #[must_use]
    pub fn suback_refused(&mut self, packet_id: u16, filters: &Filters<'_>, room: usize) -> bool {
        let version = self.version;
        let codes = filters.refusals().map(|reason| match version {
            Version::V3 => 0x80,
            Version::V5 => reason as u8,
        });
        self.answer_filters(0x90, packet_id, filters.len(), codes, room)
    }

    /// An UNSUBACK: there was no such subscription. Whether it fits `room`; else it is not written.
    #[must_use]
    pub fn unsuback(&mut self, packet_id: u16, filters: &Filters<'_>, room: usize) -> bool {
        let count = if self.version == Version::V5 { filters.len() } else { 0 };
        self.answer_filters(0xB0, packet_id, count, std::iter::repeat_n(0x11, count), room)
    }

    fn answer_filters(
        &mut self,
        first: u8,
        packet_id: u16,
        count: usize,
        codes: impl Iterator<Item = u8>,
        room: usize,
    ) -> bool {
        let properties = usize::from(self.version == Version::V5);
        let remaining = 2 + properties + count;
        if 1 + variable_length(remaining) + remaining > room {
            return false;
        }
        self.header(first, remaining);
        self.out.extend_from_slice(&packet_id.to_be_bytes());
        self.out.extend(std::iter::repeat_n(0, properties));
        self.out.extend(codes);
        true
    }

    /// A PUBCOMP for a handshake that has ended.
    pub fn pubcomp(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.out.extend_from_slice(&[0x70, 2, high, low]);
    }

    /// A PUBCOMP for a PUBREL whose identifier is not known.
    pub fn pubcomp_unknown(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        match self.version {
            Version::V3 => self.out.extend_from_slice(&[0x70, 2, high, low]),
            Version::V5 => self.out.extend_from_slice(&[0x70, 3, high, low, 0x92]),
        }
    }

    /// A PINGRESP.
    pub fn pingresp(&mut self) {
        self.out.extend_from_slice(&[0xD0, 0]);
    }

    /// A DISCONNECT; only an MQTT 5 server sends one.
    pub fn disconnect(&mut self, reason: Reason) {
        if self.version == Version::V5 {
            self.out.extend_from_slice(&[0xE0, 2, reason as u8, 0]);
        }
    }

    fn header(&mut self, first: u8, remaining: usize) {
        self.out.push(first);
        variable(self.out, remaining);
    }
}

fn variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// The length of a CONNACK with so many bytes of properties.
fn connack_bytes(properties: usize) -> usize {
    let remaining = 2 + variable_length(properties) + properties;
    1 + variable_length(remaining) + remaining
}

fn variable_length(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        _ => 3,
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A number in decimal, without an allocation.
struct Digits {
    bytes: [u8; 20],
    length: usize,
}

impl Digits {
    fn of(value: i64) -> Self {
        let mut bytes = [0; 20];
        let mut rest = &mut bytes[..];
        // A 64-bit number has at most 20 digits and sign: writing it cannot fail.
        let _ = write!(rest, "{value}");
        let length = 20 - rest.len();
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

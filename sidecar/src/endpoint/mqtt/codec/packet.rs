//! Framing, and the packets that a client may send after CONNECT.

use std::num::NonZeroU16;

use super::filters::Filters;
use super::properties::{Place, Properties, Property};
use super::reader::Reader;
use super::{Connect, Malformed, Reason, Version};

/// MQTT Control Packet types that a client sends (§2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum PacketType {
    Connect,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    Unsubscribe,
    PingReq,
    Disconnect,
    Auth,
}

/// Where the next packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// More bytes are needed to know.
    Unknown,
    /// A packet of `total` bytes, of which the first `header` are the fixed header.
    Packet {
        /// Length of the fixed header.
        header: usize,
        /// Length of the whole packet.
        total: usize,
    },
}

/// Finds the end of the packet at the start of `bytes` (§2.1.4).
pub fn frame(bytes: &[u8]) -> Result<Frame, Malformed> {
    let mut remaining = 0;
    for index in 1..=4 {
        let Some(byte) = bytes.get(index) else { return Ok(Frame::Unknown) };
        remaining |= usize::from(byte & 0x7F) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            return Ok(Frame::Packet { header: index + 1, total: index + 1 + remaining });
        }
    }
    Err(Malformed::packet("Remaining Length has more than four bytes"))
}

/// A PUBLISH.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Sent before, says the client.
    pub dup: bool,
    /// 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Empty when a topic alias stands for it.
    pub topic: &'a str,
    /// Present above QoS 0.
    pub packet_id: Option<NonZeroU16>,
    /// MQTT 5 only.
    pub properties: Properties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

/// A packet from a client.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    Publish(Publish<'a>),
    PubRel {
        packet_id: NonZeroU16,
    },
    Subscribe {
        packet_id: NonZeroU16,
        filters: Filters<'a>,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Filters<'a>,
    },
    PingReq,
    Disconnect {
        reason: u8,
        /// MQTT 5: takes the place of the interval in CONNECT.
        session_expiry_seconds: Option<u32>,
    },
    Auth,
    /// PUBACK, PUBREC, PUBCOMP: answers to what we never send.
    Unsolicited,
}

impl<'a> Packet<'a> {
    /// Decodes a whole packet. `version` is that of the CONNECT before it; without one only CONNECT is a packet.
    pub fn decode(version: Option<Version>, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Frame::Packet { header, .. } = frame(bytes)? else {
            return Err(Malformed::packet("the packet ends too early"));
        };
        let (Some(first), Some(body)) = (bytes.first(), bytes.get(header..)) else {
            return Err(Malformed::packet("the packet ends too early"));
        };
        let kind = packet_type(*first)?;
        let reader = Reader::new(body);
        if version == Some(Version::V5) {
            shortest_length(bytes, header)?;
        }
        match (version, kind) {
            (None, PacketType::Connect) => {
                Connect::decode(reader).map(|connect| Self::Connect(Box::new(connect)))
            }
            // [MQTT-3.1.0-1], [MQTT-3.1.0-2]
            (None, _) => Err(Malformed::protocol("the first packet is not CONNECT")),
            (Some(_), PacketType::Connect) => Err(Malformed::protocol("a second CONNECT")),
            (Some(version), kind) => Self::decode_after_connect(version, kind, *first, reader),
        }
    }

    fn decode_after_connect(
        version: Version,
        kind: PacketType,
        first: u8,
        mut reader: Reader<'a>,
    ) -> Result<Self, Malformed> {
        match kind {
            PacketType::Publish => Publish::decode(version, first, reader).map(Self::Publish),
            PacketType::PubRel => {
                let packet_id = packet_id(&mut reader)?;
                released(version, reader)?;
                Ok(Self::PubRel { packet_id })
            }
            PacketType::Subscribe | PacketType::Unsubscribe => {
                let packet_id = packet_id(&mut reader)?;
                let properties = match version {
                    Version::V5 => Properties::read(&mut reader, Place::Packet(kind))?,
                    Version::V3 => Properties::default(),
                };
                let filters = Filters::decode(version, kind, properties, reader)?;
                Ok(match kind {
                    PacketType::Subscribe => Self::Subscribe { packet_id, filters },
                    _ => Self::Unsubscribe { packet_id, filters },
                })
            }
            PacketType::PingReq => reader.end("PINGREQ has a body").map(|()| Self::PingReq),
            PacketType::Disconnect => Self::disconnect(version, reader),
            PacketType::Auth if version == Version::V3 => {
                Err(Malformed::packet("AUTH is not a packet of 3.1.1"))
            }
            PacketType::Auth => Ok(Self::Auth),
            PacketType::Connect | PacketType::PubAck | PacketType::PubRec | PacketType::PubComp => {
                Ok(Self::Unsolicited)
            }
        }
    }

    fn disconnect(version: Version, mut reader: Reader<'a>) -> Result<Self, Malformed> {
        if reader.is_empty() {
            return Ok(Self::Disconnect { reason: 0, session_expiry_seconds: None });
        }
        if version == Version::V3 {
            return Err(Malformed::packet("DISCONNECT has a body"));
        }
        let reason = reader.u8()?;
        // [MQTT-3.14.2-1]
        if !DISCONNECT_REASONS.contains(&reason) {
            return Err(Malformed::protocol("a reason code that a client's DISCONNECT cannot have"));
        }
        let properties = optional_properties(&mut reader, PacketType::Disconnect)?;
        reader.end("DISCONNECT is longer than its parts")?;
        let session_expiry_seconds = properties.iter().find_map(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        });
        Ok(Self::Disconnect { reason, session_expiry_seconds })
    }
}

impl<'a> Publish<'a> {
    fn decode(version: Version, first: u8, mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let (dup, qos, retain) = (first & 0x08 != 0, first >> 1 & 0x03, first & 0x01 != 0);
        if qos == 3 {
            return Err(Malformed::packet("PUBLISH has QoS 3"));
        }
        if qos == 0 && dup {
            // [MQTT-3.3.1-2]
            return Err(Malformed::packet("PUBLISH has DUP at QoS 0"));
        }
        let topic = reader.text()?;
        let packet_id = if qos > 0 { Some(packet_id(&mut reader)?) } else { None };
        let properties = match version {
            Version::V5 => Properties::read(&mut reader, Place::Packet(PacketType::Publish))?,
            Version::V3 => Properties::default(),
        };
        if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
            // [MQTT-3.3.2-2]
            let reason = Reason::TopicNameInvalid;
            return Err(Malformed { reason, what: "a topic name contains a wildcard" });
        }
        if topic.is_empty() && version == Version::V3 {
            return Err(Malformed::packet("a topic name is empty"));
        }
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }
}

fn packet_id(reader: &mut Reader<'_>) -> Result<NonZeroU16, Malformed> {
    // [MQTT-2.2.1-3]
    NonZeroU16::new(reader.u16()?).ok_or(Malformed::protocol("a packet identifier is 0"))
}

/// The reason codes of DISCONNECT (§3.14.2.1) that a client may send.
const DISCONNECT_REASONS: [u8; 14] =
    [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

/// Properties that are left out with their length when there are none and nothing follows (§3.6.2.2, §3.14.2.2).
fn optional_properties<'a>(reader: &mut Reader<'a>, kind: PacketType) -> Result<Properties<'a>, Malformed> {
    if reader.is_empty() {
        return Ok(Properties::default());
    }
    Properties::read(reader, Place::Packet(kind))
}

/// What follows the identifier in a PUBREL: in MQTT 5 a reason code, success or 0x92, and properties.
fn released(version: Version, mut reader: Reader<'_>) -> Result<(), Malformed> {
    if version == Version::V5 && !reader.is_empty() {
        // [MQTT-3.6.2-1]
        if !matches!(reader.u8()?, 0x00 | 0x92) {
            return Err(Malformed::protocol("a reason code that PUBREL cannot have"));
        }
        optional_properties(&mut reader, PacketType::PubRel)?;
    }
    reader.end("PUBREL is longer than its parts")
}

/// MQTT 5 wants Remaining Length in as few bytes as it takes (`[MQTT-1.5.5-1]`).
fn shortest_length(bytes: &[u8], header: usize) -> Result<(), Malformed> {
    if header > 2 && bytes.get(header - 1) == Some(&0) {
        return Err(Malformed::packet("Remaining Length is longer than needed"));
    }
    Ok(())
}

/// The type in the first byte; the flags of all but PUBLISH are fixed (§2.1.3).
fn packet_type(first: u8) -> Result<PacketType, Malformed> {
    let (kind, flags) = match first >> 4 {
        1 => (PacketType::Connect, 0),
        3 => return Ok(PacketType::Publish),
        4 => (PacketType::PubAck, 0),
        5 => (PacketType::PubRec, 0),
        6 => (PacketType::PubRel, 2),
        7 => (PacketType::PubComp, 0),
        8 => (PacketType::Subscribe, 2),
        10 => (PacketType::Unsubscribe, 2),
        12 => (PacketType::PingReq, 0),
        14 => (PacketType::Disconnect, 0),
        15 => (PacketType::Auth, 0),
        0 => return Err(Malformed::packet("packet type 0 is reserved")),
        _ => return Err(Malformed::protocol("a packet type that a client does not send")),
    };
    if first & 0x0F == flags { Ok(kind) } else { Err(Malformed::packet("reserved flags are set")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_in_place() {
        let bytes = b"\x32\x0a\x00\x03a/b\x00\x07xyz";
        assert_eq!(frame(bytes), Ok(Frame::Packet { header: 2, total: 12 }));
        let Ok(Packet::Publish(publish)) = Packet::decode(Some(Version::V3), bytes) else { panic!() };
        assert_eq!(
            (publish.topic, publish.packet_id.unwrap().get(), publish.payload),
            ("a/b", 7, &b"xyz"[..])
        );
    }

    #[test]
    fn a_fault_has_the_reason_of_its_clause() {
        let fault = |version, bytes: &[u8]| Packet::decode(Some(version), bytes).unwrap_err().reason;
        assert_eq!(fault(Version::V5, b"\x36\x03\x00\x01a"), Reason::MalformedPacket, "QoS 3");
        assert_eq!(fault(Version::V5, b"\x30\x04\x00\x01+\x00"), Reason::TopicNameInvalid);
        assert_eq!(
            fault(Version::V5, b"\x32\x06\x00\x01a\x00\x00\x00"),
            Reason::ProtocolError,
            "packet id 0"
        );
        assert_eq!(fault(Version::V5, b"\x30\x05\x00\x02a\x00\x00"), Reason::MalformedPacket, "U+0000");
        assert_eq!(fault(Version::V5, b"\x82\x03\x00\x01\x00"), Reason::ProtocolError, "no filter");
        assert_eq!(fault(Version::V3, b"\xf0\x00"), Reason::MalformedPacket, "AUTH in 3.1.1");
        assert_eq!(Packet::decode(None, b"\xc0\x00").unwrap_err().reason, Reason::ProtocolError);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, five: bool) {
            let version = if five { Version::V5 } else { Version::V3 };
            let _ = frame(&bytes);
            let _ = Packet::decode(None, &bytes);
            if let Ok(Packet::Publish(publish)) = Packet::decode(Some(version), &bytes) {
                publish.properties.iter().count();
            }
        }
    }
}

//! As much of MQTT 3.1.1 and 5 as a publishing client needs, written for tests: it sees every PUBACK as it came, and
//! can also write what no good client would.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Session Expiry Interval in CONNECT, CONNACK and DISCONNECT.
pub const SESSION_EXPIRY: u8 = 0x11;
/// Will Delay Interval.
const WILL_DELAY: u8 = 0x18;

/// Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    ConnAck {
        /// Return code (3.1.1) or reason code.
        code: u8,
        /// Session Present.
        session_present: bool,
        /// Properties, none on 3.1.1.
        properties: Properties,
    },
    /// PUBACK.
    PubAck {
        /// Packet identifier.
        id: u16,
        /// Reason code, 0 where it was left out.
        reason: u8,
        /// Properties.
        properties: Properties,
    },
    /// PUBREC.
    PubRec {
        /// Packet identifier.
        id: u16,
        /// Reason code, 0 where it was left out.
        reason: u8,
        /// Properties.
        properties: Properties,
    },
    /// PUBCOMP.
    PubComp {
        /// Packet identifier.
        id: u16,
        /// Reason code, 0 where it was left out.
        reason: u8,
        /// Properties.
        properties: Properties,
    },
    /// SUBACK.
    SubAck {
        /// Packet identifier.
        id: u16,
        /// One code for each filter.
        codes: Vec<u8>,
    },
    /// UNSUBACK.
    UnsubAck {
        /// Packet identifier.
        id: u16,
    },
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect {
        /// Reason code.
        reason: u8,
        /// Properties.
        properties: Properties,
    },
    /// Anything else.
    Other {
        /// The first byte of the packet.
        first: u8,
    },
}

/// The MQTT 5 properties that tests look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Numbers, by property identifier.
    pub numbers: Vec<(u8, u32)>,
    /// Strings and binary data, by property identifier.
    pub texts: Vec<(u8, String)>,
    /// User properties in order.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// A numeric property.
    pub fn number(&self, identifier: u8) -> Option<u32> {
        self.numbers.iter().find(|(found, _)| *found == identifier).map(|&(_, value)| value)
    }

    /// A text property.
    pub fn text(&self, identifier: u8) -> Option<&str> {
        self.texts.iter().find(|(found, _)| *found == identifier).map(|(_, value)| value.as_str())
    }

    /// The first user property of this name.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A CONNECT to write.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Protocol version.
    pub version: Version,
    /// Client identifier.
    pub client_id: String,
    /// Clean session or clean start.
    pub clean: bool,
    /// Keep-alive in seconds.
    pub keep_alive: u16,
    /// Encoded MQTT 5 properties, without their length.
    pub properties: Vec<u8>,
    /// Will: topic, payload, QoS.
    pub will: Option<(String, Vec<u8>, u8)>,
    /// Encoded MQTT 5 properties of the Will, without their length.
    pub will_properties: Vec<u8>,
    /// User name and password.
    pub login: Option<(String, Vec<u8>)>,
}

impl Connect {
    /// A clean connection with a keep-alive of a minute.
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive: 60,
            properties: Vec::new(),
            will: None,
            will_properties: Vec::new(),
            login: None,
        }
    }

    /// A connection that goes on with its session, or begins one: Clean Start 0, in MQTT 5 with this Session Expiry
    /// Interval.
    pub fn kept(version: Version, client_id: &str, expiry_seconds: u32) -> Self {
        Self { clean: false, ..Self::new(version, client_id) }.expiry(expiry_seconds)
    }

    /// The same, with this Session Expiry Interval in MQTT 5.
    #[must_use]
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.properties.push(SESSION_EXPIRY);
        self.properties.extend_from_slice(&seconds.to_be_bytes());
        self
    }

    /// The same, with a Will of QoS 1 that MQTT 5 delays for so long.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &[u8], delay_seconds: u32) -> Self {
        self.will = Some((topic.to_owned(), payload.to_vec(), 1));
        if delay_seconds > 0 {
            self.will_properties.push(WILL_DELAY);
            self.will_properties.extend_from_slice(&delay_seconds.to_be_bytes());
        }
        self
    }

    /// The same, with user name and password.
    #[must_use]
    pub fn login(mut self, user: &str, password: impl Into<Vec<u8>>) -> Self {
        self.login = Some((user.to_owned(), password.into()));
        self
    }

    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_string(&mut body, b"MQTT");
        body.put_u8(if self.version == Version::V5 { 5 } else { 4 });
        let will = self.will.as_ref().map_or(0, |(.., qos)| 0x04 | (qos << 3));
        let login = if self.login.is_some() { 0xC0 } else { 0 };
        body.put_u8(login | will | if self.clean { 0x02 } else { 0 });
        body.put_u16(self.keep_alive);
        if self.version == Version::V5 {
            put_length(&mut body, self.properties.len());
            body.extend_from_slice(&self.properties);
        }
        put_string(&mut body, self.client_id.as_bytes());
        if let Some((topic, payload, _)) = &self.will {
            if self.version == Version::V5 {
                put_length(&mut body, self.will_properties.len());
                body.extend_from_slice(&self.will_properties);
            }
            put_string(&mut body, topic.as_bytes());
            put_string(&mut body, payload);
        }
        if let Some((user, password)) = &self.login {
            put_string(&mut body, user.as_bytes());
            put_string(&mut body, password);
        }
        packet(0x10, &body)
    }
}

/// A PUBLISH to write.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// Protocol version.
    pub version: Version,
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS.
    pub qos: u8,
    /// Packet identifier, written at QoS 1 and 2.
    pub id: u16,
    /// DUP flag.
    pub dup: bool,
    /// Encoded MQTT 5 properties, without their length.
    pub properties: &'a [u8],
}

impl<'a> Publish<'a> {
    /// A QoS 1 PUBLISH without properties.
    pub fn new(version: Version, topic: &'a str, payload: &'a [u8], id: u16) -> Self {
        Self { version, topic, payload, qos: 1, id, dup: false, properties: &[] }
    }

    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.payload.len() + self.topic.len() + 16);
        put_string(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.put_u16(self.id);
        }
        if self.version == Version::V5 {
            put_length(&mut body, self.properties.len());
            body.extend_from_slice(self.properties);
        }
        body.extend_from_slice(self.payload);
        packet(0x30 | (self.qos << 1) | (u8::from(self.dup) << 3), &body)
    }
}

/// SUBSCRIBE to one filter at QoS 1.
pub fn subscribe(version: Version, id: u16, filter: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16(id);
    if version == Version::V5 {
        body.put_u8(0);
    }
    put_string(&mut body, filter.as_bytes());
    body.put_u8(1);
    packet(0x82, &body)
}

/// PUBREL, in the short form that means success.
pub fn pubrel(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x62, 2, high, low]
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT, normal.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// DISCONNECT of MQTT 5 with a reason code, and where wanted another Session Expiry Interval.
pub fn disconnect(reason: u8, expiry_seconds: Option<u32>) -> Vec<u8> {
    let mut body = vec![reason];
    if let Some(seconds) = expiry_seconds {
        body.extend([5, SESSION_EXPIRY]);
        body.extend_from_slice(&seconds.to_be_bytes());
    }
    packet(0xE0, &body)
}

/// A user property (MQTT 5 §2.2.2.2), encoded.
pub fn user_property(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0x26];
    put_string(&mut out, name.as_bytes());
    put_string(&mut out, value.as_bytes());
    out
}

/// A packet of any first byte and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    put_length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

/// A Variable Byte Integer (MQTT 5 §1.5.5).
pub fn put_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            out.push(digit);
            return;
        }
        out.push(digit | 0x80);
    }
}

/// Text or binary data behind its two-byte length.
pub fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.put_u16(text.len() as u16);
    out.extend_from_slice(text);
}

/// Takes the next whole packet from what was read.
///
/// # Errors
/// When what the server wrote is not MQTT.
pub fn take(buffer: &mut BytesMut, version: Version) -> Result<Option<Packet>, String> {
    let mut length = 0usize;
    let mut header = 1;
    loop {
        let Some(&digit) = buffer.get(header) else { return Ok(None) };
        length |= usize::from(digit & 0x7F) << (7 * (header - 1));
        header += 1;
        if digit & 0x80 == 0 {
            break;
        }
        if header > 4 {
            return Err("a remaining length of more than four bytes".into());
        }
    }
    if buffer.len() < header + length {
        return Ok(None);
    }
    let first = buffer[0];
    buffer.advance(header);
    let body = buffer.split_to(length).freeze();
    decode(first, body, version).map(Some).ok_or_else(|| format!("a packet {first:#04x} that is cut short"))
}

fn decode(first: u8, mut body: Bytes, version: Version) -> Option<Packet> {
    let five = version == Version::V5;
    Some(match first >> 4 {
        2 => {
            let session_present = get_u8(&mut body)? & 1 == 1;
            let code = get_u8(&mut body)?;
            let properties = if five { properties(&mut body)? } else { Properties::default() };
            Packet::ConnAck { code, session_present, properties }
        }
        kind @ (4 | 5 | 7) => {
            let id = get_u16(&mut body)?;
            let reason = if body.is_empty() { 0 } else { get_u8(&mut body)? };
            let properties = if body.is_empty() { Properties::default() } else { properties(&mut body)? };
            match kind {
                4 => Packet::PubAck { id, reason, properties },
                5 => Packet::PubRec { id, reason, properties },
                _ => Packet::PubComp { id, reason, properties },
            }
        }
        9 => {
            let id = get_u16(&mut body)?;
            if five {
                properties(&mut body)?;
            }
            Packet::SubAck { id, codes: body.to_vec() }
        }
        11 => Packet::UnsubAck { id: get_u16(&mut body)? },
        13 => Packet::PingResp,
        14 => {
            let reason = if body.is_empty() { 0 } else { get_u8(&mut body)? };
            let properties = if body.is_empty() { Properties::default() } else { properties(&mut body)? };
            Packet::Disconnect { reason, properties }
        }
        _ => Packet::Other { first },
    })
}

fn properties(body: &mut Bytes) -> Option<Properties> {
    let length = get_length(body)?;
    if body.len() < length {
        return None;
    }
    let mut rest = body.split_to(length);
    let mut found = Properties::default();
    while !rest.is_empty() {
        let identifier = get_u8(&mut rest)?;
        match identifier {
            0x26 => found.user.push((get_text(&mut rest)?, get_text(&mut rest)?)),
            // Assigned Client Identifier, Response Information, Server Reference, Reason String, methods and data.
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => found.texts.push((identifier, get_text(&mut rest)?)),
            0x11 | 0x27 => found.numbers.push((identifier, (rest.len() >= 4).then(|| rest.get_u32())?)),
            0x13 | 0x21 | 0x22 => found.numbers.push((identifier, get_u16(&mut rest)?.into())),
            _ => found.numbers.push((identifier, get_u8(&mut rest)?.into())),
        }
    }
    Some(found)
}

fn get_u8(body: &mut Bytes) -> Option<u8> {
    (!body.is_empty()).then(|| body.get_u8())
}

fn get_u16(body: &mut Bytes) -> Option<u16> {
    (body.len() >= 2).then(|| body.get_u16())
}

fn get_text(body: &mut Bytes) -> Option<String> {
    let length = usize::from(get_u16(body)?);
    (body.len() >= length).then(|| String::from_utf8_lossy(&body.split_to(length)).into_owned())
}

fn get_length(body: &mut Bytes) -> Option<usize> {
    let mut length = 0;
    for shift in 0..4 {
        let digit = get_u8(body)?;
        length |= usize::from(digit & 0x7F) << (7 * shift);
        if digit & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_puback_with_a_receipt_is_read_after_all_its_bytes_came() {
        let mut body = vec![0, 7, 0];
        let user = user_property("topic", "t");
        put_length(&mut body, user.len());
        body.extend(user);
        let whole = packet(0x40, &body);
        let mut buffer = BytesMut::from(&whole[..whole.len() - 1]);
        assert_eq!(take(&mut buffer, Version::V5), Ok(None));
        buffer.extend_from_slice(&whole[whole.len() - 1..]);
        let Ok(Some(Packet::PubAck { id: 7, reason: 0, properties })) = take(&mut buffer, Version::V5) else {
            panic!("not a PUBACK");
        };
        assert_eq!(properties.user("topic"), Some("t"));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_short_puback_means_success() {
        let mut buffer = BytesMut::from(&[0x40, 2, 1, 0][..]);
        let expected = Packet::PubAck { id: 256, reason: 0, properties: Properties::default() };
        assert_eq!(take(&mut buffer, Version::V5), Ok(Some(expected)));
    }

    #[test]
    fn lengths_take_one_to_four_bytes() {
        for (length, bytes) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_152, 4)] {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(out.len(), bytes);
            assert_eq!(get_length(&mut Bytes::from(out)), Some(length));
        }
    }
}

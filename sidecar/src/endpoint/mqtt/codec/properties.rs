//! MQTT 5 properties (§2.2.2): checked once as a whole, then read in place.

use super::reader::Reader;
use super::{Malformed, PacketType};

/// A property that this server reads; others are checked and skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(usize),
    SessionExpiryInterval(u32),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(u8),
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
}

impl<'a> Property<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<(u8, Self), Malformed> {
        let id = reader.variable()?;
        let property = match id {
            0x01 => Self::PayloadFormatIndicator(boolean(reader)?),
            0x02 => Self::MessageExpiryInterval(reader.u32()?),
            0x03 => Self::ContentType(reader.text()?),
            0x08 => Self::ResponseTopic(response_topic(reader)?),
            0x09 => Self::CorrelationData(reader.binary()?),
            0x0B => Self::SubscriptionIdentifier(match reader.variable()? {
                0 => return Err(Malformed::protocol("a Subscription Identifier is 0")),
                identifier => identifier,
            }),
            0x11 => Self::SessionExpiryInterval(reader.u32()?),
            0x15 => Self::AuthenticationMethod(reader.text()?),
            0x16 => Self::AuthenticationData(reader.binary()?),
            0x17 => Self::RequestProblemInformation(boolean(reader)?),
            0x18 => Self::WillDelayInterval(reader.u32()?),
            0x19 => Self::RequestResponseInformation(boolean(reader)?),
            0x1F => Self::ReasonString(reader.text()?),
            0x21 => Self::ReceiveMaximum(positive(reader)?),
            0x22 => Self::TopicAliasMaximum(reader.u16()?),
            0x23 => Self::TopicAlias(reader.u16()?),
            0x26 => Self::User(reader.text()?, reader.text()?),
            0x27 => Self::MaximumPacketSize(match reader.u32()? {
                0 => return Err(Malformed::protocol("Maximum Packet Size is 0")),
                size => size,
            }),
            _ => return Err(Malformed::packet("an unknown property")),
        };
        Ok((u8::try_from(id).unwrap_or(u8::MAX), property))
    }
}

/// A topic name, so without wildcards (`[MQTT-3.3.2-14]`) and not empty (`[MQTT-4.7.3-1]`).
fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let topic = reader.text()?;
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Malformed::protocol("Response Topic is empty or contains a wildcard"));
    }
    Ok(topic)
}

fn boolean(reader: &mut Reader<'_>) -> Result<u8, Malformed> {
    match reader.u8()? {
        value @ 0..=1 => Ok(value),
        _ => Err(Malformed::protocol("a property that is 0 or 1 has another value")),
    }
}

fn positive(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    match reader.u16()? {
        0 => Err(Malformed::protocol("Receive Maximum is 0")),
        value => Ok(value),
    }
}

/// The properties of one packet, known to be well-formed and allowed there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Those that were taken from a packet before and kept as [`Properties::bytes`].
    #[must_use]
    pub fn kept(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// As they came, without their length in front.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Takes the property length and the properties, and checks each: known, allowed in this packet, and at most once
    /// unless it is a User Property.
    pub(super) fn read(reader: &mut Reader<'a>, place: Place) -> Result<Self, Malformed> {
        let length = reader.variable()?;
        let bytes = reader.take(length)?;
        let mut rest = Reader::new(bytes);
        let mut seen = 0_u64;
        while !rest.is_empty() {
            let (id, property) = Property::read(&mut rest)?;
            if !place.allows(id) {
                return Err(place.refuses(id));
            }
            let bit = 1_u64 << (id & 0x3F);
            if seen & bit != 0 && !matches!(property, Property::User(..)) {
                return Err(Malformed::protocol("a property that can come once comes twice"));
            }
            seen |= bit;
        }
        Ok(Self(bytes))
    }

    /// The properties, in order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        self.parts().map(|(property, _)| property)
    }

    /// Each with its bytes as they came.
    pub fn parts(&self) -> impl Iterator<Item = (Property<'a>, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let before = reader.rest();
            let (_, property) = Property::read(&mut reader).ok()?;
            Some((property, before.get(..before.len() - reader.rest().len())?))
        })
    }

    /// Encoded length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where properties stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Packet(PacketType),
    Will,
}

impl Place {
    fn refuses(self, id: u8) -> Malformed {
        match (self, id) {
            // [MQTT-3.3.4-6]: it is a property of PUBLISH, but only a server sends it.
            (Self::Packet(PacketType::Publish), 0x0B) => {
                Malformed::protocol("a client's PUBLISH has a Subscription Identifier")
            }
            // §2.2.2.2
            _ => Malformed::packet("a property that this packet cannot have"),
        }
    }

    /// Table 2-4 of the specification, for packets that a client sends.
    fn allows(self, id: u8) -> bool {
        let allowed: &[u8] = match self {
            Self::Will => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
            Self::Packet(PacketType::Connect) => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
            // Not the Subscription Identifier, which only a server sends here (§3.3.4).
            Self::Packet(PacketType::Publish) => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26],
            Self::Packet(PacketType::Subscribe) => &[0x0B, 0x26],
            Self::Packet(PacketType::Unsubscribe) => &[0x26],
            Self::Packet(PacketType::Disconnect) => &[0x11, 0x1F, 0x26],
            Self::Packet(PacketType::Auth) => &[0x15, 0x16, 0x1F, 0x26],
            Self::Packet(_) => &[0x1F, 0x26],
        };
        allowed.contains(&id)
    }
}

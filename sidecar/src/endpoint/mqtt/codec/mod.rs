//! MQTT 3.1.1 and 5 on the wire, as far as a server that receives publishes needs it: packets are decoded in place,
//! nothing is copied or allocated for a PUBLISH or a PUBACK.
//!
//! Decoding is total: any bytes give a packet or a [`Malformed`].

mod connect;
mod encode;
mod filters;
mod packet;
mod properties;
mod reader;

pub use connect::{Connect, Will, refusal_version};
pub use encode::{Acknowledgement, ConnAck, Encoder};
pub use filters::Filters;
pub use packet::{Frame, Packet, PacketType, Publish, frame};
pub use properties::{Properties, Property};

/// Protocol level of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    V3,
    /// MQTT 5, level 5.
    V5,
}

/// Reason codes of MQTT 5 (§2.4) that this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Reason {
    Success = 0x00,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecific = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerBusy = 0x89,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    PayloadFormatInvalid = 0x99,
    QosNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

/// Bytes that are no MQTT packet, or one that is not allowed, with the reason code that the specification names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason:?})")]
pub struct Malformed {
    /// What MQTT 5 answers with.
    pub reason: Reason,
    /// For the log.
    pub what: &'static str,
}

impl Malformed {
    pub(crate) const fn packet(what: &'static str) -> Self {
        Self { reason: Reason::MalformedPacket, what }
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self { reason: Reason::ProtocolError, what }
    }
}

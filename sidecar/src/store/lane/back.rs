//! What goes back to the sender of a message.

use std::time::Instant;

use crate::store::record::MessageId;

/// A message's way back to its sender.
#[derive(Clone, Debug)]
pub struct Return {
    /// The id it will be known by.
    pub id: MessageId,
    /// The connection's own mark: an MQTT packet identifier, or 0.
    pub tag: u16,
    /// What the connection knows the message by beside its tag: the ticket of a handshake at QoS 2, or 0.
    pub ticket: u32,
    /// The endpoint's own code for a message that intake refused: an MQTT reason code, or 0.
    pub refusal: u8,
    /// Goes to the dead-letter topic.
    pub dead_letter: bool,
    /// Was persisted before, and is answered from its receipt.
    pub duplicate: bool,
    /// When it arrived.
    pub arrived: Instant,
}

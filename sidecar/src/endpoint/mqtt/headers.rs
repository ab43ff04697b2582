//! What a message's properties say to intake, and what they become on its record.

use std::io::Write as _;
use std::time::Duration;

use super::codec::{Properties, Property, Reason};
use crate::intake::SenderHeaders;

/// The longest id that a sender may give a message, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Puts on the record what the sender said, in its order (`[MQTT-3.3.2-18]`): user properties under their names, content
/// type, what requests and responses need, and RETAIN, which has no effect here. `expiry_seconds` is what is left of the
/// Message Expiry Interval.
pub(super) fn write(
    retain: bool,
    properties: Properties<'_>,
    expiry_seconds: Option<u32>,
    headers: &mut SenderHeaders<'_>,
) {
    if retain {
        headers.mqtt("mqtt-retain", b"1");
    }
    for property in properties.iter() {
        match property {
            Property::User("ce-id", _) => {}
            Property::User("ce-source", source) => headers.source(source.as_bytes()),
            Property::User(name, value) => match name.strip_prefix("ce-") {
                Some(extension) => headers.extension(extension, value.as_bytes()),
                None => headers.add(name, value.as_bytes()),
            },
            Property::ContentType(content_type) => headers.content_type(content_type.as_bytes()),
            Property::ResponseTopic(topic) => headers.mqtt("mqtt-response-topic", topic.as_bytes()),
            Property::CorrelationData(data) => headers.mqtt("mqtt-correlation-data", data),
            Property::PayloadFormatIndicator(format) => {
                headers.mqtt("mqtt-payload-format-indicator", if format == 1 { b"1" } else { b"0" });
            }
            _ => {}
        }
    }
    if let Some(seconds) = expiry_seconds {
        // Ten digits are enough for 32 bits, so writing them cannot fail.
        let mut digits = [0; 10];
        let mut rest = &mut digits[..];
        let _ = write!(rest, "{seconds}");
        let length = 10 - rest.len();
        headers.mqtt("mqtt-message-expiry-interval", digits.get(..length).unwrap_or_default());
    }
}

/// What the properties of a PUBLISH or a Will say to intake.
pub(super) struct Said<'a> {
    pub(super) alias: Option<u16>,
    pub(super) id: Option<&'a str>,
    /// Message Expiry Interval in seconds.
    pub(super) expiry: Option<u32>,
    /// The payload says that it is UTF-8.
    is_text: bool,
}

impl<'a> Said<'a> {
    pub(super) fn of(properties: Properties<'a>) -> Self {
        let mut said = Self { alias: None, id: None, expiry: None, is_text: false };
        if properties.is_empty() {
            return said;
        }
        for property in properties.iter() {
            match property {
                Property::TopicAlias(alias) => said.alias = Some(alias),
                Property::MessageExpiryInterval(seconds) => said.expiry = Some(seconds),
                Property::PayloadFormatIndicator(1) => said.is_text = true,
                Property::User("ce-id", id) if (1..=MAX_ID_BYTES).contains(&id.len()) => said.id = Some(id),
                _ => {}
            }
        }
        said
    }

    /// Why intake is not even asked: the message is older than it may get, or not what it says it is. Both are judged
    /// here and nowhere later (MQTT 5 §3.3.2.3.2, §3.3.2.3.3).
    pub(super) fn unfit(&self, payload: &[u8], waited: Duration) -> Option<Reason> {
        if self.expiry.is_some_and(|seconds| waited > Duration::from_secs(seconds.into())) {
            return Some(Reason::ImplementationSpecific);
        }
        (self.is_text && std::str::from_utf8(payload).is_err()).then_some(Reason::PayloadFormatInvalid)
    }

    /// The seconds that a message has left which has waited here (`[MQTT-3.3.2-6]`).
    pub(super) fn left(&self, waited: Duration) -> Option<u32> {
        let waited = u32::try_from(waited.as_secs()).unwrap_or(u32::MAX);
        self.expiry.map(|seconds| seconds.saturating_sub(waited))
    }
}

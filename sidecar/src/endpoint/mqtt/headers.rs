//! What a message's properties become on its record.

use std::io::Write as _;

use super::codec::{Properties, Property};
use crate::intake::SenderHeaders;

/// The longest id that a sender may give a message, in bytes.
pub(super) const MAX_ID_BYTES: usize = 256;

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

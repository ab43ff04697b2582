//! Topic filters of SUBSCRIBE and UNSUBSCRIBE (§3.8.3, §3.10.3, §4.7).

use super::properties::{Properties, Property};
use super::reader::Reader;
use super::{Malformed, PacketType, Reason, Version};

/// At least one filter, each a string of at least one character, with options that are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    reader: Reader<'a>,
    with_options: bool,
    /// The subscription has an identifier.
    identified: bool,
    count: usize,
}

impl<'a> Filters<'a> {
    pub(super) fn decode(
        version: Version,
        kind: PacketType,
        properties: Properties<'a>,
        reader: Reader<'a>,
    ) -> Result<Self, Malformed> {
        let with_options = kind == PacketType::Subscribe;
        let (mut rest, mut count) = (reader, 0);
        while !rest.is_empty() {
            let filter = rest.text()?;
            if filter.is_empty() {
                // [MQTT-4.7.3-1]
                return Err(Malformed::packet("a topic filter is empty"));
            }
            if with_options {
                check_options(version, filter, rest.u8()?)?;
            }
            count += 1;
        }
        if count == 0 {
            // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
            return Err(Malformed::protocol("no topic filter"));
        }
        let identified =
            properties.iter().any(|property| matches!(property, Property::SubscriptionIdentifier(_)));
        Ok(Self { reader, with_options, identified, count })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never: a packet without a filter is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Why each of the subscriptions is refused, in order: for what CONNACK said is not there, or because nothing is
    /// delivered at all.
    pub fn refusals(&self) -> impl Iterator<Item = Reason> + use<'a> {
        let Self { mut reader, with_options, identified, .. } = *self;
        std::iter::from_fn(move || {
            let filter = reader.text().ok()?;
            if with_options {
                reader.u8().ok()?;
            }
            Some(refusal(filter, identified))
        })
    }
}

/// Subscription Options: one byte with QoS, and in MQTT 5 how retained and own messages are treated.
fn check_options(version: Version, filter: &str, options: u8) -> Result<(), Malformed> {
    let reserved = match version {
        Version::V3 => 0xFC,
        Version::V5 => 0xC0,
    };
    if options & reserved != 0 {
        // [MQTT-3.8.3-5]; [MQTT-3.8.3-4] of 3.1.1
        return Err(Malformed::packet("reserved subscription options are set"));
    }
    if options & 0x03 == 0x03 {
        return Err(match version {
            Version::V3 => Malformed::packet("a subscription has QoS 3"),
            Version::V5 => Malformed::protocol("a subscription has QoS 3"),
        });
    }
    if options & 0x30 == 0x30 {
        return Err(Malformed::protocol("Retain Handling is 3"));
    }
    if options & 0x04 != 0 && filter.starts_with(SHARED) {
        // [MQTT-3.8.3-4]
        return Err(Malformed::protocol("No Local on a shared subscription"));
    }
    Ok(())
}

const SHARED: &str = "$share/";

fn refusal(filter: &str, identified: bool) -> Reason {
    if !is_valid(filter) {
        Reason::TopicFilterInvalid
    } else if filter.starts_with(SHARED) {
        Reason::SharedSubscriptionsNotSupported
    } else if filter.contains(['+', '#']) {
        Reason::WildcardSubscriptionsNotSupported
    } else if identified {
        Reason::SubscriptionIdentifiersNotSupported
    } else {
        Reason::ImplementationSpecific
    }
}

/// `#` is the last level, and a wildcard is a level of its own (`[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`); a share has a name
/// and a filter (`[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`).
fn is_valid(filter: &str) -> bool {
    let filter = match filter.strip_prefix(SHARED) {
        None => filter,
        Some(shared) => match shared.split_once('/') {
            Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) && !filter.is_empty() => {
                filter
            }
            _ => return false,
        },
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_is_refused_for_what_it_is() {
        for (filter, identified, reason) in [
            ("a/b", false, Reason::ImplementationSpecific),
            ("a/b", true, Reason::SubscriptionIdentifiersNotSupported),
            ("+/b/#", true, Reason::WildcardSubscriptionsNotSupported),
            ("#", false, Reason::WildcardSubscriptionsNotSupported),
            ("$share/group/a/+", false, Reason::SharedSubscriptionsNotSupported),
            ("a#", false, Reason::TopicFilterInvalid),
            ("a/#/b", false, Reason::TopicFilterInvalid),
            ("a+/b", false, Reason::TopicFilterInvalid),
            ("$share//a", false, Reason::TopicFilterInvalid),
            ("$share/g+/a", false, Reason::TopicFilterInvalid),
            ("$share/group", false, Reason::TopicFilterInvalid),
            ("$share/group/", false, Reason::TopicFilterInvalid),
        ] {
            assert_eq!(refusal(filter, identified), reason, "{filter}");
        }
    }
}

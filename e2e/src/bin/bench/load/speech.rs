//! What a connection of the load says and hears: MQTT, HTTP/1.1 or HTTP/2.

use bytes::BytesMut;
use penstock_e2e::load::wire::{self, Connect, Packet, Publish, Version};

use super::http2::Http2;
use super::stream::ReadWrite;
use crate::payload;

/// The protocols under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    Mqtt3,
    Mqtt5,
    Http,
    Http2,
}

impl Protocol {
    /// As an argument of this program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mqtt3 => "mqtt3",
            Self::Mqtt5 => "mqtt5",
            Self::Http => "http",
            Self::Http2 => "http2",
        }
    }
}

/// How messages are spoken.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Style {
    /// Size of each payload.
    #[arg(long, default_value_t = payload::BYTES)]
    pub(crate) payload_bytes: usize,
    /// Of MQTT.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// Keep the session for so many seconds.
    #[arg(long, default_value_t = 0)]
    expiry: u32,
}

impl Style {
    /// CONNECT, with a keep-alive that no load has to think of.
    pub(crate) fn connect(self, version: Version, client_id: &str) -> Connect {
        let mut connect = match self.expiry {
            0 => Connect::new(version, client_id),
            seconds => Connect::kept(version, client_id, seconds),
        };
        connect.keep_alive = 0;
        connect
    }
}

/// MQTT 5 §3.2.2.3.3.
const RECEIVE_MAXIMUM: u8 = 0x21;

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
/// Fixed header of a PUBREL without a reason code: the same in both versions.
const PUBREL: [u8; 2] = [0x62, 2];

/// One side of a connection's talk.
pub(crate) enum Speech {
    Mqtt(Mqtt),
    Http(Http),
    Http2(Http2),
}

pub(crate) struct Mqtt {
    /// A PUBLISH up to its payload; the packet identifier is written over in each. At QoS 0 there is none.
    head: Vec<u8>,
    identifier_at: Option<usize>,
    next: u16,
    /// Of the next PUBACK or PUBREC.
    expected: u16,
    /// Of the next PUBCOMP.
    completed: u16,
    exactly_once: bool,
    irregular: u64,
}

pub(crate) struct Http {
    /// A request up to its body.
    head: Vec<u8>,
}

impl Speech {
    /// Opens the talk, and says how many messages may be on the way.
    pub(crate) fn begin(
        protocol: Protocol,
        style: Style,
        stream: &mut dyn ReadWrite,
        topic: &str,
        number: usize,
    ) -> (Self, usize) {
        match protocol {
            Protocol::Mqtt3 => Mqtt::begin(Version::V311, style, stream, topic, number),
            Protocol::Mqtt5 => Mqtt::begin(Version::V5, style, stream, topic, number),
            Protocol::Http => {
                let head = format!(
                    "POST /{topic} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
                     content-length: {}\r\n\r\n",
                    style.payload_bytes
                );
                (Self::Http(Http { head: head.into_bytes() }), 1)
            }
            Protocol::Http2 => {
                let (first, talk) = Http2::begin(topic, style.payload_bytes);
                stream.write_all(&first).expect("a connection that takes a preface");
                // As many as there may be for any server that RFC 9113 §6.5.2 recommends.
                (Self::Http2(talk), 100)
            }
        }
    }

    /// Appends a message.
    pub(crate) fn write(&mut self, output: &mut Vec<u8>, payload: &[u8]) {
        match self {
            Self::Mqtt(mqtt) => {
                let start = output.len();
                output.extend_from_slice(&mqtt.head);
                if let Some(at) = mqtt.identifier_at {
                    output[start + at..start + at + 2].copy_from_slice(&mqtt.next.to_be_bytes());
                    mqtt.next = following(mqtt.next);
                }
            }
            Self::Http(http) => output.extend_from_slice(&http.head),
            Self::Http2(http) => http.write(output),
        }
        output.extend_from_slice(payload);
    }

    /// Calls `answered` for each message that is over, appends what the server is to be told, and returns how many bytes
    /// of whole answers there were.
    pub(crate) fn read(&mut self, input: &[u8], output: &mut Vec<u8>, mut answered: impl FnMut()) -> usize {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let answer = match self {
                Self::Mqtt(mqtt) => mqtt.answer(rest, output),
                Self::Http(_) => ok(rest).map(|length| (length, true)),
                Self::Http2(http) => http.answer(rest, output),
            };
            let Some((length, over)) = answer else { return taken };
            taken += length;
            if over {
                answered();
            }
        }
    }

    /// Whether the server answers messages.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Mqtt(mqtt) => mqtt.identifier_at.is_some(),
            Self::Http(_) | Self::Http2(_) => true,
        }
    }

    pub(crate) fn irregular(&self) -> u64 {
        match self {
            Self::Mqtt(mqtt) => mqtt.irregular,
            Self::Http(_) | Self::Http2(_) => 0,
        }
    }
}

impl Mqtt {
    fn begin(
        version: Version,
        style: Style,
        stream: &mut dyn ReadWrite,
        topic: &str,
        number: usize,
    ) -> (Speech, usize) {
        let connect = style.connect(version, &format!("bench-{number}"));
        stream.write_all(&connect.encode()).expect("a connection that takes a CONNECT");
        let mut input = BytesMut::new();
        let packet = loop {
            if let Some(packet) = wire::take(&mut input, version).expect("MQTT from the server") {
                break packet;
            }
            let mut chunk = [0; 1024];
            let count = stream.read(&mut chunk).expect("an answer to CONNECT");
            assert!(count > 0, "closed after CONNECT");
            input.extend_from_slice(&chunk[..count]);
        };
        let Packet::ConnAck { code: 0, properties, .. } = packet else { panic!("not welcome: {packet:?}") };
        let payload = vec![0; style.payload_bytes];
        let mut head = Publish { qos: style.qos, ..Publish::new(version, topic, &payload, 0) }.encode();
        head.truncate(head.len() - payload.len());
        // The identifier is the last but for the length of no properties.
        let properties_bytes = usize::from(version == Version::V5);
        let identifier_at = (style.qos > 0).then(|| head.len() - 2 - properties_bytes);
        let allowed = properties.number(RECEIVE_MAXIMUM).unwrap_or(u32::from(u16::MAX)) as usize;
        (Speech::Mqtt(Self::new(head, identifier_at, style.qos == 2)), allowed)
    }

    fn new(head: Vec<u8>, identifier_at: Option<usize>, exactly_once: bool) -> Self {
        Self { head, identifier_at, next: 1, expected: 1, completed: 1, exactly_once, irregular: 0 }
    }

    /// The length of the first packet in `input`, if it is whole, and whether its message is over. A PUBREC is answered at
    /// once.
    fn answer(&mut self, input: &[u8], output: &mut Vec<u8>) -> Option<(usize, bool)> {
        let &[first, length, ref rest @ ..] = input else { return None };
        let (length, rest) = if length < 0x80 {
            (usize::from(length), rest)
        } else {
            let (&high, rest) = rest.split_first()?;
            assert!(high < 0x80, "an answer of more than 16 KiB");
            (usize::from(length & 0x7F) | usize::from(high) << 7, rest)
        };
        let body = rest.get(..length)?;
        let expected = match (first, self.exactly_once) {
            (PUBACK, false) => &mut self.expected,
            (PUBREC, true) => {
                output.extend_from_slice(&PUBREL);
                output.extend_from_slice(&body[..2]);
                &mut self.expected
            }
            (PUBCOMP, true) => &mut self.completed,
            _ => panic!("not an answer: {first:#04x} {body:02x?}"),
        };
        // MQTT 5 §3.4.2.1: without a reason code it is 0.
        assert!(body.get(2).is_none_or(|&reason| reason < 0x80), "refused with {:#04x}", body[2]);
        if body[..2] != expected.to_be_bytes() {
            self.irregular += 1;
        }
        *expected = following(*expected);
        Some((input.len() - rest.len() + length, first != PUBREC))
    }
}

/// Packet identifiers are never 0 (`[MQTT-2.2.1-3]`).
fn following(identifier: u16) -> u16 {
    identifier.checked_add(1).unwrap_or(1)
}

/// The length of the first response in `input`, if it is whole.
fn ok(input: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length:";
    let mut body = 0;
    let mut at = 0;
    loop {
        let line = &input[at..at + input[at..].iter().position(|&byte| byte == b'\n')?];
        if at == 0 {
            assert!(line.get(8..12) == Some(b" 200"), "{}", String::from_utf8_lossy(input));
        }
        at += line.len() + 1;
        if line.len() <= 1 {
            break;
        }
        if line.get(..LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(LENGTH)) {
            let digits = line[LENGTH.len()..].iter().filter(|byte| byte.is_ascii_digit());
            body = digits.fold(0, |length, &digit| 10 * length + usize::from(digit - b'0'));
        }
    }
    (input.len() >= at + body).then_some(at + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mqtt() -> Mqtt {
        Mqtt::new(Vec::new(), Some(0), false)
    }

    #[test]
    fn pubacks_of_both_versions_are_counted_and_a_cut_one_is_left() {
        let long = wire::packet(0x40, &[&[0, 3, 0, 200, 1][..], &[0x26; 200]].concat());
        let input = [&[0x40, 2, 0, 1, 0x40, 3, 0, 2, 0][..], &long, &[0x40, 2, 0]].concat();
        let (mut speech, mut count) = (Speech::Mqtt(mqtt()), 0);
        assert_eq!(speech.read(&input, &mut Vec::new(), || count += 1), input.len() - 3);
        assert_eq!((count, speech.irregular()), (3, 0));
    }

    #[test]
    fn a_pubrec_is_answered_and_its_message_is_over_with_the_pubcomp() {
        let input = [0x50, 2, 0, 1, 0x50, 3, 0, 2, 0, 0x70, 2, 0, 1, 0x70, 2, 0];
        let (mut speech, mut output, mut count) =
            (Speech::Mqtt(Mqtt::new(Vec::new(), Some(0), true)), Vec::new(), 0);
        assert_eq!(speech.read(&input, &mut output, || count += 1), input.len() - 3);
        assert_eq!((output, count, speech.irregular()), (vec![0x62, 2, 0, 1, 0x62, 2, 0, 2], 1, 0));
    }

    #[test]
    fn a_puback_out_of_turn_is_irregular() {
        let mut mqtt = mqtt();
        mqtt.answer(&[0x40, 2, 0, 2], &mut Vec::new());
        assert_eq!(mqtt.irregular, 1);
    }

    #[test]
    #[should_panic(expected = "refused with 0x87")]
    fn a_refusal_ends_the_run() {
        mqtt().answer(&[0x40, 4, 0, 1, 0x87, 0], &mut Vec::new());
    }

    #[test]
    fn responses_are_counted_by_their_length() {
        let input = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"a\":\"b\\n\"}\n";
        let twice = [&input[..], input].concat();
        for (cut, expected) in [(0, 2), (1, 1), (input.len(), 1)] {
            let mut count = 0;
            let mut speech = Speech::Http(Http { head: Vec::new() });
            let taken = speech.read(&twice[..twice.len() - cut], &mut Vec::new(), || count += 1);
            assert_eq!((count, taken), (expected, expected * input.len()));
        }
    }
}

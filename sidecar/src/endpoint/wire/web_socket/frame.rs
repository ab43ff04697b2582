//! WebSocket frames (RFC 6455 §5) from a client, taken apart where they are: payload moves to the front of the buffer
//! that it was read into, so a frame of any length needs no buffer of its own.

/// The most that a control frame carries (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a client does wrong, and the close code for it (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("WebSocket: {what}")]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) what: &'static str,
}

const fn protocol_error(what: &'static str) -> Violation {
    Violation { code: 1_002, what }
}

/// The payload of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    bytes: [u8; CONTROL_BYTES],
    length: usize,
}

impl Control {
    const EMPTY: Self = Self { bytes: [0; CONTROL_BYTES], length: 0 };

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

/// What was found in some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Bytes of payload, now at the start of the buffer.
    pub(super) payload: usize,
    /// The last ping; older ones need no answer (RFC 6455 §5.5.3).
    pub(super) ping: Option<Control>,
    /// The client closes; what comes after is not read.
    pub(super) close: Option<Control>,
}

/// Where in the stream of frames we are.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    header: [u8; 14],
    header_bytes: usize,
    frame: Option<Frame>,
    /// In the middle of a fragmented message.
    fragmented: bool,
}

#[derive(Debug)]
struct Frame {
    rest: u64,
    mask: [u8; 4],
    /// Of a control frame.
    control: Option<(u8, Box<Control>)>,
}

impl Decoder {
    /// Takes `bytes` apart.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> Result<Found, Violation> {
        let mut found = Found::default();
        let mut read = 0;
        while read < bytes.len() && found.close.is_none() {
            if self.frame.is_none() {
                let Some(&byte) = bytes.get(read) else { break };
                read += 1;
                self.frame = self.begin(byte)?;
            }
            if let Some(frame) = &mut self.frame {
                let count = usize::try_from(frame.rest).unwrap_or(usize::MAX).min(bytes.len() - read);
                bytes.copy_within(read..read + count, found.payload);
                let part = bytes.get_mut(found.payload..found.payload + count).unwrap_or_default();
                unmask(part, &mut frame.mask);
                match &mut frame.control {
                    Some((_, control)) => control.push(part),
                    None => found.payload += count,
                }
                read += count;
                frame.rest -= count as u64;
                if frame.rest > 0 {
                    continue;
                }
                match self.frame.take().and_then(|frame| frame.control) {
                    Some((PING, control)) => found.ping = Some(*control),
                    Some((CLOSE, control)) => found.close = Some(*control),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Adds a byte to the header. Returns the frame when it is complete.
    fn begin(&mut self, byte: u8) -> Result<Option<Frame>, Violation> {
        if let Some(place) = self.header.get_mut(self.header_bytes) {
            *place = byte;
            self.header_bytes += 1;
        }
        let [first, second, ..] = self.header;
        if self.header_bytes < 2 {
            return Ok(None);
        }
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.header_bytes == 2 {
            self.judge(first, second)?;
        }
        if self.header_bytes < 2 + length_bytes + 4 {
            return Ok(None);
        }
        let rest = self.header.get(2..).and_then(|rest| rest.split_at_checked(length_bytes));
        let (length, mask) = rest.unwrap_or_default();
        let length = match length_bytes {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        };
        let least = match length_bytes {
            0 => 0,
            2 => 126,
            _ => 65_536,
        };
        if length < least || length > i64::MAX.unsigned_abs() {
            return Err(protocol_error("the length of a frame is not written as it must be"));
        }
        let opcode = first & 0x0f;
        let mut masked = [0; 4];
        masked.iter_mut().zip(mask).for_each(|(to, from)| *to = *from);
        self.header_bytes = 0;
        let control = (opcode & 0x8 != 0).then(|| (opcode, Box::new(Control::EMPTY)));
        Ok(Some(Frame { rest: length, mask: masked, control }))
    }

    /// Judges the first two bytes of a header.
    fn judge(&mut self, first: u8, second: u8) -> Result<(), Violation> {
        let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        if reserved != 0 {
            return Err(protocol_error("a reserved bit is set, and no extension was agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(protocol_error("a frame of a client is not masked"));
        }
        match opcode {
            CONTINUATION if !self.fragmented => Err(protocol_error("a continuation of nothing")),
            // [MQTT-6.0.0-1]
            TEXT => Err(Violation { code: 1_003, what: "a text frame: MQTT comes in binary frames" }),
            BINARY if self.fragmented => Err(protocol_error("a message begins inside another")),
            CONTINUATION | BINARY => {
                self.fragmented = !last;
                Ok(())
            }
            CLOSE | PING | PONG if !last => Err(protocol_error("a control frame is fragmented")),
            CLOSE | PING | PONG if usize::from(second & 0x7f) > CONTROL_BYTES => {
                Err(protocol_error("a control frame carries more than 125 bytes"))
            }
            CLOSE | PING | PONG => Ok(()),
            _ => Err(protocol_error("a frame has an unknown opcode")),
        }
    }
}

/// Unmasks a part of a payload, and turns the mask for what follows (RFC 6455 §5.3).
fn unmask(part: &mut [u8], mask: &mut [u8; 4]) {
    let mut chunks = part.chunks_exact_mut(4);
    for chunk in &mut chunks {
        chunk.iter_mut().zip(&*mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    let rest = chunks.into_remainder();
    rest.iter_mut().zip(&*mask).for_each(|(byte, mask)| *byte ^= mask);
    mask.rotate_left(rest.len());
}

/// Writes a frame of ours: never fragmented, never masked.
pub(super) fn encode(opcode: Opcode, payload: &[u8], into: &mut Vec<u8>) {
    into.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..=125 => into.push(u8::try_from(length).unwrap_or_default()),
        length => match u16::try_from(length) {
            Ok(length) => {
                into.push(126);
                into.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                into.push(127);
                into.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
    into.extend_from_slice(payload);
}

/// Frames that we send.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Opcode {
    Binary = BINARY,
    Close = CLOSE,
    Pong = PONG,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a client writes it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        bytes
    }

    #[test]
    fn what_a_client_may_not_send_has_its_close_code() {
        let code = |bytes: &[u8]| Decoder::default().decode(&mut bytes.to_vec()).unwrap_err().code;
        assert_eq!(code(&frame(0x81, b"text")), 1_003);
        assert_eq!(code(&frame(0xC2, b"compressed")), 1_002);
        assert_eq!(code(&frame(0x80, b"continues nothing")), 1_002);
        assert_eq!(code(&frame(0x83, b"")), 1_002);
        assert_eq!(code(&frame(0x09, b"fragmented ping")), 1_002);
        assert_eq!(code(&frame(0x89, &[0; 126])), 1_002);
        assert_eq!(code(&[0x82, 0x01, b'x']), 1_002, "not masked");
        assert_eq!(code(&[0x82, 0x80 | 126, 0, 5, 0, 0, 0, 0]), 1_002, "a short length, written long");
        let begun = [frame(0x02, b"a"), frame(0x82, b"b")].concat();
        assert_eq!(code(&begun), 1_002);
    }

    proptest! {
        /// However messages are cut into frames and frames into reads, the bytes come out in order.
        #[test]
        fn frames_come_apart_wherever_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6),
            cuts in proptest::collection::vec(1_usize..40, 1..20),
            ping in any::<bool>(),
        ) {
            let mut sent = Vec::new();
            for message in &messages {
                let (head, tail) = message.split_at(message.len() / 3);
                sent.extend(frame(0x02, head));
                if ping {
                    sent.extend(frame(0x89, b"there?"));
                }
                sent.extend(frame(0x80, tail));
            }
            let (mut decoder, mut out, mut pings) = (Decoder::default(), Vec::new(), 0);
            let mut cuts = cuts.iter().cycle();
            let mut rest = &mut sent[..];
            while !rest.is_empty() {
                let cut = (*cuts.next().unwrap()).min(rest.len());
                let (now, later) = rest.split_at_mut(cut);
                let found = decoder.decode(now).unwrap();
                out.extend_from_slice(&now[..found.payload]);
                pings += usize::from(found.ping.is_some_and(|ping| ping.as_slice() == b"there?"));
                rest = later;
            }
            prop_assert_eq!(out, messages.concat());
            prop_assert!(!ping || pings > 0);
        }

        /// Arbitrary bytes are taken or refused, never more.
        #[test]
        fn arbitrary_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let length = bytes.len();
            if let Ok(found) = Decoder::default().decode(&mut bytes) {
                prop_assert!(found.payload <= length);
            }
        }
    }
}

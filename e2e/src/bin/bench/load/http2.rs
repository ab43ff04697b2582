//! The client's side of HTTP/2, as far as a load needs it: posts of one size to one path, each on a stream of its own
//! (RFC 9113), with a header block that is the same each time (RFC 7541).

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a server may send of answers before it is told to go on: the most there is, less what is there at first.
const ROOM: u32 = (1 << 31) - (1 << 16);
/// How much of it is used before it is given again.
const GIVEN_AGAIN: u32 = 1 << 29;

/// `:status: 200` in the static table (RFC 7541, appendix A), as an indexed field.
const STATUS_200: u8 = 0x80 | 8;

/// One connection's talk.
pub(super) struct Http2 {
    /// HEADERS and the head of DATA; the stream's number is written over in each.
    head: Vec<u8>,
    data_at: usize,
    /// The next stream: odd ones are a client's.
    stream: u32,
    /// Bytes of answers since room was given.
    taken: u32,
}

impl Http2 {
    /// What a client says first, and the talk.
    pub(super) fn begin(topic: &str, payload_bytes: usize) -> (Vec<u8>, Self) {
        let mut first = PREFACE.to_vec();
        put_frame(&mut first, SETTINGS, 0, 0, &[]);
        put_frame(&mut first, WINDOW_UPDATE, 0, 0, &ROOM.to_be_bytes());
        // :method POST and :scheme http are in the static table; the names of the others are.
        let mut block = vec![0x80 | 3, 0x80 | 6];
        put_field(&mut block, 1, "bench");
        put_field(&mut block, 4, &format!("/{topic}"));
        put_field(&mut block, 31, "application/json");
        put_field(&mut block, 28, &payload_bytes.to_string());
        let mut head = Vec::new();
        put_frame(&mut head, HEADERS, END_HEADERS, 0, &block);
        let data_at = head.len();
        put_frame_head(&mut head, payload_bytes, DATA, END_STREAM, 0);
        (first, Self { head, data_at, stream: 1, taken: 0 })
    }

    /// Appends a message up to its payload.
    pub(super) fn write(&mut self, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(&self.head);
        for frame in [start, start + self.data_at] {
            output[frame + 5..frame + FRAME_HEAD_BYTES].copy_from_slice(&self.stream.to_be_bytes());
        }
        self.stream += 2;
    }

    /// The length of the first frame in `input`, if it is whole, and whether a message is over with it.
    ///
    /// # Panics
    /// At an answer that is not 200, and when the server ends the talk.
    pub(super) fn answer(&mut self, input: &[u8], output: &mut Vec<u8>) -> Option<(usize, bool)> {
        let (head, rest) = input.split_at_checked(FRAME_HEAD_BYTES)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let body = rest.get(..length)?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            // A change of the table's size may come first.
            HEADERS => assert!(body.iter().take(3).any(|&byte| byte == STATUS_200), "not 200: {body:02x?}"),
            DATA => self.take(length as u32, output),
            SETTINGS if flags & ACK == 0 => put_frame(output, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => put_frame(output, PING, ACK, 0, body),
            RST_STREAM | GOAWAY => panic!("the server ends the talk: frame {kind}, {body:02x?}"),
            _ => {}
        }
        Some((FRAME_HEAD_BYTES + length, matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0))
    }

    fn take(&mut self, bytes: u32, output: &mut Vec<u8>) {
        self.taken += bytes;
        if self.taken > GIVEN_AGAIN {
            put_frame(output, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
    }
}

fn put_frame(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    put_frame_head(output, body.len(), kind, flags, stream);
    output.extend_from_slice(body);
}

fn put_frame_head(output: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    output.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
}

/// A literal field that is not to be kept, with a name from the static table (RFC 7541 §6.2.2).
fn put_field(block: &mut Vec<u8>, name: u8, value: &str) {
    match name.checked_sub(15) {
        None => block.push(name),
        Some(more) => block.extend([15, more]),
    }
    assert!(value.len() < 127, "longer ones are written otherwise");
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_frame(&mut frame, kind, flags, 1, body);
        frame
    }

    #[test]
    fn a_message_is_over_with_the_end_of_its_stream() {
        let (_, mut talk) = Http2::begin("v1/p/d/telemetry", 100);
        let mut said = Vec::new();
        let mut hear = |input: &[u8]| talk.answer(input, &mut said);
        let headers = frame(HEADERS, END_HEADERS, &[STATUS_200]);
        assert_eq!(hear(&headers), Some((10, false)));
        assert_eq!(hear(&headers[..9]), None);
        assert_eq!(hear(&frame(DATA, END_STREAM, b"receipt")), Some((16, true)));
        assert_eq!(hear(&frame(SETTINGS, 0, &[])), Some((9, false)));
        assert_eq!(hear(&frame(SETTINGS, ACK, &[])), Some((9, false)));
        let mut acknowledgement = Vec::new();
        put_frame(&mut acknowledgement, SETTINGS, ACK, 0, &[]);
        assert_eq!(said, acknowledgement);
    }

    #[test]
    #[should_panic(expected = "not 200")]
    fn a_refusal_ends_the_run() {
        // :status 503, a literal.
        let (_, mut talk) = Http2::begin("v1/p/d/telemetry", 100);
        talk.answer(&frame(HEADERS, END_HEADERS, &[0x48, 3, b'5', b'0', b'3']), &mut Vec::new());
    }

    #[test]
    fn each_message_has_a_stream_of_its_own() {
        let (_, mut talk) = Http2::begin("v1/p/d/telemetry", 100);
        let mut output = Vec::new();
        talk.write(&mut output);
        let length = output.len();
        talk.write(&mut output);
        let stream = |start: usize| output[start + 5..start + 9].to_vec();
        assert_eq!((stream(0), stream(talk.data_at)), (vec![0, 0, 0, 1], vec![0, 0, 0, 1]));
        assert_eq!(stream(length), [0, 0, 0, 3]);
    }
}

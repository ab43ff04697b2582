//! The chunked transfer coding (RFC 9112 §7.1), as strict as it is written: lines end with CR LF.

/// What chunk extensions and trailer fields of one body may take together; nobody reads them.
const MAX_SIDE_BYTES: usize = 16_384;

/// The framing is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Takes a body out of its chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    side_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The size of a chunk; how many digits it has so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size, up to CR.
    Extension {
        size: u64,
    },
    /// LF behind a size.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The start of a trailer line, or of the empty line at the end.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, side_bytes: 0 }
    }

    pub(super) fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Takes the next data from the front of `bytes`: none of it if more bytes are needed, or at the end.
    pub(super) fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<&'b [u8], Broken> {
        while self.state != State::End {
            if let State::Data { left } = self.state {
                if left > 0 {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.state = State::Data { left: left - length as u64 };
                    return Ok(bytes.split_off(..length).unwrap_or_default());
                }
                self.state = State::DataCr;
            }
            let Some(&byte) = bytes.split_off_first() else { break };
            self.state = self.after(byte)?;
        }
        Ok(&[])
    }

    /// The state behind a byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, Broken> {
        /// Digits of the largest size.
        const MAX_DIGITS: u8 = 16;
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => {
                self.aside(State::Extension { size })?
            }
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, byte) if byte != b'\n' => self.aside(State::Extension { size })?,
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, byte) if byte != b'\n' => self.aside(State::Trailer)?,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::End,
            _ => return Err(Broken),
        })
    }

    /// A byte of what nobody reads.
    fn aside(&mut self, state: State) -> Result<State, Broken> {
        self.side_bytes += 1;
        if self.side_bytes > MAX_SIDE_BYTES { Err(Broken) } else { Ok(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces of so many bytes, and what is left behind its end.
    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), Broken> {
        let (mut chunks, mut data, mut left) = (Chunks::new(), Vec::new(), 0);
        for mut piece in bytes.chunks(step) {
            loop {
                let part = chunks.next(&mut piece)?;
                if part.is_empty() {
                    break;
                }
                data.extend_from_slice(part);
            }
            left += piece.len();
        }
        Ok((data, left, chunks.is_end()))
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let bytes =
            b"5\r\nhello\r\n00B;name=\"value\"\r\n, the world\r\n0 \r\nTrailer: x\r\nOther: y\r\n\r\nPOST";
        for step in 1..=bytes.len() {
            assert_eq!(read(bytes, step), Ok((b"hello, the world".to_vec(), 4, true)), "{step}");
        }
        assert_eq!(read(b"0\r\n\r\n", 9), Ok((Vec::new(), 0, true)));
    }

    #[test]
    fn what_is_not_complete_has_no_end() {
        for bytes in [&b"5"[..], b"5\r\nhell", b"5\r\nhello\r\n", b"0\r\n", b"0\r\n\r", b"0\r\na: b\r\n"] {
            assert!(matches!(read(bytes, 9), Ok((_, 0, false))), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_broken() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-5\r\n",
            b"0x5\r\n",
            b" 5\r\n",
            b"5\nhello",
            b"5\r\nhello\n",
            b"5\r\nhello!\r\n",
            b"5;a\nb\r\n",
            b"0\r\n\n",
            b"0\r\na\n\r\n",
            b"00000000000000005\r\n",
        ] {
            assert_eq!(read(bytes, 64), Err(Broken), "{}", bytes.escape_ascii());
        }
        let long = format!("1;{}\r\n", "x".repeat(MAX_SIDE_BYTES));
        assert_eq!(read(long.as_bytes(), 64), Err(Broken), "extensions without an end");
        let long = format!("0\r\n{}", "a: b\r\n".repeat(MAX_SIDE_BYTES));
        assert_eq!(read(long.as_bytes(), 64), Err(Broken), "trailers without an end");
    }

    proptest::proptest! {
        #[test]
        fn any_body_comes_out_of_any_chunks(parts in proptest::collection::vec(proptest::collection::vec(0_u8.., 1..40), 0..6), step in 1_usize..50) {
            let mut bytes = Vec::new();
            for part in &parts {
                bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            proptest::prop_assert_eq!(read(&bytes, step), Ok((parts.concat(), 0, true)));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(0_u8.., 0..200), step in 1_usize..50) {
            let _ = read(&bytes, step);
        }
    }
}

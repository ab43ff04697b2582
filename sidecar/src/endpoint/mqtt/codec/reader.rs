//! Reading the data types of MQTT 5 §1.5 from a slice.

use super::Malformed;

/// What is left of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

const SHORT: Malformed = Malformed::packet("the packet ends too early");

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Demands that nothing is left.
    pub(super) fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::packet(what)) }
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*taken))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*taken))
    }

    /// Variable Byte Integer, at most four bytes (§1.5.5).
    pub(super) fn variable(&mut self) -> Result<usize, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                if shift > 0 && byte == 0 {
                    return Err(Malformed::packet("a variable byte integer is longer than needed"));
                }
                return Ok(value);
            }
        }
        Err(Malformed::packet("a variable byte integer has more than four bytes"))
    }

    /// Binary Data (§1.5.6).
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// UTF-8 Encoded String (§1.5.4): well-formed, without U+0000.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::packet("a string is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(Malformed::packet("a string contains U+0000"));
        }
        Ok(text)
    }
}

//! A request's path, decoded once.

use std::borrow::Cow;

/// A path that cannot be decoded, with the sentence for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Decodes the percent-encoding of a path, segment by segment.
///
/// A `/` that was encoded is part of its segment and must not split it. No pattern can name such a segment, so only a
/// capture can match it, which is then refused. The decoded text has U+0000 in its place: that is refused in captures
/// too, and no literal has it.
pub(super) fn decode(path: &str) -> Result<Cow<'_, str>, Malformed> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    unescape(path.as_bytes(), |byte, escaped| bytes.push(if escaped && byte == b'/' { 0 } else { byte }))
        .ok_or(Malformed("a percent sign in the path is not followed by two hexadecimal digits"))?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Malformed("the decoded path is not UTF-8"))
}

/// The part below `base` without its leading `/`; none if the path is elsewhere.
pub(super) fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    path.strip_prefix(base)?.strip_prefix('/')
}

/// Hands on each byte and whether it was escaped (RFC 3986 §2.1). None if an escape is broken.
pub(super) fn unescape(text: &[u8], mut each: impl FnMut(u8, bool)) -> Option<()> {
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let high = digit(*rest.next()?)?;
            let low = digit(*rest.next()?)?;
            each(high << 4 | low, true);
        } else {
            each(byte, false);
        }
    }
    Some(())
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(decode("/a/b%20c").as_deref(), Ok("/a/b c"));
        assert_eq!(decode("/%2525").as_deref(), Ok("/%25"), "once, not until nothing is left");
        assert_eq!(decode("/gr%C3%BCn").as_deref(), Ok("/grün"));
        assert!(matches!(decode("/plain"), Ok(Cow::Borrowed("/plain"))));
    }

    #[test]
    fn an_encoded_slash_does_not_split() {
        assert_eq!(decode("/v1/a%2Fb/x").as_deref(), Ok("/v1/a\0b/x"));
        assert_eq!(decode("/v1/a%2fb/x").as_deref(), Ok("/v1/a\0b/x"));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for path in ["/%", "/%2", "/%zz", "/a%2", "/%ff", "/%c3", "/%c3/%bc"] {
            assert!(decode(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_base_is_a_whole_number_of_segments() {
        assert_eq!(below("/v1/a", ""), Some("v1/a"));
        assert_eq!(below("/in/v1/a", "/in"), Some("v1/a"));
        assert_eq!(below("/in/", "/in"), Some(""));
        assert_eq!(below("/in", "/in"), None);
        assert_eq!(below("/inner/v1", "/in"), None);
        assert_eq!(below("*", ""), None);
    }

    proptest::proptest! {
        #[test]
        fn decoding_keeps_the_number_of_segments(path in "(/([a-z]|%2[fF]|%[0-9a-fA-F]{2}){0,4}){1,5}") {
            if let Ok(decoded) = decode(&path) {
                proptest::prop_assert_eq!(decoded.split('/').count(), path.split('/').count());
            }
        }
    }
}

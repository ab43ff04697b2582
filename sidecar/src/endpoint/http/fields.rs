//! What a request's header fields mean to us, and which of them become record headers.
//!
//! A field is passed on only if it is meant for the record; everything else (credentials, cookies, hop-by-hop fields,
//! what proxies add) stays behind, known to us or not. Passed on are:
//!
//! - `content-type`, and `content-encoding`, without which the payload cannot be read;
//! - `traceparent` and `tracestate` (W3C Trace Context);
//! - `ce-NAME` as `ce_NAME`, a `CloudEvents` extension, except the attributes that Penstock writes itself; `ce-source`
//!   as `ce_sendersource`;
//! - `penstock-header-NAME` as `NAME`, unless that is reserved.
//!
//! The id of the message is `Idempotency-Key` or `ce-id`.

use std::borrow::Cow;

use super::head::Head;
use super::path::unescape;
use crate::intake::SenderHeaders;

/// The longest id that a sender may give a message, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// Fields with this prefix become record headers under the rest of their name.
pub const RECORD_HEADER_PREFIX: &str = "penstock-header-";

const IDEMPOTENCY_KEY: &[u8] = b"idempotency-key";
const CE_ID: &[u8] = b"ce-id";
const CE_PREFIX: &[u8] = b"ce-";
const CONTENT_ENCODING: &[u8] = b"content-encoding";
/// The sender waits to be asked for the body.
pub(super) const EXPECT: &[u8] = b"expect";

/// An id that cannot be used, with the sentence for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedId(pub(super) &'static str);

/// What the fields say, beside what goes on the record.
#[derive(Debug, Default)]
pub(super) struct Fields<'h> {
    /// The sender's own id of the message.
    pub(super) id: Option<Cow<'h, str>>,
    /// The payload has a content coding other than `identity`.
    pub(super) coded: bool,
    /// The sender waits for a word before it sends the body.
    pub(super) expects: bool,
    /// Names and values as they stand in an HTTP/1.1 head.
    pub(super) bytes: usize,
}

impl<'h> Fields<'h> {
    /// Of the names, in lower case, and values of a head.
    pub(super) fn read(all: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> Result<Self, MalformedId> {
        /// `: ` and the end of the line.
        const AROUND: usize = 4;
        let mut fields = Self::default();
        let (mut key, mut id) = (None, None);
        for (name, value) in all {
            fields.bytes += name.len() + value.len() + AROUND;
            let seen = match name {
                IDEMPOTENCY_KEY => key.replace(read_key(value)?),
                CE_ID => id.replace(text(decode_attribute(value))?),
                CONTENT_ENCODING => {
                    fields.coded |= !value.eq_ignore_ascii_case(b"identity");
                    None
                }
                EXPECT => {
                    fields.expects = true;
                    None
                }
                _ => None,
            };
            if seen.is_some() {
                return Err(MalformedId("Idempotency-Key and ce-id may be given once"));
            }
        }
        fields.id = match (key, id) {
            (Some(key), Some(id)) if key != id => {
                return Err(MalformedId("Idempotency-Key and ce-id are both given and differ"));
            }
            (key, id) => id.or(key),
        };
        match &fields.id {
            Some(id) if id.is_empty() => Err(MalformedId("the id of the message is empty")),
            Some(id) if id.len() > MAX_ID_BYTES => {
                Err(MalformedId("the id of the message is longer than 256 bytes"))
            }
            Some(id) if id.chars().any(char::is_control) => {
                Err(MalformedId("the id of the message has control characters"))
            }
            _ => Ok(fields),
        }
    }
}

/// Puts on the record what is meant for it.
pub(super) fn pass_on(head: &impl Head, record: &mut SenderHeaders<'_>) {
    for (index, (name, value)) in head.fields().enumerate() {
        if name == b"content-type" {
            record.content_type(value);
        } else if matches!(name, b"traceparent" | b"tracestate" | CONTENT_ENCODING) {
            record.add(token(name), value);
        } else if let Some(attribute) = name.strip_prefix(CE_PREFIX) {
            // An attribute has one value: the first counts.
            let repeated = head.fields().take(index).any(|(before, _)| before == name);
            match attribute {
                _ if repeated => {}
                b"source" => record.source(&decode_attribute(value)),
                attribute => record.extension(token(attribute), &decode_attribute(value)),
            }
        } else if let Some(name @ [_, ..]) = name.strip_prefix(RECORD_HEADER_PREFIX.as_bytes()) {
            record.add(token(name), value);
        }
    }
}

/// The name of a field, or its end: a token, which is ASCII (RFC 9110 §5.1).
fn token(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

/// The key as a structured field string (draft-ietf-httpapi-idempotency-key-header), or bare, as most senders write it.
fn read_key(value: &[u8]) -> Result<Cow<'_, str>, MalformedId> {
    let Some(quoted) = value.strip_prefix(b"\"") else { return text(Cow::Borrowed(value)) };
    let inner = quoted.strip_suffix(b"\"").ok_or(MalformedId("Idempotency-Key has no closing quote"))?;
    if !inner.contains(&b'\\') {
        return text(Cow::Borrowed(inner));
    }
    text(Cow::Owned(without_backslashes(inner)))
}

/// The value of a `CloudEvents` attribute as its HTTP binding writes it (§3.1.3.2): perhaps quoted, and percent-encoded
/// beyond printable ASCII. What is not a valid escape stands for itself.
fn decode_attribute(value: &[u8]) -> Cow<'_, [u8]> {
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let value = match quoted {
        Some(inner) if inner.contains(&b'\\') => Cow::Owned(without_backslashes(inner)),
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(value),
    };
    if !value.contains(&b'%') {
        return value;
    }
    let mut decoded = Vec::with_capacity(value.len());
    match unescape(&value, |byte, _| decoded.push(byte)) {
        Some(()) => Cow::Owned(decoded),
        None => value,
    }
}

/// A backslash makes the next character stand for itself.
fn without_backslashes(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut escaped = false;
    for &byte in text {
        if byte == b'\\' && !escaped {
            escaped = true;
        } else {
            plain.push(byte);
            escaped = false;
        }
    }
    plain
}

fn text(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, MalformedId> {
    const NOT_UTF8: MalformedId = MalformedId("the id of the message is not UTF-8");
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| NOT_UTF8),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| NOT_UTF8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Headers;
    use http::request::{Parts, Request};

    fn head(fields: &[(&str, &[u8])]) -> Parts {
        let request =
            fields.iter().fold(Request::builder(), |request, &(name, value)| request.header(name, value));
        request.body(()).unwrap().into_parts().0
    }

    fn id(fields: &[(&str, &[u8])]) -> Result<Option<String>, MalformedId> {
        Fields::read(head(fields).fields()).map(|fields| fields.id.map(Cow::into_owned))
    }

    fn recorded(fields: &[(&str, &[u8])]) -> Vec<(String, String)> {
        let mut record = Headers::default();
        pass_on(&head(fields), &mut SenderHeaders::over(&mut record));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        record.list().iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn an_id_is_read_in_every_way_it_is_written() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(id(&[]), Ok(None));
        assert_eq!(id(&[("idempotency-key", b"abc")]), some("abc"));
        assert_eq!(id(&[("idempotency-key", b"\"abc\"")]), some("abc"));
        assert_eq!(id(&[("idempotency-key", br#""a\"b\\c""#)]), some(r#"a"b\c"#));
        assert_eq!(id(&[("idempotency-key", b"50%")]), some("50%"), "only CloudEvents percent-encodes");
        assert_eq!(id(&[("ce-id", b"gr%C3%BCn%20a")]), some("grün a"));
        assert_eq!(id(&[("ce-id", b"\"a b\"")]), some("a b"));
        assert_eq!(id(&[("ce-id", b"50%")]), some("50%"));
        assert_eq!(id(&[("ce-id", b"x"), ("idempotency-key", b"\"x\"")]), some("x"));
    }

    #[test]
    fn an_id_that_cannot_be_used_is_refused() {
        let long = [b'a'; MAX_ID_BYTES + 1];
        assert!(id(&[("ce-id", &long[..MAX_ID_BYTES])]).is_ok());
        let bad: [&[(&str, &[u8])]; 8] = [
            &[("ce-id", &long)],
            &[("ce-id", b"")],
            &[("idempotency-key", b"\"\"")],
            &[("idempotency-key", b"\"abc")],
            &[("ce-id", b"a%0Ab")],
            &[("ce-id", b"%ff")],
            &[("ce-id", b"a"), ("ce-id", b"a")],
            &[("ce-id", b"a"), ("idempotency-key", b"b")],
        ];
        for fields in bad {
            assert!(id(fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn only_what_is_meant_for_the_record_gets_there() {
        let passed = recorded(&[
            ("host", b"example.org"),
            ("authorization", b"Bearer secret"),
            ("proxy-authorization", b"secret"),
            ("cookie", b"secret"),
            ("x-api-key", b"secret"),
            ("connection", b"keep-alive"),
            ("user-agent", b"curl"),
            ("content-length", b"1"),
            ("content-type", b"application/json"),
            ("content-encoding", b"gzip"),
            ("traceparent", b"00-a-b-01"),
            ("tracestate", b"v=1"),
            ("penstock-header-firmware", b"1.2"),
        ]);
        let expected = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("traceparent", "00-a-b-01"),
            ("tracestate", "v=1"),
            ("firmware", "1.2"),
        ];
        assert_eq!(passed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn reserved_headers_cannot_be_set() {
        let passed = recorded(&[
            ("ce-id", b"a"),
            ("ce-type", b"t"),
            ("ce-time", b"now"),
            ("ce-specversion", b"9"),
            ("ce-not-legal", b"x"),
            ("penstock-header-", b"x"),
            ("penstock-header-ce_id", b"x"),
            ("penstock-header-penstock_reason", b"x"),
            ("penstock-header-content-type", b"x"),
            ("ce-source", b"/a%20b"),
            ("ce-source", b"/second"),
            ("ce-sequence", b"7"),
        ]);
        let expected = [("ce_sendersource", "/a b"), ("ce_sequence", "7")];
        assert_eq!(passed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_coding_and_an_expectation_are_seen() {
        let parts = head(&[("content-encoding", b"identity"), ("expect", b"100-continue")]);
        let fields = Fields::read(parts.fields()).unwrap();
        assert!(!fields.coded && fields.expects);
        let parts = head(&[("content-encoding", b"gzip")]);
        assert!(Fields::read(parts.fields()).unwrap().coded);
    }
}

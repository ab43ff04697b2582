//! Answers: receipts and problems, and how HTTP/1 writes them.

use std::cell::RefCell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderName;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};

use super::problem::Problem;
use super::stop::Stop;
use crate::store::{MessageId, Receipt};

/// The id of the message, as in the receipt.
pub const ID: HeaderName = HeaderName::from_static("penstock-id");
/// The topic's name in Kafka.
pub const TOPIC: HeaderName = HeaderName::from_static("penstock-topic");
/// The partition.
pub const PARTITION: HeaderName = HeaderName::from_static("penstock-partition");
/// The offset; absent when Kafka does not tell it.
pub const OFFSET: HeaderName = HeaderName::from_static("penstock-offset");

/// Content types.
pub(super) const JSON: &str = "application/json";
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Whether an HTTP/1 connection goes on behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// As HTTP/1.1 does if nothing is said.
    On,
    /// Which an HTTP/1.0 client has to be told.
    OnIfTold,
    /// The connection ends.
    Away,
}

/// A receipt as JSON, and where in it the values are that go into header fields too.
#[derive(Debug)]
pub(super) struct ReceiptText {
    json: Vec<u8>,
    id: Place,
    topic: Place,
    partition: Place,
    offset: Place,
    /// The id, if JSON had to escape it.
    escaped_id: Option<Box<str>>,
}

type Place = std::ops::Range<usize>;

impl ReceiptText {
    /// `{"id", "topic", "partition", "offset", "timestamp"}`; the offset is absent when Kafka does not tell it, the
    /// timestamp is the record's, in Unix milliseconds.
    pub(super) fn write(id: &MessageId, receipt: &Receipt) -> Self {
        let mut json = Vec::with_capacity(192);
        let mut escaped_id = None;
        // Ids of ours have nothing to escape.
        let is_senders = matches!(id, MessageId::Sender(_));
        json.extend_from_slice(b"{\"id\":\"");
        let id = id.with_text(|text| {
            if is_senders && text.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
                escaped_id = Some(Box::from(text));
                json.pop();
                // Writing text into a buffer cannot fail. Control characters were refused.
                let _ = serde_json::to_writer(&mut json, text);
                json.pop();
                0..0
            } else {
                put(&mut json, text.as_bytes())
            }
        });
        json.extend_from_slice(b"\",\"topic\":\"");
        // A topic's name has letters, digits, '.', '_' and '-' only.
        let topic = put(&mut json, receipt.topic().as_bytes());
        json.extend_from_slice(b"\",\"partition\":");
        let partition = put_number(&mut json, i64::from(receipt.partition()));
        let offset = match receipt.offset() {
            Some(offset) => {
                json.extend_from_slice(b",\"offset\":");
                put_number(&mut json, offset)
            }
            None => 0..0,
        };
        json.extend_from_slice(b",\"timestamp\":");
        put_number(&mut json, receipt.timestamp_millis());
        json.push(b'}');
        Self { json, id, topic, partition, offset, escaped_id }
    }

    /// The header fields that repeat it, and where their values are in the JSON; empty for what is not there as it is.
    pub(super) fn fields(&self) -> [(HeaderName, Place); 4] {
        let Self { id, topic, partition, offset, .. } = self;
        [(ID, id.clone()), (TOPIC, topic.clone()), (PARTITION, partition.clone()), (OFFSET, offset.clone())]
    }

    /// The JSON, and the id if JSON had to escape it.
    pub(super) fn into_parts(self) -> (Vec<u8>, Option<Box<str>>) {
        (self.json, self.escaped_id)
    }

    /// Writes it as an answer of HTTP/1.
    pub(super) fn write_answer(&self, text: &mut Vec<u8>, goes: Goes) {
        text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        put_field(text, &CONTENT_TYPE, JSON.as_bytes());
        for (name, place) in self.fields() {
            match self.json.get(place) {
                Some(value) if !value.is_empty() => put_field(text, &name, value),
                _ => {}
            }
        }
        if let Some(id) = &self.escaped_id {
            put_field(text, &ID, id.as_bytes());
        }
        end_head(text, goes, self.json.len());
        text.extend_from_slice(&self.json);
    }
}

/// The header fields of a negative answer.
pub(super) fn problem_fields(stop: &Stop, mut each: impl FnMut(HeaderName, &[u8])) {
    each(CONTENT_TYPE, PROBLEM_JSON.as_bytes());
    if let Some(seconds) = stop.problem.row().retry_after_seconds {
        each(RETRY_AFTER, seconds.to_string().as_bytes());
    }
    if stop.problem == Problem::MethodNotAllowed {
        each(ALLOW, b"POST, PUT");
    }
    if let Some(challenge) = stop.challenge {
        each(WWW_AUTHENTICATE, challenge.as_bytes());
    }
}

/// Writes a negative answer of HTTP/1; to HEAD without its body.
pub(super) fn write_problem(text: &mut Vec<u8>, stop: &Stop, goes: Goes, with_body: bool) {
    let status = stop.problem.row().status;
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
    problem_fields(stop, |name, value| put_field(text, &name, value));
    let json = stop.problem.to_json(&stop.detail);
    end_head(text, goes, json.len());
    if with_body {
        text.extend_from_slice(&json);
    }
}

fn put_field(text: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    text.extend_from_slice(name.as_str().as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// What every head ends with.
fn end_head(text: &mut Vec<u8>, goes: Goes, body_bytes: usize) {
    text.extend_from_slice(b"content-length: ");
    put_number(text, i64::try_from(body_bytes).unwrap_or_default());
    text.extend_from_slice(b"\r\ndate: ");
    put_date(text, SystemTime::now());
    text.extend_from_slice(match goes {
        Goes::On => b"\r\n\r\n".as_slice(),
        Goes::OnIfTold => b"\r\nconnection: keep-alive\r\n\r\n",
        Goes::Away => b"\r\nconnection: close\r\n\r\n",
    });
}

/// The date as HTTP writes it, made anew once in a second.
fn put_date(text: &mut Vec<u8>, now: SystemTime) {
    thread_local! {
        static LAST: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
    }
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, date)| {
        if *last != second {
            *last = second;
            date.clear();
            // Writing into a buffer cannot fail.
            let _ = write!(date, "{}", httpdate::HttpDate::from(now));
        }
        text.extend_from_slice(date);
    });
}

/// What a client gets that speaks plain text to a port that speaks TLS.
pub(in crate::endpoint) fn plain_text_answer() -> Vec<u8> {
    last_words(Problem::TlsRequired, "this port speaks TLS, and the request came in plain text")
}

/// A negative answer that ends the connection, for where there is no request to answer.
pub(super) fn last_words(problem: Problem, detail: &'static str) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    write_problem(&mut text, &Stop::new(problem, detail), Goes::Away, true);
    text
}

fn put(buffer: &mut Vec<u8>, text: &[u8]) -> Place {
    let start = buffer.len();
    buffer.extend_from_slice(text);
    start..buffer.len()
}

/// Decimal, without the machinery of `format!`.
fn put_number(buffer: &mut Vec<u8>, number: i64) -> Place {
    let mut digits = [0_u8; 20];
    let mut rest = number.unsigned_abs();
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        used += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let start = buffer.len();
    if number < 0 {
        buffer.push(b'-');
    }
    buffer.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
    start..buffer.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, -1, 10, 1_767_323_045_000, i64::MAX, i64::MIN] {
            let mut text = b"x".to_vec();
            let place = put_number(&mut text, number);
            assert_eq!(text[place], *number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_date_is_made_anew_when_a_second_has_passed() {
        for (millis, date) in [(0, "00:00:00"), (999, "00:00:00"), (1_000, "00:00:01"), (500, "00:00:00")] {
            let mut text = Vec::new();
            put_date(&mut text, UNIX_EPOCH + std::time::Duration::from_millis(millis));
            assert_eq!(String::from_utf8(text).unwrap(), format!("Thu, 01 Jan 1970 {date} GMT"));
        }
    }

    #[test]
    fn last_words_are_a_whole_answer() {
        let text = String::from_utf8(last_words(Problem::TooManyConnections, "full")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains("\r\nretry-after: 5\r\n") && head.ends_with("\r\nconnection: close"), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["type"], "https://penstock.dev/problems/too-many-connections");
    }

    /// A receipt as a store would make it.
    fn receipt(offset: Option<i64>) -> Receipt {
        Receipt::for_test("iot.telemetry", 3, offset, 1_767_323_045_000)
    }

    #[test]
    fn a_receipt_is_the_same_in_body_and_header_fields() {
        let ids = ["plain", r#"quo"ted\"#, "grün", "a b"].map(|id| MessageId::Sender(id.into()));
        for id in ids.into_iter().chain([MessageId::generate()]) {
            let text = ReceiptText::write(&id, &receipt(Some(0)));
            let json: serde_json::Value = serde_json::from_slice(&text.json).unwrap();
            assert_eq!(json["id"], id.to_string());
            let mut answer = Vec::new();
            text.write_answer(&mut answer, Goes::On);
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\npenstock-id: {id}\r\n")), "{head}");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
            assert_eq!(body.as_bytes(), text.json);
            let at = |place: &Place| std::str::from_utf8(&text.json[place.clone()]).unwrap();
            if text.escaped_id.is_none() {
                assert_eq!(at(&text.id), id.to_string());
            }
            assert_eq!((at(&text.topic), at(&text.partition)), ("iot.telemetry", "3"));
            assert_eq!(json["offset"], 0);
            assert_eq!(json["timestamp"], 1_767_323_045_000_i64);
        }
    }

    #[test]
    fn an_unknown_offset_is_absent() {
        let text = ReceiptText::write(&MessageId::generate(), &receipt(None));
        let json: serde_json::Value = serde_json::from_slice(&text.json).unwrap();
        assert!(json.get("offset").is_none(), "{json}");
        assert!(text.offset.is_empty());
    }
}

//! Answers: receipts and problems, each in one small buffer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::{Body, Frame, SizeHint};

use super::peer::Peer;
use super::problem::Problem;
use crate::ledger::Ending;
use crate::store::{MessageId, Receipt};

/// The id of the message, as in the receipt.
pub const ID: HeaderName = HeaderName::from_static("penstock-id");
/// The topic's name in Kafka.
pub const TOPIC: HeaderName = HeaderName::from_static("penstock-topic");
/// The partition.
pub const PARTITION: HeaderName = HeaderName::from_static("penstock-partition");
/// The offset; absent when Kafka does not tell it.
pub const OFFSET: HeaderName = HeaderName::from_static("penstock-offset");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const METHODS: HeaderValue = HeaderValue::from_static("POST, PUT");

/// The body of an answer, and what is booked when it has been written.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Bytes,
    due: Option<Due>,
}

/// A message whose slot in the ledger is left when its answer is written, or abandoned when it never is.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) peer: Arc<Peer>,
    pub(super) ending: Ending,
    pub(super) arrived: Instant,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    /// hyper takes the bytes when it has the head in its write buffer: from here on the answer is with the connection.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(due) = self.due.take() {
            due.peer.hand_over(due.ending, due.arrived);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(due) = self.due.take() {
            due.peer.abandon(1);
        }
    }
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
        json.extend_from_slice(b"{\"id\":\"");
        let id = id.with_text(|text| {
            if text.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
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

    /// The answer, in the map of the request, whose room is used again.
    pub(super) fn into_response(self, due: Due, mut headers: HeaderMap) -> Response<Answer> {
        let json = Bytes::from(self.json);
        headers.clear();
        headers.insert(CONTENT_TYPE, JSON);
        let mut tell = |name, place: Place| {
            // Values of the sender's choice were refused if they do not fit a header field.
            if !place.is_empty()
                && let Ok(value) = HeaderValue::from_maybe_shared(json.slice(place))
            {
                headers.insert(name, value);
            }
        };
        tell(ID, self.id);
        tell(TOPIC, self.topic);
        tell(PARTITION, self.partition);
        tell(OFFSET, self.offset);
        if let Some(id) = self.escaped_id
            && let Ok(value) = HeaderValue::from_bytes(id.as_bytes())
        {
            headers.insert(ID, value);
        }
        let mut response = Response::new(Answer { bytes: json, due: Some(due) });
        *response.headers_mut() = headers;
        response
    }
}

/// A negative answer. `close` asks an HTTP/1 connection to end with it; `challenge` asks for credentials.
pub(super) fn refuse(
    problem: Problem,
    detail: &str,
    close: bool,
    challenge: Option<&'static str>,
    mut headers: HeaderMap,
) -> Response<Answer> {
    let row = problem.row();
    headers.clear();
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    if let Some(seconds) = row.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
    }
    if problem == Problem::MethodNotAllowed {
        headers.insert(ALLOW, METHODS);
    }
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if close {
        headers.insert(CONNECTION, CLOSE);
    }
    let mut response = Response::new(Answer { bytes: Bytes::from(problem.to_json(detail)), due: None });
    *response.status_mut() = row.status;
    *response.headers_mut() = headers;
    response
}

/// What a client gets that speaks plain text to a port that speaks TLS.
pub(in crate::endpoint) fn plain_text_answer() -> Vec<u8> {
    last_words(Problem::TlsRequired, "this port speaks TLS, and the request came in plain text")
}

/// A negative answer as HTTP/1.1 text that ends the connection, for where there is no request to answer.
pub(super) fn last_words(problem: Problem, detail: &str) -> Vec<u8> {
    let row = problem.row();
    let json = problem.to_json(detail);
    let mut text = Vec::with_capacity(256 + json.len());
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(row.status.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(row.status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\ncontent-type: application/problem+json\r\nconnection: close\r\n");
    if let Some(seconds) = row.retry_after_seconds {
        text.extend_from_slice(b"retry-after: ");
        put_number(&mut text, i64::from(seconds));
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"content-length: ");
    put_number(&mut text, i64::try_from(json.len()).unwrap_or_default());
    text.extend_from_slice(b"\r\n\r\n");
    text.extend_from_slice(&json);
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
    fn last_words_are_a_whole_answer() {
        let text = String::from_utf8(last_words(Problem::TooManyConnections, "full")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(
            head.contains("\r\nretry-after: 5\r\n") && head.contains("\r\nconnection: close\r\n"),
            "{head}"
        );
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
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

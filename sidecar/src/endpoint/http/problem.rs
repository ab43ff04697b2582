//! Every negative answer, in one table: RFC 9457 problem types with a stable URI, status and title. The reference page
//! is made from it.

use http::StatusCode;

use crate::store::TransientCause;

/// What the URIs of problem types begin with.
pub const TYPE_BASE: &str = "https://penstock.dev/problems/";

/// A problem type as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The last part of the type's URI, after [`TYPE_BASE`].
    pub slug: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// A short text that is the same for every occurrence.
    pub title: &'static str,
    /// `Retry-After` in seconds; absent where sending the same again does not help.
    pub retry_after_seconds: Option<u8>,
    /// What it means and what the sender should do.
    pub advice: &'static str,
}

macro_rules! problems {
    ($($name:ident $status:ident $slug:literal $title:literal $retry:expr, $advice:literal;)*) => {
        /// Why a request is not answered with a receipt.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Problem {
            $(#[doc = $title] $name,)*
        }

        impl Problem {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// How it is told and documented.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        slug: $slug,
                        status: StatusCode::$status,
                        title: $title,
                        retry_after_seconds: $retry,
                        advice: $advice,
                    },)*
                }
            }
        }
    };
}

problems! {
    MalformedHead BAD_REQUEST "malformed-head" "This is no HTTP request" None,
        "The head of the request is not as RFC 9112 says; the detail names the line. Nothing was read behind it, and the \
         connection is closed.";
    MalformedPath BAD_REQUEST "malformed-path" "The path cannot be decoded" None,
        "A percent sign is not followed by two hexadecimal digits, or the decoded path is not UTF-8. Encode it anew.";
    UncleanCapture BAD_REQUEST "unclean-capture" "A part of the path cannot be used in a key" None,
        "A segment that the route captures is empty, or has '/', '+', '#' or U+0000 when decoded. Use other names.";
    MalformedId BAD_REQUEST "malformed-id" "The message id cannot be used" None,
        "Idempotency-Key or ce-id is empty, longer than 256 bytes, not UTF-8, has control characters, is given twice, or \
         both are given and differ.";
    MalformedBody BAD_REQUEST "malformed-body" "The body is not framed as HTTP says" None,
        "The chunked encoding of the body is broken. The connection is closed.";
    Schema BAD_REQUEST "schema" "The payload does not match the route's schema" None,
        "The detail names the place and the keyword. Nothing was stored.";
    RecordRefused BAD_REQUEST "record-refused" "Kafka refuses this record" None,
        "The brokers named this record as invalid (INVALID_RECORD), for example by a topic's own rules. Sending it again \
         does not help.";
    NotAuthenticated UNAUTHORIZED "not-authenticated" "The sender has not shown who it is" None,
        "There are no credentials, or they are not accepted; nobody is told what of them. See the WWW-Authenticate header. \
         After wrong ones the connection is closed.";
    NotAllowed FORBIDDEN "not-allowed" "The sender may not send this" None,
        "It is known, and the route's allow does not let it send to this path; or its token has no usable name.";
    NoRoute NOT_FOUND "no-route" "No route takes this path" None,
        "No route of the pipeline has this endpoint and path among its sources.";
    MethodNotAllowed METHOD_NOT_ALLOWED "method-not-allowed" "Messages are sent with POST or PUT" None,
        "The path has a route, but the method sends no message. See the Allow header.";
    RequestTimeout REQUEST_TIMEOUT "request-timeout" "The request did not arrive in time" None,
        "The head took too long, or the body made no progress. Nothing was stored; the connection is closed. Send again.";
    LengthRequired LENGTH_REQUIRED "length-required" "The request does not say how long it is" None,
        "An HTTP/1.0 request without Content-Length: its body could only end with the connection, which nobody can tell \
         from a broken one. In HTTP/1.1 and HTTP/2 a request without length and without body is an empty message.";
    TooLarge PAYLOAD_TOO_LARGE "too-large" "The message is too large" None,
        "It is larger than the endpoint takes (maxMessageBytes), or with key and headers than the topic does \
         (max.message.bytes). The detail has the limit.";
    CodedPayload UNSUPPORTED_MEDIA_TYPE "coded-payload" "The route's schema cannot read a coded payload" None,
        "The route validates payloads and the request has a Content-Encoding. Payloads are never decoded: send it \
         as it is. Routes without a schema take any content type and coding.";
    HeadTooLarge REQUEST_HEADER_FIELDS_TOO_LARGE "head-too-large" "The request head is too large" None,
        "Path and header fields take more than 8 KiB, or there are more than 100 fields. Beyond 16 KiB or 100 fields the \
         connection is closed.";
    TooManyFailures TOO_MANY_REQUESTS "too-many-failures" "Too many attempts from this address have failed" Some(2),
        "Passwords from this address are not looked at until fewer fail; those that were right lately are. Send again after \
         Retry-After.";
    CredentialsBusy SERVICE_UNAVAILABLE "credentials-busy" "Credentials cannot be checked now" Some(5),
        "Too many passwords wait for their turn, or the credentials of the endpoint cannot be read. Send again after \
         Retry-After.";
    KafkaUnreachable SERVICE_UNAVAILABLE "kafka-unreachable" "Kafka cannot be reached" Some(5),
        "Send again after Retry-After.";
    KafkaUnauthorized SERVICE_UNAVAILABLE "kafka-unauthorized" "Kafka refuses the pipeline's credentials" Some(10),
        "Send again after Retry-After; the pipeline's owner has to act.";
    TopicNotReady SERVICE_UNAVAILABLE "topic-not-ready" "The topic takes no messages" Some(5),
        "It is missing, changed, or not as the pipeline declares it. Send again after Retry-After.";
    NotEnoughReplicas SERVICE_UNAVAILABLE "not-enough-replicas" "Too few replicas are in sync" Some(5),
        "Send again after Retry-After.";
    QueueFull SERVICE_UNAVAILABLE "queue-full" "The producer's queue is full" Some(1),
        "Send again after Retry-After, more slowly.";
    BudgetExhausted SERVICE_UNAVAILABLE "budget-exhausted" "As much is held in memory as may be" Some(1),
        "The pod, endpoint or connection is at its limit. Send again after Retry-After, more slowly.";
    AckTimeout SERVICE_UNAVAILABLE "ack-timeout" "Kafka did not confirm the message in time" Some(1),
        "It may still be stored. Send again after Retry-After, with the same id.";
    ProducerReplaced SERVICE_UNAVAILABLE "producer-replaced" "The connection to Kafka is being made anew" Some(1),
        "Send again after Retry-After.";
    Draining SERVICE_UNAVAILABLE "draining" "This instance is shutting down" Some(1),
        "Send again on a new connection.";
    BrokerError SERVICE_UNAVAILABLE "broker-error" "The broker answered with an error" Some(5),
        "Send again after Retry-After.";
    TooManyConnections SERVICE_UNAVAILABLE "too-many-connections" "The endpoint has as many connections as it may" Some(5),
        "The limit is maxConnections. Connect again after Retry-After.";
    TooManyConnects SERVICE_UNAVAILABLE "too-many-connects" "The endpoint takes no more connections this second" Some(1),
        "The limit is maxConnectionsPerSecond. Connect again after Retry-After.";
    TlsRequired BAD_REQUEST "tls-required" "This port speaks TLS" None,
        "The request came in plain text, and whatever it carried was readable on its way. Use https.";
}

impl From<TransientCause> for Problem {
    fn from(cause: TransientCause) -> Self {
        match cause {
            TransientCause::KafkaUnreachable => Self::KafkaUnreachable,
            TransientCause::KafkaUnauthorized => Self::KafkaUnauthorized,
            TransientCause::TopicNotReady => Self::TopicNotReady,
            TransientCause::NotEnoughReplicas => Self::NotEnoughReplicas,
            TransientCause::QueueFull => Self::QueueFull,
            TransientCause::BudgetExhausted => Self::BudgetExhausted,
            TransientCause::AckTimeout => Self::AckTimeout,
            TransientCause::ProducerReplaced => Self::ProducerReplaced,
            TransientCause::Draining => Self::Draining,
            TransientCause::BrokerError => Self::BrokerError,
        }
    }
}

impl Problem {
    /// The problem details object, `application/problem+json`.
    #[must_use]
    pub fn to_json(self, detail: &str) -> Vec<u8> {
        let row = self.row();
        let mut json = Vec::with_capacity(256 + detail.len());
        json.extend_from_slice(b"{\"type\":\"");
        json.extend_from_slice(TYPE_BASE.as_bytes());
        json.extend_from_slice(row.slug.as_bytes());
        json.extend_from_slice(b"\",\"title\":\"");
        json.extend_from_slice(row.title.as_bytes());
        json.extend_from_slice(b"\",\"status\":");
        json.extend_from_slice(row.status.as_str().as_bytes());
        json.extend_from_slice(b",\"detail\":");
        // Writing text into a buffer cannot fail.
        let _ = serde_json::to_writer(&mut json, detail);
        json.push(b'}');
        json
    }
}

/// The table of the reference page, in Markdown.
#[must_use]
pub fn reference_table() -> String {
    let mut table = String::from("| type | status | `Retry-After` | |\n|---|---|---|---|\n");
    for row in Problem::ALL.iter().map(|problem| problem.row()) {
        let Row { slug, status, title, retry_after_seconds, advice } = row;
        let retry = retry_after_seconds.map_or(String::new(), |seconds| format!("{seconds} s"));
        let status = status.as_u16();
        table.push_str(&format!("| `{slug}` | {status} | {retry} | {title}. {advice} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// `PENSTOCK_WRITE_DOCS=1` writes the table instead.
    #[test]
    fn the_reference_page_has_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/http.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("| type | status |").expect("the table's head");
        let (_, after) = rest.split_once("\n\n").expect("an empty line behind the table");
        let wanted = format!("{before}{}\n{after}", reference_table());
        if std::env::var_os("PENSTOCK_WRITE_DOCS").is_some() {
            std::fs::write(path, wanted).unwrap();
        } else {
            assert!(
                page == wanted,
                "docs/reference/http.md is stale: run its test with PENSTOCK_WRITE_DOCS=1"
            );
        }
    }

    #[test]
    fn every_problem_has_a_type_of_its_own_and_says_what_to_do() {
        let slugs: HashSet<_> = Problem::ALL.iter().map(|problem| problem.row().slug).collect();
        assert_eq!(slugs.len(), Problem::ALL.len());
        for row in Problem::ALL.iter().map(|problem| problem.row()) {
            assert!(row.slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", row.slug);
            assert!(!row.title.contains(['"', '\\']), "the title is written into JSON as it is");
            assert!(!row.advice.is_empty());
        }
    }

    #[test]
    fn exactly_the_transient_problems_ask_to_try_again() {
        for row in Problem::ALL.iter().map(|problem| problem.row()) {
            let transient =
                matches!(row.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(row.retry_after_seconds.is_some(), transient, "{}", row.slug);
        }
    }

    #[test]
    fn a_transient_cause_is_named_as_in_metrics() {
        for cause in [
            TransientCause::KafkaUnreachable,
            TransientCause::KafkaUnauthorized,
            TransientCause::TopicNotReady,
            TransientCause::NotEnoughReplicas,
            TransientCause::QueueFull,
            TransientCause::BudgetExhausted,
            TransientCause::AckTimeout,
            TransientCause::ProducerReplaced,
            TransientCause::Draining,
            TransientCause::BrokerError,
        ] {
            let row = Problem::from(cause).row();
            assert_eq!(row.slug.replace('-', "_"), cause.to_string());
        }
    }

    #[test]
    fn the_json_is_a_problem_details_object_whatever_the_detail() {
        let json = Problem::Schema.to_json("/a\"b\\ \u{1} does not fulfil /x");
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["type"], "https://penstock.dev/problems/schema");
        assert_eq!(value["status"], 400);
        assert_eq!(value["title"], Problem::Schema.row().title);
        assert_eq!(value["detail"], "/a\"b\\ \u{1} does not fulfil /x");
    }
}

//! The upgrade from HTTP/1.1 to WebSocket (RFC 6455 §4.2).

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Wire;
use crate::budget::EndpointBudget;

/// The largest request head; clients send some hundred bytes.
const HEAD_BYTES: usize = 8_192;
const HEADERS: usize = 64;
/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a connection does not become a WebSocket.
#[derive(Debug, thiserror::Error)]
pub(in crate::endpoint::wire) enum UpgradeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("WebSocket: no room for the request of a new connection")]
    NoRoom,
    #[error("WebSocket: {0}")]
    Refused(Refusal),
}

/// Status and reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(in crate::endpoint::wire) struct Refusal {
    status: &'static str,
    what: &'static str,
}

const fn refusal(status: &'static str, what: &'static str) -> Refusal {
    Refusal { status, what }
}

const BAD_REQUEST: &str = "400 Bad Request";

/// Answers the upgrade request. Returns what came behind it.
pub(in crate::endpoint::wire) async fn upgrade(
    wire: &mut Wire,
    path: &str,
    budget: &Arc<EndpointBudget>,
) -> Result<Vec<u8>, UpgradeError> {
    let _room = budget.reserve(HEAD_BYTES as u64).ok_or(UpgradeError::NoRoom)?;
    let mut head = vec![0; HEAD_BYTES];
    let mut read = 0;
    let judged = loop {
        let room = head.get_mut(read..).unwrap_or_default();
        if room.is_empty() {
            break Err(refusal("431 Request Header Fields Too Large", "the request takes more than 8 KiB"));
        }
        match wire.read(room).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => read += count,
        }
        match judge(head.get(..read).unwrap_or_default(), path) {
            Ok(None) => {}
            Ok(Some(accepted)) => break Ok(accepted),
            Err(refusal) => break Err(refusal),
        }
    };
    match judged {
        Ok(Accepted { length, key }) => {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: {key}\r\nsec-websocket-protocol: mqtt\r\n\r\n"
            );
            wire.write_all(answer.as_bytes()).await?;
            wire.flush().await?;
            Ok(head.get(length..read).unwrap_or_default().to_vec())
        }
        Err(refusal) => {
            let Refusal { status, what } = refusal;
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain\r\nsec-websocket-version: 13\r\n\
                 content-length: {}\r\n\r\n{what}\n",
                what.len() + 1
            );
            wire.write_all(answer.as_bytes()).await?;
            wire.flush().await?;
            Err(UpgradeError::Refused(refusal))
        }
    }
}

/// A request that is granted.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    /// Of its head.
    length: usize,
    /// `Sec-WebSocket-Accept`.
    key: String,
}

/// Judges what has come of a request; none while it is not complete.
fn judge(bytes: &[u8], path: &str) -> Result<Option<Accepted>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => {
            return Err(refusal(
                BAD_REQUEST,
                "this port speaks MQTT over WebSocket, and this is no HTTP request",
            ));
        }
    };
    if request.path.is_none_or(|found| found.split('?').next() != Some(path)) {
        return Err(refusal(
            "404 Not Found",
            "MQTT over WebSocket is at another path: see mqtt.webSocket.path",
        ));
    }
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(refusal(BAD_REQUEST, "a WebSocket begins with a GET of HTTP/1.1"));
    }
    let values = |name: &'static str| {
        let fields = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.filter_map(|field| std::str::from_utf8(field.value).ok())
    };
    let has = |name, token: &str| {
        values(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(refusal("426 Upgrade Required", "this path speaks MQTT over WebSocket only"));
    }
    if !has("sec-websocket-version", "13") {
        return Err(refusal("426 Upgrade Required", "the version of WebSocket is 13"));
    }
    // [MQTT-6.0.0-3]
    if !values("sec-websocket-protocol").flat_map(|value| value.split(',')).any(|part| part.trim() == "mqtt")
    {
        return Err(refusal(BAD_REQUEST, "the client does not ask for the subprotocol mqtt"));
    }
    let key = values("sec-websocket-key").next().unwrap_or_default().trim();
    if STANDARD.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err(refusal(BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64"));
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Ok(Some(Accepted { length, key: STANDARD.encode(digest) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3, for MQTT.
    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn the_example_of_the_standard_is_granted() {
        let accepted = judge(REQUEST.as_bytes(), "/mqtt").unwrap().unwrap();
        assert_eq!(accepted.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.length, REQUEST.len());
        assert_eq!(judge(&REQUEST.as_bytes()[..100], "/mqtt"), Ok(None));
    }

    #[test]
    fn a_request_that_cannot_be_granted_is_told_why() {
        for (from, to, status) in [
            ("/mqtt", "/other", "404"),
            ("GET", "POST", "400"),
            ("HTTP/1.1", "HTTP/1.0", "400"),
            ("Upgrade: websocket", "Upgrade: h2c", "426"),
            ("Version: 13", "Version: 8", "426"),
            ("mqttv3.1, mqtt", "mqttv3.1", "400"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", "400"),
        ] {
            let request = REQUEST.replacen(from, to, 1);
            let refused = judge(request.as_bytes(), "/mqtt").unwrap_err();
            assert!(refused.status.starts_with(status), "{to}: {refused:?}");
        }
        assert!(judge(b"\x10\x10\0\x04MQTT\x05\x02", "/mqtt").unwrap_err().what.contains("no HTTP request"));
    }
}

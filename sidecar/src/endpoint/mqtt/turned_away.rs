//! Telling a client for whom there is no place why it is not let in, cheaply: it has a second to say which version of
//! MQTT it speaks, nothing of it is kept, and only so many are told at once. Others are closed without a word.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::codec::{Encoder, Reason, Version};
use crate::endpoint::listener::Excess;

/// Told at once.
const MAX_TOLD: usize = 256;
const PATIENCE: Duration = Duration::from_secs(1);
/// Fixed header and protocol name: where the protocol version is, at the latest, is byte 12.
const OPENING_BYTES: usize = 16;

/// Clients that are being told.
#[derive(Debug)]
pub(super) struct TurnedAway(Arc<Semaphore>);

impl Default for TurnedAway {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_TOLD)))
    }
}

impl TurnedAway {
    /// Tells a client in a CONNACK, and closes.
    pub(super) fn tell(&self, stream: TcpStream, excess: Excess) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else { return };
        let reason = match excess {
            Excess::Connections => Reason::ServerBusy,
            Excess::Rate => Reason::ConnectionRateExceeded,
        };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, say(stream, reason)).await;
            drop(permit);
        });
    }
}

async fn say(mut stream: TcpStream, reason: Reason) -> std::io::Result<()> {
    let mut opening = [0; OPENING_BYTES];
    let mut read = 0;
    let version = loop {
        match stream.read(opening.get_mut(read..).unwrap_or_default()).await? {
            0 => return Ok(()),
            count => read += count,
        }
        match version(opening.get(..read).unwrap_or_default()) {
            Some(version) => break version,
            None if read == OPENING_BYTES => return Ok(()),
            None => {}
        }
    };
    let mut answer = Vec::new();
    Encoder::new(version, &mut answer).connack_refused(reason);
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // What is unread at the end would reset the connection, and the answer might be lost with it.
    let mut scrap = [0; 512];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}

/// The protocol version of a CONNECT, if its beginning is here.
fn version(opening: &[u8]) -> Option<Version> {
    let (0x10, rest) = opening.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let length_bytes = rest.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    match rest.get(length_bytes..)? {
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(Version::V5),
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Some(Version::V3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_known_as_soon_as_it_is_there() {
        let opening = b"\x10\xAF\x02\0\x04MQTT\x05";
        assert_eq!(version(opening), Some(Version::V5));
        assert_eq!(version(&opening[..opening.len() - 1]), None);
        assert_eq!(version(b"\x10\x0C\0\x04MQTT\x04\x02"), Some(Version::V3));
        assert_eq!(version(b"GET / HTTP/1.1\r\n"), None);
    }
}

//! How a connection ends, and what the client is told.

use std::io;

use super::codec::{Malformed, Reason};

/// The end of a connection.
#[derive(Debug)]
pub(super) struct End {
    /// What an MQTT 5 client is told; none if it left or cannot be told.
    pub(super) reason: Option<Reason>,
    /// For the log.
    pub(super) what: &'static str,
    /// The Will is published: the end was not the client's DISCONNECT, nor the pod's.
    pub(super) will: bool,
    /// The client comes back at once when it is sent away at once: it is held for a moment before.
    pub(super) hold: bool,
}

impl End {
    /// The client is told why.
    pub(super) const fn told(reason: Reason, what: &'static str) -> Self {
        Self { reason: Some(reason), what, will: true, hold: false }
    }

    /// A message could not be made durable now; the client sends it again when it is back.
    pub(super) const fn transient(what: &'static str) -> Self {
        Self { reason: Some(Reason::ServerBusy), what, will: true, hold: true }
    }

    /// There is nothing to tell, or nobody.
    pub(super) const fn silent(what: &'static str) -> Self {
        Self { reason: None, what, will: true, hold: false }
    }

    /// The same, and the Will is not published.
    pub(super) const fn without_will(self) -> Self {
        Self { will: false, ..self }
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        Self::told(malformed.reason, malformed.what)
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::silent("the connection was lost")
    }
}

//! How a connection ends, and what the client is told.

use std::io;

use super::codec::{Malformed, Reason};

/// Who ended a connection, and so what becomes of Will and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Nobody on purpose, or a fault of the client's: the Will is due.
    Accident,
    /// The client, by a DISCONNECT that takes the Will back, or before it was let in.
    Client,
    /// The pod, which goes itself.
    Pod,
    /// Another connection of the client, which has the session now, or has ended it (Clean Start).
    Heir { clean: bool },
}

/// The end of a connection.
#[derive(Debug)]
pub(super) struct End {
    /// What an MQTT 5 client is told; none if it left or cannot be told.
    pub(super) reason: Option<Reason>,
    /// For the log.
    pub(super) what: &'static str,
    pub(super) by: By,
    /// The client comes back at once when it is sent away at once: it is held for a moment before.
    pub(super) hold: bool,
}

impl End {
    /// The client is told why.
    pub(super) const fn told(reason: Reason, what: &'static str) -> Self {
        Self { reason: Some(reason), what, by: By::Accident, hold: false }
    }

    /// A message could not be made durable now; the client sends it again when it is back.
    pub(super) const fn transient(what: &'static str) -> Self {
        Self { reason: Some(Reason::ServerBusy), what, by: By::Accident, hold: true }
    }

    /// There is nothing to tell, or nobody.
    pub(super) const fn silent(what: &'static str) -> Self {
        Self { reason: None, what, by: By::Accident, hold: false }
    }

    /// The same, by somebody.
    pub(super) const fn by(self, by: By) -> Self {
        Self { by, ..self }
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

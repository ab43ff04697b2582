//! Why a session store has not done what it was asked.

use super::record::{Rejected, WrongIdentity};

/// Why an operation was not done, or has no known end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody knows whether it was done.
    #[error("{0}")]
    Unavailable(Away),
    /// Another owner has the session, for good.
    #[error("the session was taken over")]
    Fenced,
    /// The store does not know what it confirmed.
    #[error("the session store forgot")]
    Forgot,
    /// The session belongs to another identity.
    #[error(transparent)]
    WrongIdentity(#[from] WrongIdentity),
}

impl StoreError {
    /// The reason for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(away) => away.reason(),
            Self::Fenced => "Fenced",
            Self::Forgot => "Forgot",
            Self::WrongIdentity(_) => "WrongIdentity",
        }
    }
}

impl From<Rejected> for StoreError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Fenced => Self::Fenced,
            Rejected::Forgot => Self::Forgot,
        }
    }
}

/// Why an operation has no result. It may or may not have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// There is no connection.
    #[error("no connection to Redis")]
    Disconnected,
    /// No answer in time.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The connection was lost.
    #[error("the connection to Redis was lost")]
    Lost,
    /// Too much is waiting already.
    #[error("too many commands wait for Redis")]
    Full,
    /// Sessions have all of the pod's memory that is theirs; nothing was done.
    #[error("the pod's memory for sessions is full; more of them fit in Redis (spec.sessions.redis)")]
    NoRoom,
    /// The server does not take it now, and has not run it.
    #[error("Redis takes no writes: {0}")]
    Refused(&'static str),
    /// The answer is none that the script gives.
    #[error("Redis gave an answer that means nothing here")]
    Unexpected,
}

impl Away {
    /// The reason for metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Disconnected => "Disconnected",
            Self::Timeout => "Timeout",
            Self::Lost => "Lost",
            Self::Full => "Full",
            Self::NoRoom => "NoRoom",
            Self::Refused(_) => "Refused",
            Self::Unexpected => "Unexpected",
        }
    }
}

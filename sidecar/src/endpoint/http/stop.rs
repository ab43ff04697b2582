//! Why a request ends without a receipt.

use std::borrow::Cow;

use super::problem::Problem;
use super::{fields, path};
use crate::auth::Denied;
use crate::intake::Refusal;
use crate::store::TransientCause;

/// Why a request ends without a receipt.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) problem: Problem,
    pub(super) detail: Cow<'static, str>,
    /// Whether the connection ends with it.
    pub(super) close: bool,
    /// Whether a message is refused by it.
    pub(super) counts: bool,
    /// What `WWW-Authenticate` says.
    pub(super) challenge: Option<&'static str>,
}

impl Stop {
    pub(super) fn new(problem: Problem, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { problem, detail: detail.into(), close: false, counts: true, challenge: None }
    }

    pub(super) fn exhausted() -> Self {
        TransientCause::BudgetExhausted.into()
    }

    /// The connection cannot be used after this.
    pub(super) fn and_close(self) -> Self {
        Self { close: true, ..self }
    }

    /// There was no message.
    pub(super) fn uncounted(self) -> Self {
        Self { counts: false, ..self }
    }
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::new(Problem::NotAuthenticated, "this endpoint asks for credentials"),
            // Who guesses needs a new connection for each guess.
            Denied::Wrong => {
                Self::new(Problem::NotAuthenticated, "the credentials are not accepted").and_close()
            }
            Denied::NotAllowed => Self::new(Problem::NotAllowed, "the credentials name nobody"),
            Denied::Busy(_) => Self::new(Problem::CredentialsBusy, "try again later"),
            Denied::Limited(_) => Self::new(Problem::TooManyFailures, "try again later").and_close(),
        }
    }
}

impl From<TransientCause> for Stop {
    fn from(cause: TransientCause) -> Self {
        Self::new(cause.into(), cause.detail())
    }
}

impl From<path::Malformed> for Stop {
    fn from(malformed: path::Malformed) -> Self {
        Self::new(Problem::MalformedPath, malformed.0)
    }
}

impl From<fields::MalformedId> for Stop {
    fn from(malformed: fields::MalformedId) -> Self {
        Self::new(Problem::MalformedId, malformed.0)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRoute => Self::new(Problem::NoRoute, "no route of this endpoint takes this path"),
            Refusal::NotAllowed => {
                Self::new(Problem::NotAllowed, "the route does not let this sender send to this path")
            }
            Refusal::UncleanCapture => {
                let detail = "a captured segment of the path is empty or has '/', '+', '#' or U+0000";
                Self::new(Problem::UncleanCapture, detail)
            }
            Refusal::Schema(problem) => Self::new(Problem::Schema, problem),
            Refusal::TooLarge { limit_bytes } => Self::new(
                Problem::TooLarge,
                format!("the topic takes at most {limit_bytes} bytes, with key and headers"),
            ),
            Refusal::Transient(cause) => cause.into(),
        }
    }
}

//! Who sends, and whether it may.
//!
//! An endpoint with authentication has a [`Gate`]. It knows every credential from one file, which it reads again when
//! it changes. What can be decided by a look-up or one signature is decided at once; passwords with a slow hash go
//! through a bounded queue to threads of their own, and a success is remembered for a short life, by a keyed hash.
//! A [`Gate`] says of every [`Identity`] that it gave whether it still holds, so that connections end when their user,
//! token or key is removed.
//!
//! Nothing here writes a name, a password, a token, a hash or a claim to a log, an error or a metric.

mod attempts;
mod credentials;
mod file;
mod gate;
mod generations;
mod hash;
mod identity;
mod jwt;
mod lines;
mod remembered;
mod tokens;
mod users;
mod verifier;
mod watch;

pub use credentials::{CertificateNames, Credentials, Proof};
pub(crate) use gate::start_verifier;
pub use gate::{Check, Gate, GateError, Verification};
pub use identity::Identity;
pub use jwt::Keys;
pub use lines::FileError;
pub use tokens::Tokens;
pub use users::Users;
pub use verifier::Verifier;
pub use watch::watch;

use std::time::Duration;

use penstock_crds::edge::AuthenticationMethodConfig;

/// Why a sender is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It has shown nothing.
    #[error("no credentials")]
    Missing,
    /// What it has shown is not right; nobody is told what of it.
    #[error("the credentials are not accepted")]
    Wrong,
    /// It is known and has no usable name, or may not do what it asks for.
    #[error("not allowed")]
    NotAllowed,
    /// Not now: too many wait, or the credentials cannot be read.
    #[error("credentials cannot be checked now")]
    Busy(Duration),
    /// Too many failures from its address.
    #[error("too many failed attempts from this address")]
    Limited(Duration),
}

impl Denied {
    /// A label for metrics and logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::NotAllowed => "not_allowed",
            Self::Busy(_) => "busy",
            Self::Limited(_) => "limited",
        }
    }

    /// When to try again, where that can help.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Busy(time) | Self::Limited(time) => Some(time),
            Self::Missing | Self::Wrong | Self::NotAllowed => None,
        }
    }
}

/// Whether a file can be used for this way to authenticate: the shape of what the operator finds in a Secret.
///
/// # Errors
/// The first line that cannot be read, and the rule; never what stands there.
pub fn check_file(method: &AuthenticationMethodConfig, contents: &[u8]) -> Result<(), FileError> {
    match method {
        AuthenticationMethodConfig::Basic(_) => Users::parse(contents, None).map(drop),
        AuthenticationMethodConfig::Token(_) => Tokens::parse(contents, None).map(drop),
        AuthenticationMethodConfig::Jwt(_) => Keys::parse(contents, None).map(drop),
        AuthenticationMethodConfig::ClientCertificate(_) => Ok(()),
    }
}

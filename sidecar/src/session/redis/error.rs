//! Why Redis cannot be asked. A server's own words are never passed on: they may repeat what they were sent.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::address::Address;

/// Why there is no connection to the server that keeps sessions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A reference cannot be read.
    #[error("{field}: cannot read {path}: {kind}")]
    Reference {
        /// The field of the pipeline that names it.
        field: &'static str,
        /// The file.
        path: String,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// The CA bundle is none.
    #[error("spec.sessions.redis.tls.ca: not a bundle of PEM certificates")]
    Certificates,
    /// No connection.
    #[error("{address}: no connection: {wrong}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What is wrong.
        wrong: &'static str,
    },
    /// The server knows no such user, or the password is another.
    #[error(
        "{address}: the user name or the password is wrong; see spec.sessions.redis.username and passwordSecret"
    )]
    Authentication {
        /// `host:port`.
        address: String,
    },
    /// The user may not do what is needed.
    #[error(
        "{address}: the user may not run a command that is needed; see the rights in the documentation of sessions"
    )]
    NotAllowed {
        /// `host:port`.
        address: String,
    },
    /// It follows another server.
    #[error("{address}: is a replica, and takes no writes")]
    Replica {
        /// `host:port`.
        address: String,
    },
    /// No Sentinel answers, or none knows the primary.
    #[error("no Sentinel tells where the primary is; the last one: {last}")]
    NoPrimary {
        /// What the last one that was asked said.
        last: String,
    },
    /// No server of the cluster answers, or none knows who serves a slot.
    #[error("no server of the cluster tells who serves a slot; the last one: {last}")]
    NoOwner {
        /// What the last one that was asked said.
        last: String,
    },
}

impl LinkError {
    /// The reason for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Reference { .. } => "ReferenceNotFound",
            Self::Certificates => "InvalidCertificates",
            Self::Connect { .. } => "Unreachable",
            Self::Authentication { .. } => "AuthenticationFailed",
            Self::NotAllowed { .. } => "NotAllowed",
            Self::Replica { .. } => "Replica",
            Self::NoPrimary { .. } => "NoPrimary",
            Self::NoOwner { .. } => "NoOwner",
        }
    }

    /// What a failure to connect, or of a command on a new connection, means.
    pub(super) fn new(address: &Address, error: &RedisError) -> Self {
        let address = address.to_string();
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Authentication { address },
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::NotAllowed { address },
            _ if matches!(error.code(), Some("WRONGPASS" | "NOAUTH")) => Self::Authentication { address },
            kind => Self::Connect { address, wrong: meaning(kind, error) },
        }
    }
}

fn meaning(kind: ErrorKind, error: &RedisError) -> &'static str {
    match kind {
        _ if error.is_timeout() => "it does not answer",
        _ if error.is_connection_refusal() => "it refuses connections",
        _ if error.is_connection_dropped() => "it closed the connection",
        ErrorKind::Io => "the network or TLS failed",
        ErrorKind::RESP3NotSupported => "it does not speak RESP3 (Redis 6 or later does)",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it is loading its data",
        ErrorKind::Server(ServerErrorKind::ClusterDown) => "the cluster is down",
        ErrorKind::Server(_) | ErrorKind::Extension => "it answers with an error",
        _ => "it does not speak Redis' protocol as expected",
    }
}

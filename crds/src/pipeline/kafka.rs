//! `spec.kafka`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, HOST_PORT};
use super::references::{CaSecret, NameReference, PasswordSecret};
use crate::edge::{Compression, SaslMechanism};

/// The Kafka cluster that keeps the messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Addresses of brokers to begin with, each 'host:port'.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 262), regex(pattern = HOST_PORT)),
        transform = bounds::set
    )]
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers. Default: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// SASL to the brokers, as the producer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<SaslAuthentication>,
    /// SASL to the brokers for creating and changing topics, used by the operator only. Default: as authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_authentication: Option<SaslAuthentication>,
    /// What may be chosen of the producer. That it is idempotent and waits for all in-sync replicas may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<Producer>,
}

/// TLS to the brokers; their certificates and names are always checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates that sign those of the brokers, in PEM. Default: those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSecret>,
    /// The Secret of type kubernetes.io/tls with the certificate (tls.crt) and key (tls.key) that clients show to the
    /// brokers: mutual TLS, alone or beside SASL. Operator and edge pods show the same. Default: none is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_secret: Option<NameReference>,
}

/// How to authenticate: exactly one of the mechanisms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SaslAuthentication {
    /// SCRAM-SHA-512.
    ScramSha512(SaslCredentials),
    /// SCRAM-SHA-256.
    ScramSha256(SaslCredentials),
    /// PLAIN. Choose it with TLS only: the password travels as it is.
    Plain(SaslCredentials),
}

impl SaslAuthentication {
    /// The mechanism and who authenticates by it.
    #[must_use]
    pub fn parts(&self) -> (SaslMechanism, &SaslCredentials) {
        match self {
            Self::ScramSha512(credentials) => (SaslMechanism::ScramSha512, credentials),
            Self::ScramSha256(credentials) => (SaslMechanism::ScramSha256, credentials),
            Self::Plain(credentials) => (SaslMechanism::Plain, credentials),
        }
    }
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaslCredentials {
    /// User name.
    #[schemars(length(min = 1, max = 255))]
    pub username: String,
    /// The Secret that holds the password.
    pub password_secret: PasswordSecret,
}

/// What may be chosen of the producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Producer {
    /// How long a message may wait for others to share a batch with; part of every acknowledgement's latency.
    /// Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub linger_milliseconds: Option<i32>,
    /// Compression of batches. Default: Lz4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

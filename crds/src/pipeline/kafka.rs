//! `spec.kafka`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, HOST_PORT, OAUTH_SCOPE, TOKEN_ENDPOINT};
use super::references::{CaSecret, ClientSecret, NameReference, PasswordSecret};
use crate::edge::{Compression, KafkaAuthentication, SaslMechanism, TokenEndpoint};

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
    /// OAUTHBEARER (RFC 7628) with a token that an authorization server gives to clients (the client credentials grant,
    /// RFC 6749 §4.4). It is renewed before it expires.
    OauthBearer(OauthClient),
}

impl SaslAuthentication {
    /// The same, as a client reads it.
    #[must_use]
    pub fn resolve(&self) -> KafkaAuthentication {
        let (mechanism, credentials) = match self {
            Self::ScramSha512(credentials) => (SaslMechanism::ScramSha512, credentials),
            Self::ScramSha256(credentials) => (SaslMechanism::ScramSha256, credentials),
            Self::Plain(credentials) => (SaslMechanism::Plain, credentials),
            Self::OauthBearer(client) => return client.resolve(),
        };
        KafkaAuthentication {
            mechanism,
            username: credentials.username.clone(),
            password: credentials.password_secret.path(),
            token: None,
        }
    }
}

/// A client of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthClient {
    /// Where tokens are given, such as 'https://sso.example.com/realms/iot/protocol/openid-connect/token'. Choose https:
    /// the client's secret and the tokens travel as they are.
    #[schemars(length(min = 8, max = 2_048), regex(pattern = TOKEN_ENDPOINT))]
    pub token_endpoint: String,
    /// Identifier of the client.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
    /// The Secret that holds the client's secret.
    pub client_secret: ClientSecret,
    /// What is asked for, names with a space between them. Default: what the server gives unasked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_024), regex(pattern = OAUTH_SCOPE))]
    pub scope: Option<String>,
    /// Certificates that sign that of the authorization server, in PEM. Default: those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSecret>,
}

impl OauthClient {
    fn resolve(&self) -> KafkaAuthentication {
        KafkaAuthentication {
            mechanism: SaslMechanism::OauthBearer,
            username: self.client_id.clone(),
            password: self.client_secret.path(),
            token: Some(TokenEndpoint {
                url: self.token_endpoint.clone(),
                scope: self.scope.clone(),
                ca: self.ca.as_ref().map(CaSecret::path),
            }),
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

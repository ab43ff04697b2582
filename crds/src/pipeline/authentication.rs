//! `spec.endpoints[].authentication`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::references::{JwksConfigMap, JwksSecret, TokensSecret, UsersSecret};
use crate::edge::{CertificateField, JwtAlgorithm, ReferencePath};

/// Who may send: exactly one way to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAuthentication {
    /// How a sender proves who it is.
    #[serde(flatten)]
    pub method: AuthenticationMethod,
    /// Which MQTT client identifiers a sender may use: text with {identity} and {claims.NAME}, and '*' at the end for
    /// any further characters: '{identity}' or '{identity}-*'. Others are refused with 0x85 (3.1.1: 2), also an empty
    /// one. Only with mqtt. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub client_id: Option<String>,
}

/// How a sender proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthenticationMethod {
    /// User names and passwords: by HTTP the Basic scheme, by MQTT user name and password of CONNECT.
    Basic(Basic),
    /// Secrets that machines made: by HTTP the Bearer scheme, by MQTT the password of CONNECT, whatever the user name.
    Token(Token),
    /// JSON Web Tokens (RFC 7519): by HTTP the Bearer scheme, by MQTT the password of CONNECT, whatever the user name.
    Jwt(Jwt),
    /// The certificate that a sender shows; needs tls with clientAuth: Required.
    ClientCertificate(ClientCertificate),
}

/// User names and passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// The Secret with a line 'user:hash' for each user; the hash is bcrypt ($2b$…), argon2id in PHC form, or
    /// sha256:HEX for passwords that a machine made. A changed one is taken over at once.
    pub users_secret: UsersSecret,
}

/// Secrets that machines made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The Secret with a line 'identity:sha256:HEX' for each token: the SHA-256 of a token of at least 128 random bits.
    /// An identity may have several. A changed one is taken over at once.
    pub tokens_secret: TokensSecret,
}

/// JSON Web Tokens that somebody else issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// The public keys of the issuer. Changed ones are taken over at once.
    pub jwks: Jwks,
    /// The signature algorithms that are accepted. There is neither none nor one with a shared secret.
    #[schemars(length(min = 1, max = 9), transform = bounds::set)]
    pub algorithms: Vec<JwtAlgorithm>,
    /// What the claim aud must be, or have among its elements.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
    /// What the claim iss must be.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// By how much the clocks of issuer and pods may differ, for exp and nbf. A token must have exp. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub leeway_seconds: Option<i32>,
    /// The claim that names the sender; it must be text. Default: sub.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub identity_claim: Option<String>,
}

/// Where a JSON Web Key Set (RFC 7517) is kept: exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Jwks {
    /// A Secret in the namespace of the pipeline.
    Secret(JwksSecret),
    /// A ConfigMap in the namespace of the pipeline.
    ConfigMap(JwksConfigMap),
}

impl Jwks {
    /// The file in which a sidecar finds it.
    #[must_use]
    pub fn path(&self) -> ReferencePath {
        match self {
            Self::Secret(reference) => reference.path(),
            Self::ConfigMap(reference) => reference.path(),
        }
    }
}

/// The certificate that a sender shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The field of the certificate that names the sender. One with none or with several of it is refused.
    pub identity: CertificateField,
}

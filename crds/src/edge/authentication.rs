//! Authentication in the [`super::EdgeConfig`]: who may send.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference_path::ReferencePath;

/// Who may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfig {
    /// How a sender proves who it is.
    pub method: AuthenticationMethodConfig,
    /// Which MQTT client identifiers a sender may use, see [`crate::identity::ClientIdPattern`]; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// How a sender proves who it is. Files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AuthenticationMethodConfig {
    /// File of users and the hashes of their passwords.
    Basic(ReferencePath),
    /// File of identities and the hashes of their tokens.
    Token(ReferencePath),
    /// JSON Web Tokens.
    Jwt(JwtConfig),
    /// The field of the sender's certificate that names it.
    ClientCertificate(CertificateField),
}

/// Which JSON Web Tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtConfig {
    /// File with the issuer's keys (RFC 7517).
    pub jwks: ReferencePath,
    /// Accepted signature algorithms.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The `aud` that is asked for.
    pub audience: String,
    /// The `iss` that is asked for.
    pub issuer: String,
    /// Allowed difference of clocks.
    pub leeway_seconds: u32,
    /// The claim that names the sender.
    pub identity_claim: String,
}

/// Signature algorithms of JSON Web Tokens (RFC 7518, RFC 8037), those with a public key only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// The field of a certificate that names its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum CertificateField {
    /// CN of the subject.
    CommonName,
    /// The subject alternative name of type DNS.
    DnsName,
    /// The subject alternative name of type URI, such as a SPIFFE ID.
    Uri,
}

//! Tokens for OAUTHBEARER (RFC 7628): an authorization server gives them to clients that show an identifier and a secret
//! (the client credentials grant, RFC 6749 §4.4). librdkafka asks for one when a client starts, at four fifths of its
//! lifetime, and ten seconds after a failure; each connection shows the newest.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use penstock_crds::connection::TokenRequest;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// How long an authorization server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Of an answer: a token is a few KiB.
const MAX_ANSWER_BYTES: u64 = 64 * 1_024;
/// Of what an authorization server says of a refusal.
const MAX_WORDS: usize = 200;

/// Why there is no token. It holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// librdkafka asks with something that is not from [`penstock_crds::connection::settings`].
    #[error("there is no token endpoint to ask")]
    NoRequest,
    /// `ca` holds no certificate.
    #[error("oauthBearer.ca: the Secret holds no certificates in PEM that can be read: correct it")]
    Ca,
    /// No answer.
    #[error("no token from {url}: {why}: check oauthBearer.tokenEndpoint, its CA, and that the server runs")]
    Unreachable {
        /// The token endpoint.
        url: String,
        /// The client library's words.
        why: String,
    },
    /// RFC 6749 §5.2.
    #[error(
        "no token from {url}: it answers {status}{words}: check oauthBearer, its clientId, clientSecret and scope"
    )]
    Refused {
        /// The token endpoint.
        url: String,
        /// Status of the answer.
        status: StatusCode,
        /// The server's words, if it has some, behind a colon.
        words: String,
    },
    /// An answer that is not as in RFC 6749 §5.1.
    #[error("no token from {url}: its answer has no {field}: check that oauthBearer.tokenEndpoint is one")]
    Unreadable {
        /// The token endpoint.
        url: String,
        /// What is missing.
        field: &'static str,
    },
}

/// RFC 6749 §5.1 and §5.2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: String,
    expires_in: Option<serde_json::Value>,
    error: String,
    error_description: String,
}

/// Asks for a token. Blocks, for up to five seconds. `request` is what librdkafka has as `sasl.oauthbearer.config`.
///
/// # Errors
/// When there is none, and why.
pub fn fetch(request: Option<&str>) -> Result<OAuthToken, TokenError> {
    let request: TokenRequest =
        request.and_then(|request| serde_json::from_str(request).ok()).ok_or(TokenError::NoRequest)?;
    let TokenRequest { url, client_id, client_secret, scope, ca } = request;
    let unreachable =
        |error: ureq::Error| TokenError::Unreachable { url: url.clone(), why: error.to_string() };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // The client's secret is for that server alone.
        .max_redirects(0)
        .tls_config(tls(ca.as_deref())?)
        .build()
        .into();
    let [user, password] =
        [&client_id, &client_secret].map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC));
    let form = [("grant_type", "client_credentials")].into_iter();
    let asked = SystemTime::now();
    let mut response = agent
        .post(&url)
        .header("authorization", format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
        .header("accept", "application/json")
        .send_form(form.chain(scope.as_deref().map(|scope| ("scope", scope))))
        .map_err(unreachable)?;
    let status = response.status();
    let body =
        response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(unreachable)?;
    let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
    if status != StatusCode::OK {
        let Answer { error, error_description, .. } = answer;
        let words = [error, error_description].into_iter().filter(|words| !words.is_empty());
        let words = words.map(|words| format!(": {}", printable(&words))).collect();
        return Err(TokenError::Refused { url, status, words });
    }
    let lifetime = answer.expires_in.as_ref().and_then(seconds);
    let Some(lifetime) = lifetime else { return Err(TokenError::Unreadable { url, field: "expires_in" }) };
    // RFC 6750 §2.1: visible characters, so that it can be a C string.
    if answer.access_token.is_empty() || !answer.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Unreadable { url, field: "access_token" });
    }
    let expires = asked.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(lifetime);
    Ok(OAuthToken {
        token: answer.access_token,
        principal_name: client_id,
        lifetime_ms: i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
    })
}

fn tls(ca: Option<&str>) -> Result<TlsConfig, TokenError> {
    let roots: Vec<Certificate<'static>> = match ca {
        Some(pem) => parse_pem(pem.as_bytes())
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect(),
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect(),
    };
    if ca.is_some() && roots.is_empty() {
        return Err(TokenError::Ca);
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}

/// Some servers write the number as text. A year is for ever.
fn seconds(value: &serde_json::Value) -> Option<u64> {
    const YEAR: u64 = 31_536_000;
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0).then_some(seconds.min(YEAR))
}

fn printable(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lifetime_is_a_number_or_says_one() {
        for (value, told) in [
            (json!(300), Some(300)),
            (json!("300"), Some(300)),
            (json!(u64::MAX), Some(31_536_000)),
            (json!(0), None),
            (json!(-1), None),
            (json!("soon"), None),
            (json!(null), None),
        ] {
            assert_eq!(seconds(&value), told, "{value}");
        }
    }

    #[test]
    fn without_a_request_or_with_a_ca_that_is_none_nobody_is_asked() {
        assert!(matches!(fetch(None), Err(TokenError::NoRequest)));
        assert!(matches!(fetch(Some("principal=admin")), Err(TokenError::NoRequest)));
        assert!(matches!(tls(Some("no certificate at all")), Err(TokenError::Ca)));
    }
}

//! JSON Web Tokens: which are accepted, and what they say.

pub(super) mod key;
mod signature;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, Validation};
use penstock_crds::edge::{JwtAlgorithm, JwtConfig};
use serde_json::{Map, Value};

use self::key::Key;
pub use self::key::Keys;
use super::identity::{Claims, Identity};
use super::lines::MAX_NAME_BYTES;

/// The longest token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 8_192;
/// Keys that are tried for a token that names none.
const MAX_TRIES: usize = 4;
/// Values of one claim that are kept, and the bytes of one.
const MAX_VALUES: usize = 64;
const MAX_VALUE_BYTES: usize = 512;

/// Which tokens are accepted.
pub(super) struct Rules {
    validation: Validation,
    leeway: Duration,
    identity_claim: String,
    /// Claims that are kept, as templates name them.
    wanted: Vec<Arc<str>>,
}

/// A token that is right, of somebody without a usable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nameless;

impl Rules {
    pub(super) fn new(config: &JwtConfig, wanted: Vec<Arc<str>>) -> Self {
        signature::install();
        let algorithms: Vec<_> = config.algorithms.iter().map(|one| algorithm(*one)).collect();
        let leeway = u64::from(config.leeway_seconds);
        let mut validation = Validation { algorithms, leeway, validate_nbf: true, ..Validation::default() };
        validation.set_audience(&[&config.audience]);
        validation.set_issuer(&[&config.issuer]);
        // What is malformed counts as missing.
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        Self {
            validation,
            leeway: Duration::from_secs(u64::from(config.leeway_seconds)),
            identity_claim: config.identity_claim.clone(),
            wanted,
        }
    }

    /// Who shows this token. None if it is not right.
    pub(super) fn verify(&self, token: &[u8], keys: &Keys) -> Option<Result<Identity, Nameless>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        // What a header calls critical must be understood (RFC 7515 §4.1.11), and nothing of it is.
        if !self.validation.algorithms.contains(&header.alg) || header.crit.is_some() {
            return None;
        }
        let fits = |key: &&Arc<Key>| {
            let named = header.kid.as_ref().is_none_or(|kid| key.jwk.common.key_id.as_ref() == Some(kid));
            named && key.algorithms.contains(&header.alg)
        };
        // Of one algorithm: the key has to be of its family.
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let (key, claims) = keys.0.iter().filter(fits).take(MAX_TRIES).find_map(|key| {
            let data = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation).ok()?;
            Some((key, data.claims))
        })?;
        let expires = self.deadline(&claims)?;
        let name = claims.get(&self.identity_claim).and_then(Value::as_str);
        let name = name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES);
        Some(match name {
            Some(name) => Ok(Identity::of_token(name, self.kept(&claims), expires, Arc::clone(key))),
            None => Err(Nameless),
        })
    }

    /// When a connection by this token ends: at `exp`, and the leeway after it.
    fn deadline(&self, claims: &Map<String, Value>) -> Option<Instant> {
        let exp = Duration::try_from_secs_f64(claims.get("exp")?.as_f64()?).unwrap_or(Duration::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = exp.saturating_add(self.leeway).saturating_sub(now);
        // A token for ever: for a hundred years.
        Some(Instant::now() + left.min(Duration::from_secs(3_155_760_000)))
    }

    /// What templates name.
    fn kept(&self, claims: &Map<String, Value>) -> Claims {
        let one = |name: &Arc<str>| Some((Arc::clone(name), values(claims.get(&**name)?)));
        self.wanted.iter().filter_map(one).collect()
    }
}

/// Texts, numbers and truth values, alone or in a list.
fn values(claim: &Value) -> Vec<Box<str>> {
    let text = |value: &Value| -> Option<Box<str>> {
        let text: Box<str> = match value {
            Value::String(text) => text.as_str().into(),
            Value::Number(number) => number.to_string().into(),
            Value::Bool(truth) => truth.to_string().into(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.is_empty() && text.len() <= MAX_VALUE_BYTES).then_some(text)
    };
    match claim {
        Value::Array(all) => all.iter().filter_map(text).take(MAX_VALUES).collect(),
        one => text(one).into_iter().collect(),
    }
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests;

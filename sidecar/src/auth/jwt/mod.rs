//! JSON Web Tokens: which are accepted, and what they say.

mod signature;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use penstock_crds::edge::{JwtAlgorithm, JwtConfig};
use serde_json::{Map, Value};

use super::identity::{Claims, Identity};
use super::lines::{FileError, MAX_FILE_BYTES, MAX_NAME_BYTES};

/// The longest token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 8_192;
/// Keys that a set may have.
const MAX_KEYS: usize = 64;
/// Keys that are tried for a token that names none.
const MAX_TRIES: usize = 4;
/// Values of one claim that are kept, and the bytes of one.
const MAX_VALUES: usize = 64;
const MAX_VALUE_BYTES: usize = 512;

/// A public key of the issuer.
pub(super) struct Key {
    jwk: Jwk,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// None for keys that sign nothing that is accepted: other kinds, and those for encryption.
    fn read(jwk: Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        if matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
            return None;
        }
        // Never an algorithm with a shared secret: a public key is no secret.
        let algorithms: &'static [Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[ES256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[ES384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
            _ => return None,
        };
        let own = jwk.common.key_algorithm.map(|own| format!("{own:?}"));
        let may = |one: &Algorithm| own.as_ref().is_none_or(|own| *own == format!("{one:?}"));
        let algorithms = algorithms.iter().copied().filter(may).collect();
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { jwk, algorithms, key })
    }
}

/// The keys of an issuer (RFC 7517).
#[derive(Debug, Default)]
pub struct Keys(Vec<Arc<Key>>);

impl Keys {
    /// Reads a file. A key that is the same as in `before` stays the same.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(contents: &[u8], before: Option<&Self>) -> Result<Self, FileError> {
        if contents.len() > MAX_FILE_BYTES {
            return Err(FileError::Whole("the file is larger than 16 MiB"));
        }
        let set: JwkSet = serde_json::from_slice(contents).map_err(|error| FileError::Line {
            line: error.line().max(1),
            rule: "is where the file ceases to be a JSON Web Key Set, {\"keys\": […]}",
        })?;
        if set.keys.len() > MAX_KEYS {
            return Err(FileError::Whole("the set has more than 64 keys"));
        }
        let keep = |key: Key| {
            let known = before.and_then(|before| before.0.iter().find(|known| known.jwk == key.jwk));
            known.cloned().unwrap_or_else(|| Arc::new(key))
        };
        let keys: Vec<_> = set.keys.into_iter().filter_map(Key::read).map(keep).collect();
        if keys.is_empty() {
            return Err(FileError::Whole("the set has no RSA, P-256, P-384 or Ed25519 key for signatures"));
        }
        Ok(Self(keys))
    }

    /// Whether this key is still there.
    pub(super) fn has(&self, key: &Arc<Key>) -> bool {
        self.0.iter().any(|known| Arc::ptr_eq(known, key))
    }
}

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

//! The public keys of an issuer.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::auth::lines::{FileError, MAX_FILE_BYTES};

/// Keys that a set may have.
const MAX_KEYS: usize = 64;

/// A public key of the issuer.
pub(in crate::auth) struct Key {
    pub(super) jwk: Jwk,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
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
pub struct Keys(pub(super) Vec<Arc<Key>>);

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
    pub(in crate::auth) fn has(&self, key: &Arc<Key>) -> bool {
        self.0.iter().any(|known| Arc::ptr_eq(known, key))
    }
}

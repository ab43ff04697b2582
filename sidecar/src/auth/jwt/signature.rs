//! Signatures of JSON Web Tokens by ring, which TLS brings already. Tokens are verified here, never made, and there is
//! no algorithm with a shared secret.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::InvalidAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::InvalidAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    },
};

/// Makes tokens be verified here. Once is enough.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = |parameters| rsa(*algorithm, parameters, key);
    let curve = |kind| curve(*algorithm, kind, key);
    match algorithm {
        RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
        RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
        PS256 => rsa(&RSA_PSS_2048_8192_SHA256),
        PS384 => rsa(&RSA_PSS_2048_8192_SHA384),
        PS512 => rsa(&RSA_PSS_2048_8192_SHA512),
        ES256 => curve(&ECDSA_P256_SHA256_FIXED),
        ES384 => curve(&ECDSA_P384_SHA384_FIXED),
        EdDSA => curve(&ED25519),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Rsa {
    algorithm: Algorithm,
    parameters: &'static RsaParameters,
    key: RsaPublicKeyComponents<Vec<u8>>,
}

fn rsa(
    algorithm: Algorithm,
    parameters: &'static RsaParameters,
    key: &DecodingKey,
) -> Result<Box<dyn JwtVerifier>> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let key = RsaPublicKeyComponents { n: n.clone(), e: e.clone() };
            Ok(Box::new(Rsa { algorithm, parameters, key }))
        }
        DecodingKeyKind::SecretOrDer(_) => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

impl Verifier<Vec<u8>> for Rsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.key.verify(self.parameters, message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Rsa {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct Curve {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

fn curve(
    algorithm: Algorithm,
    kind: &'static dyn VerificationAlgorithm,
    key: &DecodingKey,
) -> Result<Box<dyn JwtVerifier>> {
    let key = UnparsedPublicKey::new(kind, key.try_get_as_bytes()?.to_vec());
    Ok(Box::new(Curve { algorithm, key }))
}

impl Verifier<Vec<u8>> for Curve {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.key.verify(message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Curve {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

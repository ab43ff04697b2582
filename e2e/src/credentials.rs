//! What senders prove themselves by: lines of Secrets, and an issuer of JSON Web Tokens.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Argon2, Params};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::process::run;
use crate::{folder, parts};

/// `name:sha256:HEX`.
pub fn sha256_line(name: &str, secret: &str) -> String {
    let hex: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:sha256:{hex}\n")
}

/// `name:$2b$…`.
///
/// # Panics
/// With a cost that bcrypt does not have.
pub fn bcrypt_line(name: &str, password: &str, cost: u32) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, cost).expect("a hash"))
}

/// `name:$argon2id$…` of so many KiB and passes.
///
/// # Panics
/// With parameters that argon2 does not have.
pub fn argon2_line(name: &str, password: &str, kib: u32, passes: u32) -> String {
    let params = Params::new(kib, passes, 1, None).expect("parameters");
    let salt = SaltString::encode_b64(&Sha256::digest(name)[..16]).expect("a salt");
    let hash = Argon2::from(params).hash_password(password.as_bytes(), &salt).expect("a hash");
    format!("{name}:{hash}\n")
}

/// An issuer with one RSA key, made and used by OpenSSL.
pub struct Issuer {
    folder: TempDir,
}

impl Issuer {
    /// The issuer's name.
    pub const NAME: &str = "https://issuer.example";
    /// Whom its tokens are for.
    pub const AUDIENCE: &str = "telemetry";

    /// An issuer with a new key.
    ///
    /// # Panics
    /// Without OpenSSL.
    #[track_caller]
    pub fn new() -> Self {
        let issuer = Self { folder: folder::fresh("issuer-") };
        issuer.openssl(&[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            "key.pem",
        ]);
        issuer
    }

    /// What goes into `authentication.jwt` beside `jwks`.
    pub fn settings(jwks: &Value) -> Value {
        json!({"jwt": {"jwks": jwks, "algorithms": ["RS256"], "audience": Self::AUDIENCE,
                       "issuer": Self::NAME, "leewaySeconds": 0}})
    }

    /// Its JSON Web Key Set.
    #[track_caller]
    pub fn jwks(&self) -> String {
        let text = self.openssl(&["rsa", "-in", "key.pem", "-noout", "-modulus"]);
        let hex = text.trim().strip_prefix("Modulus=").expect("a modulus");
        let modulus: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits"))
            .collect();
        json!({"keys": [{"kty": "RSA", "use": "sig", "kid": "one", "n": coded(modulus), "e": "AQAB"}]})
            .to_string()
    }

    /// A token of `name` that lives for `seconds`, with more claims.
    #[track_caller]
    pub fn token(&self, name: &str, seconds: u64, more: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let mut claims =
            json!({"iss": Self::NAME, "aud": Self::AUDIENCE, "sub": name, "iat": now, "exp": now + seconds});
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "RS256", "kid": "one", "typ": "JWT"});
        let message = format!("{}.{}", coded(header.to_string()), coded(claims.to_string()));
        std::fs::write(self.folder.path().join("message"), &message).expect("a message");
        self.openssl(&["dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "message"]);
        let signature = std::fs::read(self.folder.path().join("signature")).expect("a signature");
        format!("{message}.{}", coded(signature))
    }

    #[track_caller]
    fn openssl(&self, arguments: &[&str]) -> String {
        run(Command::new(parts::program("openssl")).args(arguments).current_dir(self.folder.path()))
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

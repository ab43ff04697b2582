//! Hashes of passwords as they stand in files.

use argon2::password_hash::{PasswordHash, PasswordVerifier};
use argon2::{Argon2, Params};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a line with argon2id may ask for: memory in KiB, passes, lanes.
const MAX_ARGON2: (u32, u32, u32) = (65_536, 16, 16);
/// What a line with bcrypt may ask for: 2^14 rounds are over a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u8> = 4..=14;

/// The hash of a password or token.
#[derive(PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-256: for secrets with so much chance in them that nobody guesses one.
    Sha256([u8; 32]),
    /// `$2b$…`.
    Bcrypt(Box<str>),
    /// `$argon2id$…` (PHC string format).
    Argon2(Box<str>),
}

impl Hash {
    /// Reads a hash, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            return sha256_hex(hex).map(Self::Sha256);
        }
        if text.starts_with("$argon2id$") {
            return argon2id(text).map(|()| Self::Argon2(text.into()));
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version)) {
            return bcrypt(text).map(|()| Self::Bcrypt(text.into()));
        }
        Err("has no hash that is known; use bcrypt ($2b$…), argon2id ($argon2id$…) or sha256:HEX")
    }

    /// Whether verifying takes so long that it must not be done on an I/O thread.
    pub(super) fn is_slow(&self) -> bool {
        !matches!(self, Self::Sha256(_))
    }

    /// Whether `secret` has this hash. The time does not depend on where the two differ.
    pub(super) fn verify(&self, secret: &[u8]) -> bool {
        match self {
            Self::Sha256(hash) => sha256(secret).ct_eq(hash).into(),
            // Truncating would let in whoever knows the first 72 bytes.
            Self::Bcrypt(hash) => bcrypt::non_truncating_verify(secret, hash).unwrap_or(false),
            Self::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok()),
        }
    }
}

pub(super) fn sha256(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// 64 hexadecimal digits.
pub(super) fn sha256_hex(hex: &str) -> Result<[u8; 32], &'static str> {
    const RULE: &str = "needs 64 hexadecimal digits behind sha256:";
    let mut hash = [0; 32];
    if hex.len() != 64 {
        return Err(RULE);
    }
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or(RULE)?;
            *byte = *byte << 4 | u8::try_from(value).unwrap_or_default();
        }
    }
    Ok(hash)
}

fn bcrypt(text: &str) -> Result<(), &'static str> {
    const RULE: &str = "has a bcrypt hash that is not $2b$COST$ and 53 characters";
    let (cost, rest) = text.get(4..).and_then(|rest| rest.split_once('$')).ok_or(RULE)?;
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(alphabet) {
        return Err(RULE);
    }
    let cost = cost.parse::<u8>().map_err(|_| RULE)?;
    if !BCRYPT_COSTS.contains(&cost) {
        return Err("has a bcrypt hash with a cost that is not 4 to 14");
    }
    // Reads all of it.
    text.parse::<bcrypt::HashParts>().map(drop).map_err(|_| RULE)
}

fn argon2id(text: &str) -> Result<(), &'static str> {
    const RULE: &str = "has an argon2id hash that is not $argon2id$v=19$m=…,t=…,p=…$SALT$HASH";
    let hash = PasswordHash::new(text).map_err(|_| RULE)?;
    if hash.version != Some(19) || hash.salt.is_none() || hash.hash.is_none() {
        return Err(RULE);
    }
    let params = Params::try_from(&hash).map_err(|_| RULE)?;
    let (memory, passes, lanes) = MAX_ARGON2;
    if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
        return Err("has an argon2id hash that asks for more than m=65536, t=16, p=16");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_hash_is_read_and_verified() {
        let argon2 = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";
        let made = {
            use argon2::password_hash::{PasswordHasher, SaltString};
            let salt = SaltString::from_b64("c29tZXNhbHQ").unwrap();
            let params = Params::new(8, 1, 1, None).unwrap();
            Argon2::from(params).hash_password(b"secret", &salt).unwrap().to_string()
        };
        assert!(made.starts_with(argon2));
        for (text, slow) in [
            (bcrypt::hash("secret", 4).unwrap(), true),
            (bcrypt::hash("secret", 4).unwrap().replacen("$2b$", "$2y$", 1), true),
            (made, true),
            ("sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b".to_owned(), false),
        ] {
            let hash = Hash::parse(&text).unwrap_or_else(|rule| panic!("{text}: {rule}"));
            assert_eq!(hash.is_slow(), slow);
            assert!(hash.verify(b"secret"), "{text}");
            assert!(!hash.verify(b"secrets") && !hash.verify(b""), "{text}");
        }
    }

    #[test]
    fn bcrypt_does_not_take_the_first_72_bytes_for_the_whole() {
        let long = [b'a'; 80];
        let hash = Hash::parse(&bcrypt::hash(&long[..72], 4).unwrap()).unwrap();
        assert!(!hash.verify(&long));
    }

    #[test]
    fn what_is_too_weak_too_dear_or_broken_is_refused() {
        for text in [
            "",
            "secret",
            "sha256:",
            "sha256:zz",
            "$2b$04$short",
            "$2b$31$CwTycUXWue0Thq9StjUM0uJ8oAQ4Z6YkG1ZkW3mXbq6cM5b2xFv8W",
            "$2x$10$CwTycUXWue0Thq9StjUM0uJ8oAQ4Z6YkG1ZkW3mXbq6cM5b2xFv8W",
            "$1$salt$hash",
            "$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=1048576,t=3,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
            "$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHQ",
        ] {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }
}

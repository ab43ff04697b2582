//! Tokens that machines made: `identity:sha256:HEX`, a line each.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::hash::{sha256, sha256_hex};
use super::lines::{self, FileError};

/// A token, as one line says.
#[derive(PartialEq, Eq)]
pub(super) struct Token {
    pub(super) identity: Box<str>,
    hash: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// All tokens of a file.
#[derive(Default)]
pub struct Tokens {
    // Found by its hash: how long that takes says nothing of a token that is not known by its hash already.
    by_hash: HashMap<[u8; 32], Arc<Token>>,
}

impl Tokens {
    /// Reads a file. A line that says the same as in `before` stays the same [`Token`].
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(contents: &[u8], before: Option<&Self>) -> Result<Self, FileError> {
        let mut tokens = Self::default();
        lines::each(contents, |line| {
            const RULE: &str = "has no hash that is known; write identity:sha256:HEX";
            let (identity, rest) = lines::named(line)?;
            let hash = sha256_hex(rest.strip_prefix("sha256:").ok_or(RULE)?)?;
            let token = Token { identity: identity.into(), hash };
            let known = before.and_then(|before| before.by_hash.get(&hash)).filter(|known| ***known == token);
            let token = known.cloned().unwrap_or_else(|| Arc::new(token));
            match tokens.by_hash.insert(hash, token) {
                Some(_) => Err("has a token that another line has too"),
                None => Ok(()),
            }
        })?;
        Ok(tokens)
    }

    /// The line of a token.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Arc<Token>> {
        self.by_hash.get(&sha256(token))
    }

    /// Whether this line is still there.
    pub(super) fn has(&self, token: &Arc<Token>) -> bool {
        self.by_hash.get(&token.hash).is_some_and(|known| Arc::ptr_eq(known, token))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(identity: &str, token: &[u8]) -> String {
        let hex: String = sha256(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{identity}:sha256:{hex}\n")
    }

    #[test]
    fn an_identity_may_have_several_tokens_and_loses_them_one_by_one() {
        let before = Tokens::parse([line("a", b"1"), line("a", b"2")].concat().as_bytes(), None).unwrap();
        let (one, two) = (before.find(b"1").unwrap(), before.find(b"2").unwrap());
        assert_eq!((&*one.identity, &*two.identity), ("a", "a"));
        assert!(before.find(b"3").is_none());
        let after = Tokens::parse(line("a", b"2").as_bytes(), Some(&before)).unwrap();
        assert!(!after.has(one) && after.has(two));
        let renamed = Tokens::parse(line("b", b"2").as_bytes(), Some(&after)).unwrap();
        assert!(!renamed.has(two), "the token of another is another token");
    }

    #[test]
    fn only_sha256_lines_are_read() {
        for file in ["a:b", "a:$2b$04$x", "a:sha256:00", &[line("a", b"1"), line("b", b"1")].concat()] {
            assert!(Tokens::parse(file.as_bytes(), None).is_err(), "{file}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(contents in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = Tokens::parse(&contents, None);
        }
    }
}

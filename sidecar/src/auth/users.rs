//! Users and the hashes of their passwords: `user:hash`, a line each.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::hash::Hash;
use super::lines::{self, FileError};

/// A user, as one line says.
#[derive(PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: Box<str>,
    pub(super) hash: Hash,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

/// All users of a file.
#[derive(Default)]
pub struct Users {
    by_name: HashMap<Box<str>, usize>,
    all: Vec<Arc<User>>,
}

impl Users {
    /// Reads a file. A line that says the same as in `before` stays the same [`User`].
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(contents: &[u8], before: Option<&Self>) -> Result<Self, FileError> {
        let mut users = Self::default();
        lines::each(contents, |line| {
            let (name, hash) = lines::named(line)?;
            let user = User { name: name.into(), hash: Hash::parse(hash)? };
            if users.by_name.insert(name.into(), users.all.len()).is_some() {
                return Err("has a user that another line has too");
            }
            let known = before.and_then(|before| before.find(name)).filter(|known| ***known == user);
            users.all.push(known.cloned().unwrap_or_else(|| Arc::new(user)));
            Ok(())
        })?;
        Ok(users)
    }

    /// The user of a name.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name).and_then(|index| self.all.get(*index))
    }

    /// A user to verify against in place of one that is not there, so that both take as long. The same `number` gives
    /// the same one.
    pub(super) fn decoy(&self, number: u64) -> Option<&Arc<User>> {
        let count = u64::try_from(self.all.len()).ok().filter(|count| *count > 0)?;
        self.all.get(usize::try_from(number % count).unwrap_or_default())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn an_unchanged_line_stays_the_same_user() {
        let file = format!("# remark\n\nada:sha256:{HEX}\r\nbob:sha256:{HEX}");
        let before = Users::parse(file.as_bytes(), None).unwrap();
        assert_eq!(before.len(), 2);
        let file = file.replace("bob:sha256:2b", "bob:sha256:2c");
        let after = Users::parse(file.as_bytes(), Some(&before)).unwrap();
        let same = |name| Arc::ptr_eq(before.find(name).unwrap(), after.find(name).unwrap());
        assert!(same("ada") && !same("bob"));
        assert!(after.find("eve").is_none());
        assert!(after.decoy(7).is_some() && Users::default().decoy(7).is_none());
    }

    #[test]
    fn a_broken_line_is_named_by_its_number_only() {
        for (file, line) in [("ada", 1), (":x", 1), ("a:sha256:1\n", 1), ("#\n\na:plain", 3)] {
            let error = Users::parse(file.as_bytes(), None).unwrap_err();
            assert!(matches!(error, FileError::Line { line: found, .. } if found == line), "{file}: {error}");
        }
        let twice = format!("a:sha256:{HEX}\na:sha256:{HEX}");
        let error = Users::parse(twice.as_bytes(), None).unwrap_err();
        assert_eq!(error.to_string(), "line 2: has a user that another line has too");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(contents in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = Users::parse(&contents, None);
        }

        #[test]
        fn an_error_never_tells_what_stands_in_the_file(secret in "[a-z]{12}", junk in "[$:#a-z0-9,=]{0,40}") {
            if let Err(error) = Users::parse(format!("{secret}{junk}").as_bytes(), None) {
                let told = format!("{error} {error:?}");
                prop_assert!(!told.contains(&secret));
            }
        }
    }
}

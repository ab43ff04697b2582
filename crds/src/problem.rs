//! What is wrong with a manifest.

use std::fmt;

/// One problem: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `spec.routes[0].to.topic`; empty for the document itself.
    pub path: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub advice: String,
}

impl Problem {
    /// A problem of the field at `path`.
    pub fn new(path: impl Into<String>, wrong: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { path: path.into(), wrong: wrong.into(), advice: advice.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.wrong, self.advice)
    }
}

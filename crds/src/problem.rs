//! What is wrong with a pipeline, where, and what to do.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// JSON path of the field: `spec.endpoints[0].port`. Empty means the whole document.
    pub path: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub advice: String,
}

impl Problem {
    /// A problem at `path`.
    pub fn new(path: impl Into<String>, wrong: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { path: path.into(), wrong: wrong.into(), advice: advice.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.wrong)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// `path` and, below it, `name`.
#[must_use]
pub fn below(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}['{}']", name.escape_debug()),
    }
}

/// `path` and, in it, the element `index`.
#[must_use]
pub fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

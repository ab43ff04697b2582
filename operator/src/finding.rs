//! A [`Finding`]: what one part of a reconcile has found, before it becomes a condition.

use crate::reason::Reason;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not.
    False,
    /// It cannot be told.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What was found of one aspect of a pipeline: a condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the aspect holds.
    pub truth: Truth,
    /// Why.
    pub reason: Reason,
    /// For people: what, where, and what to do. Never a secret, never another namespace's objects. It does not change
    /// while nothing changes, or each look would be a write.
    pub message: String,
}

impl Finding {
    /// It holds.
    pub fn holds(reason: Reason, message: impl Into<String>) -> Self {
        Self { truth: Truth::True, reason, message: message.into() }
    }

    /// It does not.
    pub fn fails(reason: Reason, message: impl Into<String>) -> Self {
        Self { truth: Truth::False, reason, message: message.into() }
    }

    /// It cannot be told.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { truth: Truth::Unknown, reason, message: message.into() }
    }

    /// Whether it holds.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.truth == Truth::True
    }
}

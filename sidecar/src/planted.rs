//! Bugs that the ledger checker has to find (e2e/tests/planted_bugs.rs).
//!
//! A build with the feature `planted-bugs` has the one that the variable `PENSTOCK_PLANTED_BUG` names. In every other build
//! [`is`] is false at compile time, and nothing of this is left in the program.

/// A bug of the kind that this program must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "planted-bugs", derive(clap::ValueEnum))]
pub(crate) enum Bug {
    /// A message is acknowledged when the producer has taken it.
    EarlyAck,
    /// A delivery report with an error is taken for one without.
    DroppedDeliveryError,
    /// Now and then the producer has no room for a message, and what comes after it is stored before its sender can send
    /// it again.
    ReorderingRetry,
    /// A message is answered twice.
    DoubleAck,
    /// What is in flight when a connection ends is in no column of the books.
    ForgottenInFlight,
    /// The intent of a QoS 2 message, which another pod left, is taken for its receipt.
    IntentForReceipt,
}

/// Whether this program has a bug.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    use clap::ValueEnum;
    static PLANTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("PENSTOCK_PLANTED_BUG").ok()?;
        let bug = Bug::from_str(&name, false).unwrap_or_else(|error| panic!("PENSTOCK_PLANTED_BUG: {error}"));
        tracing::error!("this program has a bug, on purpose: {name}");
        Some(bug)
    });
    *PLANTED == Some(bug)
}

/// No.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Whether it is this message that finds no room.
#[cfg(feature = "planted-bugs")]
pub(crate) fn finds_no_room() -> bool {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MESSAGES: AtomicU32 = AtomicU32::new(0);
    is(Bug::ReorderingRetry) && MESSAGES.fetch_add(1, Ordering::Relaxed) % 97 == 96
}

/// No.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn finds_no_room() -> bool {
    false
}

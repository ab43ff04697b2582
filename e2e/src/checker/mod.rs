//! The ledger checker: what senders were told, against what Kafka holds.
//!
//! Generators ([`crate::load`]) write a [`History`]; [`crate::Kafka::read`] reads everything back; [`check`] gives the
//! [`Verdict`]. A test that breaks something ends in [`Verdict::assert_kept`].

mod history;
mod verdict;

#[cfg(test)]
mod synthetic_histories;

pub use self::history::{Close, Disturbance, History, Late, Message, Moment, Outcome, Receipt};
pub use self::verdict::{Verdict, check};

//! The chart: what helm makes of it, what it lets the operator do, and what an API server says to it.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod data;
pub(crate) mod helm;
mod rights;
mod served;

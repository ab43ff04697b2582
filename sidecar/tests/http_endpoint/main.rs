//! The HTTP endpoint against librdkafka's mock cluster: answers, bounds, timeouts and books.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod authentication;
mod bounds;
mod fixture;
mod one;
mod refusals;
mod two;

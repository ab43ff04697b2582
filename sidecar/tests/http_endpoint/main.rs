//! The HTTP endpoint against librdkafka's mock cluster: answers, bounds, timeouts and books.

mod bounds;
mod fixture;
mod one;
mod refusals;
mod two;

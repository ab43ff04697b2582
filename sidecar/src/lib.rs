//! The data plane: takes messages in, makes them durable in Kafka, and only then answers the sender.
//!
//! The way of one message: `endpoint` decodes it, `intake` finds its route and builds the record, `store` makes it
//! durable, and the receipt goes back to the endpoint, which answers.

#[cfg(feature = "counted-allocations")]
mod allocations;
pub mod auth;
pub mod budget;
pub mod cli;
pub mod config;
#[cfg(feature = "dev-broker")]
pub mod dev;
pub mod drain;
pub mod edge;
pub mod endpoint;
pub mod intake;
pub mod ledger;
pub mod memory;
mod planted;
pub mod session;
mod spare;
pub mod store;
pub mod telemetry;

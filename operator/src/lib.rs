//! The controller: brings what is in the cluster and in Kafka to what an `IngestPipeline` declares.

pub mod api_error;
pub mod apply;
pub mod cache;
pub mod cli;
pub mod client;
pub mod controller;
pub mod dereference;
pub mod drift;
pub mod endpoints;
pub mod finding;
pub mod lease;
pub mod memory;
pub mod names;
pub mod ownership;
pub mod patience;
pub mod plan;
pub mod reason;
pub mod reconcile;
pub mod rollout;
pub mod status;
pub mod telemetry;
pub mod topics;
pub mod upgrades;

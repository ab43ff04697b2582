//! The controller: brings what is in the cluster and in Kafka to what an `IngestPipeline` declares.

pub mod api_error;
pub mod apply;
pub mod cache;
pub mod client;
pub mod dereference;
pub mod drift;
pub mod finding;
pub mod lease;
pub mod names;
pub mod ownership;
pub mod plan;
pub mod reason;
pub mod rollout;
pub mod status;
pub mod telemetry;

//! The controller: brings what is in the cluster and in Kafka to what an `IngestPipeline` declares.

pub mod client;
pub mod finding;
pub mod lease;
pub mod reason;
pub mod telemetry;

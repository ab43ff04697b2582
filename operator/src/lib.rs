//! The controller: brings what is in the cluster and in Kafka to what an `IngestPipeline` declares.

pub mod finding;
pub mod reason;
pub mod topics;

//! The meaning of an `IngestPipeline`, in one place for operator, sidecar, CLI and tests.
//!
//! Everything here is pure: no I/O, no clock, no runtime.

pub mod edge;
pub mod manifest;
pub mod pattern;
pub mod pipeline;
pub mod problem;
pub mod resolve;
pub mod schema;
pub mod served;
pub mod validate;

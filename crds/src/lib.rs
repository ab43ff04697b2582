//! The meaning of an `IngestPipeline`, in one place for operator, sidecar, CLI and tests.
//!
//! Everything here is pure: no I/O, no clock, no runtime.

pub mod edge;
pub mod pattern;

//! The meaning of an `IngestPipeline`, in one place for operator, sidecar, CLI and tests.
//!
//! A manifest is read by [`manifest`], admitted by [`admission`] (or by an API server), judged by [`validate`] and
//! turned by [`resolve`] into the [`edge::EdgeConfig`] that configures a sidecar. Everything here is pure: no I/O, no
//! clock, no runtime.

pub mod admission;
pub mod cidr;
pub mod connection;
pub mod edge;
pub mod identity;
mod labels;
pub mod manifest;
pub mod pattern;
pub mod pipeline;
pub mod problem;
mod redis_url;
pub mod reference;
pub mod resolve;
pub mod schema;
pub mod served;
pub mod standalone;
pub mod validate;

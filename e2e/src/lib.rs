//! The harness: starts real parts (Apache Kafka, a Kubernetes API or a whole cluster, the sidecar), loads them, breaks
//! them, and proves with a ledger checker that nothing acknowledged was lost or reordered.
//!
//! Everything is synchronous to the test: a call returns when what it promises is so, and panics with the reason and
//! the end of the part's log when it does not become so in time. All parts die with the test process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

pub mod apiserver;
pub mod authorization;
pub mod balancer;
pub mod campaign;
pub mod checker;
pub mod children;
pub mod clients;
pub mod cluster;
pub mod credentials;
pub mod crowd;
pub mod deployments;
pub mod device;
pub mod dice;
pub mod disk;
pub mod folder;
pub mod front;
pub mod image;
pub mod kafka;
pub mod kstatus;
pub mod kubectl;
pub mod load;
pub mod mounted;
pub mod objects;
pub mod operator;
pub mod parts;
pub mod pipeline;
pub mod pki;
pub mod place;
pub mod playground;
pub mod pods;
pub mod ports;
pub mod process;
pub mod publishers;
pub mod raw;
pub mod readiness;
pub mod redis;
mod runtime;
pub mod secure;
pub mod sessions;
pub mod sidecar;
pub mod until;
pub mod versions;

pub use apiserver::ApiServer;
pub use balancer::Balancer;
pub use cluster::{Cluster, Installed};
pub use device::Device;
pub use front::Front;
pub use image::Image;
pub use kafka::Kafka;
pub use operator::Operator;
pub use pipeline::Pipeline;
pub use playground::Playground;
pub use pods::Pods;
pub use process::Process;
pub use readiness::Readiness;
pub use redis::Redis;
pub use sidecar::Sidecar;
pub use until::until;

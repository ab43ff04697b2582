//! What the sidecar says of itself: logs, metrics, probes and the ledger. Never a payload, never a secret.

pub mod admin;
pub mod logging;
pub mod metrics;

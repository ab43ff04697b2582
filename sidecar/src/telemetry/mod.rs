//! What the sidecar says of itself: logs, metrics, probes and the ledger. Never a payload, never a secret.

pub mod admin;
pub mod logging;
pub mod metrics;

use std::fmt;
use std::sync::Arc;

use self::admin::Program;
use self::metrics::Metrics;
use crate::edge::Edge;

/// What the admin port of a sidecar tells.
pub struct Telemetry {
    edge: Arc<Edge>,
    metrics: Metrics,
}

impl Telemetry {
    /// Telemetry of `edge`.
    #[must_use]
    pub fn new(edge: &Arc<Edge>) -> Self {
        Self { edge: Arc::clone(edge), metrics: Metrics::new(Arc::clone(edge)) }
    }
}

impl Program for Telemetry {
    const PAGES: &'static [&'static str] = &["/ledger"];

    fn unready(&self) -> Option<String> {
        self.edge.unready()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.encode()
    }

    fn json(&self, path: &str) -> Option<String> {
        (path == "/ledger").then(|| self.edge.ledger().as_json().to_string())
    }
}

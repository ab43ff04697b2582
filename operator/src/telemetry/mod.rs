//! What the operator says of itself: metrics and probes. Logs are the sidecar's `telemetry::logging`.

pub mod calls;
pub mod metrics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penstock_sidecar::telemetry::admin::Program;

use self::metrics::Metrics;

/// What the admin port of an operator tells.
#[derive(Debug, Default)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    reached: AtomicBool,
    served: AtomicBool,
}

impl Telemetry {
    /// The metrics to count in.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The API server has answered.
    pub fn api_server_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// The API server serves our resource.
    pub fn resource_served(&self) {
        self.reached.store(true, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
    }
}

impl Program for Telemetry {
    const PAGES: &'static [&'static str] = &[];

    /// A standby is ready too: it could lead. What was seen once is not taken back, since the Service of the metrics has
    /// nowhere else to go.
    fn unready(&self) -> Option<String> {
        if !self.reached.load(Ordering::Relaxed) {
            return Some("the API server has not answered yet".to_owned());
        }
        let served = self.served.load(Ordering::Relaxed);
        let name = penstock_crds::schema::CRD_NAME;
        (!served).then(|| format!("the API server does not serve {name} yet: install its definition"))
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.encode()
    }

    fn json(&self, _path: &str) -> Option<String> {
        None
    }
}

//! Names of keys and channels. All of a shard share a hash tag, so that one server of a cluster has them, and scripts may
//! name them as they need.

use penstock_crds::edge::PipelineName;

/// What the keys of a shard begin with.
#[derive(Clone, Debug)]
pub struct Shard {
    prefix: String,
}

impl Shard {
    /// The shard of a pipeline with this number.
    #[must_use]
    pub fn new(pipeline: &PipelineName, number: usize) -> Self {
        // Names of Kubernetes have no braces.
        let PipelineName { namespace, name } = pipeline;
        Self { prefix: format!("penstock:{{{namespace}/{name}/{number}}}:") }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Session of a client.
    pub(super) fn session(&self, client_id: &str) -> String {
        format!("{}s:{client_id}", self.prefix)
    }

    /// Will of a client.
    pub(super) fn will(&self, client_id: &str) -> String {
        format!("{}w:{client_id}", self.prefix)
    }

    /// Wills by the time at which they are due.
    pub(super) fn wills(&self) -> String {
        format!("{}wills", self.prefix)
    }

    /// Pods that have or had a lease.
    pub(super) fn pods(&self) -> String {
        format!("{}pods", self.prefix)
    }

    /// Where a pod is told things.
    pub(super) fn channel(&self, pod: &str) -> String {
        format!("{}pod:{pod}", self.prefix)
    }
}

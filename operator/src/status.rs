//! The last step: what was found, as conditions. Pure.
//!
//! kstatus reads it (`observedGeneration`, `Reconciling`, `Stalled`, `Ready`), and so do GitOps tools: `Reconciling` and
//! `Stalled` are there only while they are true, and at most one of them is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use penstock_crds::pipeline::{EndpointStatus, IngestPipelineStatus, TopicStatus};

use crate::finding::{Finding, Truth};
use crate::names::PIPELINE_LABEL;
use crate::reason::{Reason, Remedy};

/// How long something outside the pipeline may be wrong before the pipeline counts as stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(300);

/// Types of conditions that are ours.
pub mod condition {
    /// The current generation is served.
    pub const READY: &str = "Ready";
    /// On the way to it.
    pub const RECONCILING: &str = "Reconciling";
    /// Stuck until somebody acts.
    pub const STALLED: &str = "Stalled";
    /// Topics are as declared.
    pub const TOPICS_READY: &str = "TopicsReady";
    /// Edge pods of the current configuration are available.
    pub const EDGE_AVAILABLE: &str = "EdgeAvailable";
    /// The brokers' real configuration makes an acknowledgement durable.
    pub const DURABLE: &str = "Durable";
    /// Every endpoint asks senders who they are.
    pub const SENDERS_AUTHENTICATED: &str = "SendersAuthenticated";
    /// The operator is held off.
    pub const PAUSED: &str = "ReconciliationPaused";
    /// All of them.
    pub const ALL: [&str; 8] =
        [READY, RECONCILING, STALLED, TOPICS_READY, EDGE_AVAILABLE, DURABLE, SENDERS_AUTHENTICATED, PAUSED];
}

/// What a reconcile has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What keeps the whole pipeline from being served, whatever its parts are.
    pub obstacle: Option<Finding>,
    /// Of the topics.
    pub topics_ready: Option<Finding>,
    /// Of the pods.
    pub edge_available: Option<Finding>,
    /// Of the brokers' configuration.
    pub durable: Option<Finding>,
    /// Of the endpoints. It warns, and decides on nothing.
    pub senders_authenticated: Option<Finding>,
    /// Whether [`Found::durable`] decides on `Ready` too.
    pub require_durable: bool,
    /// Said of a pipeline that is served although something waits.
    pub note: Option<String>,
    /// Endpoints with their addresses; absent where they are not known.
    pub endpoints: Option<Vec<EndpointStatus>>,
    /// Topics as the brokers have them; absent where they are not known.
    pub topics: Option<Vec<TopicStatus>>,
    /// Pods and ready pods; absent where they are not known.
    pub replicas: Option<(i32, i32)>,
    /// Label selector of the pods.
    pub selector: String,
    /// Hash of the configuration, when pods are to run it.
    pub config_hash: Option<String>,
}

impl Found {
    /// Nothing, of the pipeline `name`.
    #[must_use]
    pub fn nothing(name: &str) -> Self {
        Self {
            obstacle: None,
            topics_ready: None,
            edge_available: None,
            durable: None,
            senders_authenticated: None,
            require_durable: false,
            note: None,
            endpoints: None,
            topics: None,
            replicas: None,
            selector: format!("{PIPELINE_LABEL}={name}"),
            config_hash: None,
        }
    }
}

/// The verdict on the whole pipeline.
#[must_use]
pub fn ready(found: &Found) -> Finding {
    if let Some(obstacle) = &found.obstacle {
        return obstacle.clone();
    }
    let pending = Finding::unknown(Reason::Pending, "nothing is known yet");
    let topics = found.topics_ready.as_ref().unwrap_or(&pending);
    let edge = found.edge_available.as_ref().unwrap_or(&pending);
    let mut parts = vec![topics.clone(), edge.clone()];
    if found.require_durable {
        let durable = found.durable.clone().unwrap_or(pending);
        parts.push(if durable.is_true() {
            durable
        } else {
            Finding::fails(Reason::NotDurable, format!("delivery.requireDurable is set: {}", durable.message))
        });
    }
    // What only a person can mend is told before what mends itself.
    let urgency = |finding: &Finding| match finding.reason.remedy() {
        Remedy::Spec => 0,
        Remedy::Outside => 1,
        Remedy::Progress => 2,
        Remedy::None => 3,
    };
    let worst = parts.into_iter().filter(|part| !part.is_true()).min_by_key(urgency);
    worst.map_or_else(
        || {
            let message = found.note.clone().unwrap_or_else(|| "the current generation is served".to_owned());
            Finding::holds(Reason::Available, message)
        },
        |worst| Finding { truth: Truth::False, ..worst },
    )
}

/// Whether a pipeline with this verdict is stuck: only its spec can mend it, or it has been wrong outside for
/// [`STALLED_AFTER`].
#[must_use]
pub fn is_stalled(ready: &Finding, failing_for: Duration) -> bool {
    match ready.reason.remedy() {
        Remedy::Spec => !ready.is_true(),
        Remedy::Outside => !ready.is_true() && failing_for >= STALLED_AFTER,
        Remedy::None | Remedy::Progress => false,
    }
}

/// The status after `found`. Times of conditions move only when their status does.
#[must_use]
pub fn next(
    before: &IngestPipelineStatus,
    generation: i64,
    found: &Found,
    failing_for: Duration,
    now: Timestamp,
) -> IngestPipelineStatus {
    let verdict = ready(found);
    let stalled = is_stalled(&verdict, failing_for);
    let mut conditions = Conditions { before, generation, now, list: Vec::new() };
    conditions.set(condition::READY, &verdict);
    if !verdict.is_true() {
        let kind = if stalled { condition::STALLED } else { condition::RECONCILING };
        conditions.set(kind, &Finding { truth: Truth::True, ..verdict });
    }
    for (kind, part) in [
        (condition::TOPICS_READY, &found.topics_ready),
        (condition::EDGE_AVAILABLE, &found.edge_available),
        (condition::DURABLE, &found.durable),
        (condition::SENDERS_AUTHENTICATED, &found.senders_authenticated),
    ] {
        match part {
            Some(part) => conditions.set(kind, part),
            None => conditions.keep(kind),
        }
    }
    let foreign = before.conditions.iter().flatten().filter(|known| !condition::ALL.contains(&&*known.type_));
    conditions.list.extend(foreign.cloned());
    IngestPipelineStatus {
        observed_generation: Some(generation),
        conditions: Some(conditions.list),
        endpoints: found.endpoints.clone().or_else(|| before.endpoints.clone()),
        endpoint_summary: before.endpoint_summary.clone(),
        topics: found.topics.clone().or_else(|| before.topics.clone()),
        replicas: found.replicas.map(|(all, _)| all).or(before.replicas),
        ready_replicas: found.replicas.map(|(_, ready)| ready).or(before.ready_replicas),
        selector: Some(found.selector.clone()),
        config_hash: found.config_hash.clone().or_else(|| before.config_hash.clone()),
    }
}

/// The status of a pipeline that is paused: one more condition, and nothing else moves.
#[must_use]
pub fn paused(before: &IngestPipelineStatus, generation: i64, now: Timestamp) -> IngestPipelineStatus {
    let message = "the annotation penstock.dev/pause-reconciliation is true; remove it to go on";
    let mut conditions = Conditions { before, generation, now, list: Vec::new() };
    conditions.set(condition::PAUSED, &Finding::holds(Reason::Paused, message));
    let others = before.conditions.iter().flatten().filter(|known| known.type_ != condition::PAUSED);
    let mut list: Vec<_> = others.cloned().collect();
    list.append(&mut conditions.list);
    IngestPipelineStatus { conditions: Some(list), ..before.clone() }
}

struct Conditions<'a> {
    before: &'a IngestPipelineStatus,
    generation: i64,
    now: Timestamp,
    list: Vec<Condition>,
}

impl Conditions<'_> {
    fn before(&self, kind: &str) -> Option<&Condition> {
        self.before.conditions.iter().flatten().find(|known| known.type_ == kind)
    }

    fn set(&mut self, kind: &str, finding: &Finding) {
        let status = finding.truth.as_str();
        let since = self.before(kind).filter(|known| known.status == status);
        let last_transition_time = since.map_or(Time(self.now), |known| known.last_transition_time.clone());
        self.list.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.as_str().to_owned(),
            message: bounded(&finding.message),
            observed_generation: Some(self.generation),
            last_transition_time,
        });
    }

    /// As it was: of the generation that it was found for.
    fn keep(&mut self, kind: &str) {
        if let Some(known) = self.before(kind).cloned() {
            self.list.push(known);
        }
    }
}

/// The longest message of a condition that the API server takes is 32,768 characters; nobody reads that many.
fn bounded(message: &str) -> String {
    const LONGEST: usize = 4_096;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

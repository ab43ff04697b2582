//! One reconcile: dereference → validate → topics → plan → apply → status.

mod report;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::DeserializeGuard;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use parking_lot::{Mutex, RwLock};
use penstock_crds::edge::EdgeConfig;
use penstock_crds::pipeline::IngestPipeline;
use penstock_crds::resolve::resolve;
use tokio::sync::Semaphore;

use self::report::Report;
use self::topics::TopicsFound;
use crate::apply::Applier;
use crate::cache::{Cache, TRUST_OWN_WRITE};
use crate::dereference::{Dereferenced, dereference, references};
use crate::endpoints::{endpoints, senders_authenticated};
use crate::finding::Finding;
use crate::memory::Memory;
use crate::names::PAUSE_ANNOTATION;
use crate::plan::deployment::REVISIONS;
use crate::plan::{ChildKind, Defaults, Plan, Validated, plan};
use crate::reason::{Reason, Remedy};
use crate::rollout::Rollout;
use crate::status::{Found, STALLED_AFTER, ready};
use crate::telemetry::metrics::{Metrics, Reconciled};
use crate::topics::{Claims, Clusters};
use crate::upgrades::Upgrades;

/// A stored pipeline, or what can be read of one that is malformed.
pub type Stored = DeserializeGuard<IngestPipeline>;

/// How long the first look at all children may take before it counts as trouble.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How often a pipeline is looked at when nothing happens: Kafka and Secrets are read again then.
pub const RESYNC: Duration = Duration::from_secs(300);
/// How often something is looked at that mends itself and nobody tells of.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often a pipeline is looked at whose spec has to change: what it conflicts with may go away.
const LOOK_AT_STALLED: Duration = Duration::from_secs(60);

/// What all reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Admin clients of Kafka.
    pub clusters: Clusters,
    /// What of the operator goes into plans.
    pub defaults: Defaults,
    /// Who may roll for the operator's own sake.
    pub upgrades: Upgrades,
    /// Who owns which topic.
    pub claims: Mutex<Claims>,
    /// What is remembered.
    pub memory: Memory,
    /// Writes Events.
    pub recorder: Recorder,
    /// How many reconciles may run at once.
    pub turns: Semaphore,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Everything that is watched, by scope.
    pub scopes: RwLock<Vec<Arc<Scope>>>,
    /// Asks for the reconcile of a pipeline.
    pub again: tokio::sync::mpsc::Sender<ObjectRef<Stored>>,
}

/// One namespace, or all.
pub struct Scope {
    /// Its children.
    pub cache: Cache,
    /// Its pipelines.
    pub pipelines: Store<Stored>,
}

/// What one reconcile has found, and when to look again.
struct Outcome {
    found: Found,
    again: Duration,
}

/// Why a reconcile stopped before its end. The finding says it all.
struct Stop(Finding);

macro_rules! stops_with {
    ($($error:ty),*) => {$(
        impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self(Finding::fails(error.reason(), error.to_string()))
            }
        }
    )*};
}

stops_with!(crate::apply::ApplyError, crate::dereference::DereferenceError, crate::api_error::ApiError);

impl From<crate::cache::NotWatched> for Stop {
    fn from(error: crate::cache::NotWatched) -> Self {
        let forbidden = error.is_forbidden();
        let reason = if forbidden { Reason::ApiForbidden } else { Reason::ApiError };
        let advice =
            if forbidden { "; the operator's roles lack it: install those of the chart" } else { "" };
        Self(Finding::fails(reason, format!("{error}{advice}")))
    }
}

/// A pipeline in the course of its reconcile.
struct Reconcile<'a> {
    context: &'a Context,
    scope: &'a Scope,
    pipeline: &'a IngestPipeline,
    namespace: String,
    name: String,
    uid: String,
    generation: i64,
}

/// Reconciles a pipeline once. Returns when to do so again, and how it ended.
///
/// # Errors
/// When its status cannot be written.
pub async fn reconcile(
    context: &Context,
    scope: &Scope,
    stored: &Stored,
) -> Result<(Duration, Reconciled), crate::api_error::ApiError> {
    let pipeline = match &stored.0 {
        Ok(pipeline) => pipeline,
        Err(invalid) => {
            context.metrics.error(Reason::MalformedObject);
            return Ok((report::malformed(context, invalid).await?, Reconciled::Waiting));
        }
    };
    let meta = &pipeline.metadata;
    if meta.deletion_timestamp.is_some() {
        // Children go with their owner.
        return Ok((RESYNC, Reconciled::Waiting));
    }
    let this = Reconcile {
        context,
        scope,
        pipeline,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or(0),
    };
    let report = Report::of(&this);
    if this.is_annotated(PAUSE_ANNOTATION) {
        report.paused().await?;
        return Ok((RESYNC, Reconciled::Waiting));
    }
    let Outcome { found, again } = this.find(&report).await;
    report.found(&found).await?;
    let verdict = ready(&found);
    if verdict.is_true() {
        return Ok((again, Reconciled::Converged));
    }
    if verdict.reason.remedy() >= Remedy::Outside {
        context.metrics.error(verdict.reason);
    }
    Ok((again, Reconciled::Waiting))
}

impl Reconcile<'_> {
    fn is_annotated(&self, annotation: &str) -> bool {
        self.pipeline.annotations().get(annotation).is_some_and(|value| value == "true")
    }

    /// Goes as far as it can.
    async fn find(&self, report: &Report<'_>) -> Outcome {
        let require_durable = self
            .pipeline
            .spec
            .delivery
            .as_ref()
            .is_some_and(|delivery| delivery.require_durable == Some(true));
        let mut found = Found { require_durable, ..Found::nothing(&self.name) };
        let mut again = RESYNC;
        if let Err(Stop(obstacle)) = self.steps(report, &mut found, &mut again).await {
            found.obstacle = Some(obstacle);
        }
        let again = again.min(self.next_look(&ready(&found)));
        Outcome { found, again }
    }

    async fn steps(&self, report: &Report<'_>, found: &mut Found, again: &mut Duration) -> Result<(), Stop> {
        self.scope.cache.seen(FIRST_LOOK).await?;
        self.look_at_edge(found);
        let edge = self.validate()?;
        found.senders_authenticated = Some(senders_authenticated(&edge));
        let read =
            dereference(&self.context.client, &self.namespace, &references(&self.pipeline.spec)).await?;
        let TopicsFound { ready, durable, topics, serves } = self.topics(&read, report).await?;
        let hold = ready.reason.remedy() == Remedy::Spec || !serves;
        found.topics_ready = Some(ready);
        found.durable = durable;
        found.topics = topics;
        if hold {
            // The edge stays as it is: what it runs fits the topics as they are.
            return Ok(());
        }
        self.edge(edge, &read, found, again).await
    }

    fn validate(&self) -> Result<EdgeConfig, Stop> {
        resolve(self.pipeline).map_err(|problems| {
            let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Stop(Finding::fails(Reason::InvalidSpec, told))
        })
    }

    /// What pods there are, whatever comes after.
    fn look_at_edge(&self, found: &mut Found) {
        let name = crate::names::deployment(&self.name);
        let live = self.scope.cache.get(ChildKind::Deployment, &self.namespace, &name);
        found.replicas = live.and_then(|live| Rollout::read(&live.object)).map(|rollout| rollout.replicas());
    }

    async fn edge(
        &self,
        edge: EdgeConfig,
        read: &Dereferenced,
        found: &mut Found,
        again: &mut Duration,
    ) -> Result<(), Stop> {
        let spec = &self.pipeline.spec;
        let validated = Validated { pipeline: self.pipeline, edge, versions: read.rolling().clone() };
        let Plan { children, config_hash } = plan(&validated, &self.context.defaults);
        let cache = &self.scope.cache;
        let live = cache.get(ChildKind::Deployment, &self.namespace, &children.deployment.name);
        let hold = live.is_some_and(|live| {
            Upgrades::is_upgrade(&children.deployment, &live.object) && !self.may_upgrade()
        });
        if hold {
            *again = LOOK_AGAIN;
            let note =
                "the current generation is served; this operator's sidecar waits for other pipelines to roll";
            found.note = Some(note.to_owned());
        }
        let applier = Applier {
            client: &self.context.client,
            cache,
            namespace: &self.namespace,
            pipeline: &self.name,
            uid: &self.uid,
        };
        let revisions = spec.revision_history_limit.unwrap_or(REVISIONS);
        let applied = applier.apply(children, hold, usize::try_from(revisions).unwrap_or(0)).await?;
        if applied.unconfirmed {
            *again = (*again).min(TRUST_OWN_WRITE + Duration::from_secs(1));
        }
        found.config_hash = Some(config_hash);
        let service =
            |name: &str| cache.get(ChildKind::Service, &self.namespace, name).map(|live| live.object);
        found.endpoints = Some(endpoints(spec, &self.namespace, &self.name, service));
        if let Some(rollout) = applied.deployment.as_ref().and_then(Rollout::read) {
            found.replicas = Some(rollout.replicas());
            found.edge_available = Some(rollout.edge_available(spec));
        }
        Ok(())
    }

    fn may_upgrade(&self) -> bool {
        let scopes = self.context.scopes.read();
        let deployments = scopes.iter().flat_map(|scope| scope.cache.deployments());
        self.context.upgrades.take(&self.uid, &self.context.defaults.sidecar_image, deployments)
    }

    /// When to look again at a pipeline with this verdict. Counts failures, and since when they last.
    fn next_look(&self, ready: &Finding) -> Duration {
        let remedy = if ready.is_true() { Remedy::None } else { ready.reason.remedy() };
        self.context.memory.change(&self.uid, |remembered| {
            if remedy != Remedy::Outside {
                remembered.failing_since = None;
                remembered.failures = 0;
                return match remedy {
                    Remedy::Spec => LOOK_AT_STALLED,
                    // Events tell of each step; this is for one that is missed.
                    Remedy::Progress => LOOK_AGAIN * 6,
                    _ => RESYNC,
                };
            }
            let since = *remembered.failing_since.get_or_insert_with(Instant::now);
            remembered.failures = remembered.failures.saturating_add(1);
            let until_stalled = STALLED_AFTER.saturating_sub(since.elapsed());
            let pause = crate::memory::pause(remembered.failures, jitter());
            if until_stalled.is_zero() {
                pause
            } else {
                pause.min(until_stalled + Duration::from_millis(100))
            }
        })
    }
}

/// A number from 0 to 1 that differs from call to call.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(Instant::now());
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

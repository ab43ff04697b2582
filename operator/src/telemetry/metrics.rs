//! OpenMetrics. Names and labels are an interface; `docs/reference/metrics.md` lists them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::finding::Truth;
use crate::reason::{Reason, Remedy};

/// Upper bounds of the durations of a reconcile, in seconds.
const DURATIONS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// Everything is as declared.
    Converged,
    /// It waits for pods, for Kafka, or for somebody.
    Waiting,
    /// It broke off with an error and is tried again.
    Failed,
    /// It took too long and is tried again.
    TimedOut,
}

impl Reconciled {
    const ALL: [Self; 4] = [Self::Converged, Self::Waiting, Self::Failed, Self::TimedOut];

    const fn label(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The metrics of one operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels<1>, Counter>,
    errors: Family<Labels<1>, Counter>,
    duration: Histogram,
    queued: Gauge,
    in_flight: Gauge,
    api_calls: Family<Labels<3>, Counter>,
    kafka_calls: Family<Labels<2>, Counter>,
    leads: Gauge,
    conditions: Conditions,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("penstock"),
            reconciles: Family::default(),
            errors: Family::default(),
            duration: Histogram::new(DURATIONS),
            queued: Gauge::default(),
            in_flight: Gauge::default(),
            api_calls: Family::default(),
            kafka_calls: Family::default(),
            leads: Gauge::default(),
            conditions: Conditions::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let operator = self.registry.sub_registry_with_prefix("operator");
        operator.register("reconciles", "Reconciles that ended", self.reconciles.clone());
        operator.register(
            "reconcile_errors",
            "Reconciles that found a reason to try again",
            self.errors.clone(),
        );
        operator.register("reconcile_duration_seconds", "Time of a reconcile", self.duration.clone());
        operator.register("queued", "Pipelines that wait for their reconcile", self.queued.clone());
        operator.register("in_flight", "Pipelines in a reconcile", self.in_flight.clone());
        operator.register("api_calls", "Calls of the API server", self.api_calls.clone());
        operator.register("kafka_calls", "Calls of Kafka's admin interface", self.kafka_calls.clone());
        operator.register("leader", "1 while this operator leads", self.leads.clone());
        let build: Family<Labels<1>, Gauge> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        operator.register("build", "1, labelled with the version", build);
        // From the start, so that the first one is an increase.
        for outcome in Reconciled::ALL {
            drop(self.reconciles.get_or_create(&[("outcome", outcome.label())]));
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.remedy() >= Remedy::Outside) {
            drop(self.errors.get_or_create(&[("reason", reason.as_str())]));
        }
        self.registry.register_collector(Box::new(self.conditions.clone()));
    }

    /// The OpenMetrics text of now.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16_384);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// A reconcile begins; it counts as in flight until the answer is dropped.
    #[must_use]
    pub fn reconcile_begins(&self) -> Counted {
        self.in_flight.inc();
        Counted(self.in_flight.clone())
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, how: Reconciled, took: Duration) {
        self.reconciles.get_or_create(&[("outcome", how.label())]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A reconcile found why it has to be tried again.
    pub fn error(&self, reason: Reason) {
        self.errors.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// A pipeline waits for its turn; it counts as queued until the answer is dropped.
    #[must_use]
    pub fn waits(&self) -> Counted {
        self.queued.inc();
        Counted(self.queued.clone())
    }

    /// Whether this operator leads.
    pub fn leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// A call of the API server came to an end.
    pub fn api_call(&self, verb: &'static str, resource: &'static str, outcome: &'static str) {
        let labels = [("verb", verb), ("resource", resource), ("outcome", outcome)];
        self.api_calls.get_or_create(&labels).inc();
    }

    /// A call of Kafka's admin interface came to an end: with the reason if it failed.
    pub fn kafka_call(&self, operation: &'static str, failure: Option<Reason>) {
        let outcome = failure.map_or("ok", Reason::as_str);
        self.kafka_calls.get_or_create(&[("operation", operation), ("outcome", outcome)]).inc();
    }

    /// The conditions of a pipeline are these, in place of those before.
    pub fn conditions<'c>(
        &self,
        namespace: &str,
        name: &str,
        conditions: impl IntoIterator<Item = (&'c str, Truth)>,
    ) {
        let conditions = conditions.into_iter().map(|(kind, truth)| (kind.to_owned(), truth)).collect();
        self.conditions.0.lock().insert((namespace.to_owned(), name.to_owned()), conditions);
    }

    /// A pipeline is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.conditions.0.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// One reconcile in flight.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The conditions of every pipeline, by namespace and name.
#[derive(Clone, Debug, Default)]
struct Conditions(Arc<Mutex<ByPipeline>>);

type ByPipeline = BTreeMap<(String, String), Vec<(String, Truth)>>;

impl Collector for Conditions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for the status that the condition has, 0 for the other two";
        let mut family = encoder.encode_descriptor("pipeline_condition", help, None, MetricType::Gauge)?;
        for ((namespace, name), conditions) in &*self.0.lock() {
            for (kind, truth) in conditions {
                for status in [Truth::True, Truth::False, Truth::Unknown] {
                    let labels = [
                        ("namespace", namespace.as_str()),
                        ("name", name.as_str()),
                        ("type", kind.as_str()),
                        ("status", status.as_str()),
                    ];
                    family.encode_family(&labels)?.encode_gauge(&i64::from(status == *truth))?;
                }
            }
        }
        Ok(())
    }
}

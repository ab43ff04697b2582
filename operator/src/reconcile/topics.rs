//! The topics of a pipeline: looked at, judged, and brought to what is declared.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::Timestamp;
use penstock_crds::pipeline::{IngestPipeline, TopicStatus};

use super::{RESYNC, Reconcile, Stop};
use crate::dereference::Dereferenced;
use crate::finding::Finding;
use crate::memory::Topics;
use crate::names::ADOPT_ANNOTATION;
use crate::reason::{Reason, Remedy};
use crate::status::condition;
use crate::topics::{Access, Contender, Failures, KafkaError, Wanted, decide, names};

use super::report::Report;

/// How the look of a topic that is kept begins.
const LAST_SEEN: &str = "as declared when they were last seen";

/// What is known of the topics.
pub(super) struct TopicsFound {
    pub(super) ready: Finding,
    /// Absent: as it was.
    pub(super) durable: Option<Finding>,
    /// Absent: as they were.
    pub(super) topics: Option<Vec<TopicStatus>>,
    /// Whether the edge may be brought to the current generation.
    pub(super) serves: bool,
}

impl Reconcile<'_> {
    /// Looks at the topics, unless a recent look still holds, and makes or changes what is to be.
    pub(super) async fn topics(&self, read: &Dereferenced, report: &Report<'_>) -> Result<TopicsFound, Stop> {
        let kafka = &self.pipeline.spec.kafka;
        let access = match Access::new(&self.namespace, kafka, read.secrets()) {
            Ok(access) => access,
            Err(error) => return Ok(self.without_look(&error)),
        };
        let lost = self.lost();
        let remembered = self.context.memory.of(&self.uid).topics.filter(|topics| {
            topics.generation == self.generation
                && topics.access == *access.key()
                && topics.lost.iter().eq(&lost)
                && topics.at.elapsed() < RESYNC
                && topics.ready.is_true()
        });
        if let Some(Topics { ready, durable, topics, .. }) = remembered {
            return Ok(TopicsFound { ready, durable: Some(durable), topics: Some(topics), serves: true });
        }
        match self.look(&access, report).await {
            Ok(found) => Ok(found),
            Err(error) => Ok(self.without_look(&error)),
        }
    }

    async fn look(&self, access: &Access, report: &Report<'_>) -> Result<TopicsFound, KafkaError> {
        let context = self.context;
        let recorded = report.status().topics.unwrap_or_default();
        let none = BTreeSet::new();
        let mut wanted = Wanted {
            topics: &self.pipeline.spec.topics,
            recorded: &recorded,
            adopt: self.is_annotated(ADOPT_ANNOTATION),
            lost: &none,
        };
        let seen = context.clusters.look(access, &names(&wanted)).await;
        context.metrics.kafka_call("look", seen.as_ref().err().map(KafkaError::reason));
        let seen = seen?;
        if let Some(me) = Contender::of(self.pipeline)
            && context.claims.lock().observed(&me, &seen.cluster_id)
        {
            context.look_again_at_rivals(&me);
        }
        let lost = self.lost();
        wanted.lost = &lost;
        let mut decision = decide(&wanted, &seen, &Failures::default());
        // What is about to be made is recorded first, so that it is known as ours whatever happens in between.
        if decision.must_record
            && let Err(error) = report.intent(&decision.topics).await
        {
            let message = format!("what is about to be created cannot be recorded in status: {error}");
            let ready = Finding::fails(error.reason(), message);
            return Ok(TopicsFound { ready, durable: None, topics: None, serves: false });
        }
        if !decision.steps.is_empty() {
            let finished = context.clusters.finish(access, &wanted, &decision).await;
            context.metrics.kafka_call("change", finished.as_ref().err().map(KafkaError::reason));
            decision = finished?;
        }
        context.memory.change(&self.uid, |remembered| {
            remembered.topics = Some(Topics {
                generation: self.generation,
                access: access.key().clone(),
                lost: lost.into_iter().collect(),
                at: Instant::now(),
                time: Timestamp::now(),
                ready: decision.ready.clone(),
                durable: decision.durable.clone(),
                topics: decision.topics.clone(),
            });
        });
        let serves = decision.ready.is_true();
        Ok(TopicsFound {
            ready: decision.ready,
            durable: Some(decision.durable),
            topics: Some(decision.topics),
            serves,
        })
    }

    /// What holds while Kafka cannot be asked. A pipeline that has converged stays so: its sidecars have connections of
    /// their own.
    fn without_look(&self, error: &KafkaError) -> TopicsFound {
        let trouble = Finding::unknown(error.reason(), error.to_string());
        let mut found = TopicsFound { ready: trouble, durable: None, topics: None, serves: false };
        let conditions = self.pipeline.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let before = conditions.into_iter().find(|known| known.type_ == condition::TOPICS_READY);
        let Some(before) = before else { return found };
        let converged = before.status == "True" && before.observed_generation == Some(self.generation);
        if !converged || error.reason().remedy() == Remedy::Spec {
            return found;
        }
        let message = if before.message.starts_with(LAST_SEEN) {
            before.message.clone()
        } else {
            let seen = self.context.memory.of(&self.uid).topics.map(|topics| topics.time);
            let when = seen.map_or_else(
                || "before this operator started".to_owned(),
                |time| format!("at {}", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
            );
            format!("{LAST_SEEN}, {when}; since then the operator cannot ask Kafka: {error}")
        };
        found.ready = Finding::holds(Reason::AsDeclared, message);
        found.serves = true;
        found
    }

    /// Topics that another pipeline owns.
    fn lost(&self) -> BTreeSet<String> {
        let Some(me) = Contender::of(self.pipeline) else { return BTreeSet::new() };
        self.context.claims.lock().lost(&me, &self.context.contenders())
    }
}

impl super::Context {
    /// Every pipeline that manages topics.
    pub fn contenders(&self) -> Vec<Contender> {
        let of = |stored: &super::Stored| {
            stored.0.as_ref().ok().and_then(|pipeline: &IngestPipeline| Contender::of(pipeline))
        };
        let scopes = self.scopes.read();
        scopes.iter().flat_map(|scope| scope.pipelines.state()).filter_map(|stored| of(&stored)).collect()
    }

    /// Has the pipelines reconciled that may want the topics of this one.
    pub fn look_again_at_rivals(&self, of: &Contender) {
        let rivals = self.claims.lock().rivals(of, &self.contenders());
        for (namespace, name) in rivals {
            let reference = kube::runtime::reflector::ObjectRef::new(&name).within(&namespace);
            // A full queue has every pipeline in it.
            let _ = self.again.try_send(reference);
        }
    }
}

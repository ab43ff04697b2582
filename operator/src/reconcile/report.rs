//! Writing status, Events and gauges: only what has changed.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Event, EventType};
use parking_lot::Mutex;
use penstock_crds::pipeline::{IngestPipeline, IngestPipelineStatus, TopicStatus};
use serde_json::{Value, json};

use super::{Context, RESYNC, Reconcile};
use crate::api_error::ApiError;
use crate::cache::TRUST_OWN_WRITE;
use crate::endpoints::summary;
use crate::finding::{Finding, Truth};
use crate::names::STATUS_FIELD_MANAGER;
use crate::reason::{Reason, Remedy};
use crate::status::{Found, condition, next, paused};

/// The status of a pipeline, as it is and as it becomes.
pub(super) struct Report<'a> {
    of: &'a Reconcile<'a>,
    /// The newest that we know of: what we wrote ourselves counts until the watch can have told it.
    before: Mutex<IngestPipelineStatus>,
}

impl<'a> Report<'a> {
    pub(super) fn of(of: &'a Reconcile<'a>) -> Self {
        let stored = of.pipeline.status.clone().unwrap_or_default();
        let own = of.context.memory.of(&of.uid).status;
        let before =
            own.filter(|(_, at)| at.elapsed() < TRUST_OWN_WRITE).map_or(stored, |(status, _)| status);
        Self { of, before: Mutex::new(before) }
    }

    /// The newest status that is known.
    pub(super) fn status(&self) -> IngestPipelineStatus {
        self.before.lock().clone()
    }

    /// Records what is about to be made in Kafka, before it is.
    pub(super) async fn intent(&self, topics: &[TopicStatus]) -> Result<(), ApiError> {
        let message = "topics are being created or changed";
        let mut found = Found::nothing(&self.of.name);
        found.topics = Some(topics.to_vec());
        found.topics_ready = Some(Finding::fails(Reason::ChangingTopics, message));
        self.write(self.next(&found)).await
    }

    pub(super) async fn paused(&self) -> Result<(), ApiError> {
        self.write(paused(&self.status(), self.of.generation, Timestamp::now())).await
    }

    pub(super) async fn found(&self, found: &Found) -> Result<(), ApiError> {
        self.write(self.next(found)).await
    }

    fn next(&self, found: &Found) -> IngestPipelineStatus {
        let since = self.of.context.memory.of(&self.of.uid).failing_since;
        let mut failing_for = since.map_or(Duration::ZERO, |since| since.elapsed());
        // What was stalled stays so over a restart of the operator.
        if self.was_stalled(&crate::status::ready(found)) {
            failing_for = crate::status::STALLED_AFTER;
        }
        let mut status = next(&self.status(), self.of.generation, found, failing_for, Timestamp::now());
        status.endpoint_summary = Some(summary(&self.of.pipeline.spec));
        status
    }

    fn was_stalled(&self, now: &Finding) -> bool {
        let stalled = self.condition(condition::STALLED);
        stalled.is_some_and(|stalled| {
            stalled.reason == now.reason.as_str() && stalled.observed_generation == Some(self.of.generation)
        })
    }

    fn condition(&self, kind: &str) -> Option<Condition> {
        self.before.lock().conditions.iter().flatten().find(|known| known.type_ == kind).cloned()
    }

    /// Writes the status if it is another one, and tells of a transition.
    async fn write(&self, status: IngestPipelineStatus) -> Result<(), ApiError> {
        let Reconcile { context, namespace, name, uid, .. } = self.of;
        gauges(context, namespace, name, status.conditions.as_deref().unwrap_or_default());
        if status == *self.before.lock() {
            return Ok(());
        }
        let mut ours = status.clone();
        if let Some(conditions) = &mut ours.conditions {
            conditions.retain(|known| condition::ALL.contains(&&*known.type_));
        }
        patch(context, namespace, name, uid, &json!(ours)).await?;
        context.memory.change(uid, |remembered| remembered.status = Some((status.clone(), Instant::now())));
        self.tell(&status).await;
        *self.before.lock() = status;
        Ok(())
    }

    /// An Event where `Ready` has become another one, for a reason that is worth one.
    async fn tell(&self, status: &IngestPipelineStatus) {
        let Some(ready) = status.conditions.iter().flatten().find(|known| known.type_ == condition::READY)
        else {
            return;
        };
        let before = self.condition(condition::READY);
        if before.is_some_and(|before| before.status == ready.status && before.reason == ready.reason) {
            return;
        }
        let reason = Reason::ALL.iter().find(|known| known.as_str() == ready.reason);
        let type_ = match reason.map(|reason| reason.remedy()) {
            Some(Remedy::None) => EventType::Normal,
            Some(Remedy::Outside | Remedy::Spec) => {
                let Reconcile { namespace, name, .. } = self.of;
                tracing::warn!(%namespace, %name, reason = %ready.reason, message = %ready.message, "not ready");
                EventType::Warning
            }
            // On its way: the next one will tell.
            Some(Remedy::Progress) | None => return,
        };
        let event = Event {
            type_,
            reason: ready.reason.clone(),
            note: Some(ready.message.chars().take(1_000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let regarding = self.of.pipeline.object_ref(&());
        if let Err(error) = self.of.context.recorder.publish(&event, &regarding).await {
            tracing::warn!(%error, "cannot write an Event");
        }
    }
}

fn gauges(context: &Context, namespace: &str, name: &str, conditions: &[Condition]) {
    let truth = |status: &str| match status {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    };
    let ours = conditions.iter().filter(|known| condition::ALL.contains(&&*known.type_));
    let all = ours.map(|known| (known.type_.as_str(), truth(&known.status)));
    context.metrics.conditions(namespace, name, all);
}

async fn patch(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    status: &Value,
) -> Result<(), ApiError> {
    let body = json!({
        "apiVersion": IngestPipeline::api_version(&()),
        "kind": IngestPipeline::kind(&()),
        // With the uid it meets this object or none.
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "status": status,
    });
    let api: Api<super::Stored> = Api::namespaced(context.client.clone(), namespace);
    let parameters = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    let applied = match api.patch_status(name, &parameters, &Patch::Apply(&body)).await {
        Ok(applied) => applied,
        Err(error) => return failed(name, &error),
    };
    // Apply leaves what it has never owned: conditions that `overwrite` wrote.
    let version = applied.meta().resource_version.clone();
    let stored = applied.0.ok().and_then(|pipeline| pipeline.status?.conditions).unwrap_or_default();
    let sent = status["conditions"].as_array().cloned().unwrap_or_default();
    let is_left = |known: &Condition| {
        condition::ALL.contains(&&*known.type_) && !sent.iter().any(|one| one["type"] == known.type_)
    };
    if !stored.iter().any(is_left) {
        return Ok(());
    }
    let kept: Vec<_> = stored.into_iter().filter(|known| !is_left(known)).collect();
    let meta = json!({"uid": uid, "resourceVersion": version});
    overwrite(context, namespace, name, &meta, &json!({"conditions": kept})).await
}

/// Writes status without server-side apply, which fails on an object whose spec does not fit its schema.
async fn overwrite(
    context: &Context,
    namespace: &str,
    name: &str,
    meta: &Value,
    status: &Value,
) -> Result<(), ApiError> {
    let api: Api<super::Stored> = Api::namespaced(context.client.clone(), namespace);
    let parameters =
        PatchParams { field_manager: Some(STATUS_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = json!({"metadata": meta, "status": status});
    match api.patch_status(name, &parameters, &Patch::Merge(&body)).await {
        Ok(_) => Ok(()),
        Err(error) => failed(name, &error),
    }
}

fn failed(name: &str, error: &kube::Error) -> Result<(), ApiError> {
    let error = ApiError::new("patch", "ingestpipelines.penstock.dev/status", name, error);
    // It was deleted meanwhile.
    if error.is_not_found() { Ok(()) } else { Err(error) }
}

/// Tells of a stored object that is no pipeline of this version, and leaves everything else alone.
pub(super) async fn malformed(context: &Context, invalid: &InvalidObject) -> Result<Duration, ApiError> {
    let meta = &invalid.metadata;
    let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid) else {
        return Ok(RESYNC);
    };
    let generation = meta.generation.unwrap_or(0);
    let message =
        format!("the stored object is no IngestPipeline of this version: {}; apply it again", invalid.error);
    let remembered = context.memory.of(uid).status.map(|(status, _)| status).unwrap_or_default();
    let found =
        Found { obstacle: Some(Finding::fails(Reason::MalformedObject, message)), ..Found::nothing(name) };
    let status = next(&remembered, generation, &found, Duration::ZERO, Timestamp::now());
    gauges(context, namespace, name, status.conditions.as_deref().unwrap_or_default());
    if status != remembered {
        overwrite(context, namespace, name, &json!({"uid": uid}), &json!(status)).await?;
        context.memory.change(uid, |remembered| remembered.status = Some((status, Instant::now())));
    }
    Ok(RESYNC)
}

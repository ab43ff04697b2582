//! Brings children to the plan.
//!
//! The first write of a child is a create, which fails where somebody else's object has the name; later ones are
//! server-side applies that carry the uid, so that they meet that object or none. An object that the pipeline does not
//! control is never touched.

use std::collections::BTreeSet;

use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::ApiResource;
use kube::{Client, Resource, ResourceExt};
use penstock_crds::pipeline::IngestPipeline;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::cache::{Cache, version};
use crate::drift::drift;
use crate::names::{FIELD_MANAGER, PIPELINE_LABEL, PLAN_ANNOTATION};
use crate::ownership;
use crate::plan::{Child, ChildKind, Children};
use crate::reason::Reason;

/// How often a child is read and written before it is a trouble that it changes meanwhile: its controllers write it too.
const WRITES: usize = 3;

/// Why children could not be brought to the plan.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Somebody else's object has the name.
    #[error(
        "{kind} {name} is there and does not belong to this pipeline; delete or rename it, or rename the pipeline"
    )]
    NameConflict {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object is that of a deleted pipeline of the same name; the garbage collector is about to take it.
    #[error(
        "{kind} {name} belongs to a deleted pipeline of this name; waiting until Kubernetes has removed it"
    )]
    OfPredecessor {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object is being deleted; its successor can be made when it is gone.
    #[error("{kind} {name} is being deleted")]
    BeingDeleted {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl ApplyError {
    /// The reason for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Api(error) => error.reason(),
            Self::NameConflict { .. } => Reason::NameConflict,
            Self::OfPredecessor { .. } | Self::BeingDeleted { .. } => Reason::RollingOut,
        }
    }

    /// Whether the same may succeed later without a change of the pipeline.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::NameConflict { .. })
            && !matches!(self, Self::Api(error) if !error.is_retryable())
    }
}

/// What was done.
#[derive(Debug)]
pub struct Applied {
    /// The Deployment as it is now; absent where it was held back and does not exist.
    pub deployment: Option<DynamicObject>,
    /// Whether something is known from our own writes only: then look again soon.
    pub unconfirmed: bool,
}

/// Who applies, for which pipeline.
pub struct Applier<'a> {
    /// The API server.
    pub client: &'a Client,
    /// What exists.
    pub cache: &'a Cache,
    /// Namespace of the pipeline.
    pub namespace: &'a str,
    /// Name of the pipeline.
    pub pipeline: &'a str,
    /// The pipeline's uid.
    pub uid: &'a str,
}

impl Applier<'_> {
    fn api(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace, &kind.resource())
    }

    /// Writes what is not as planned, deletes what is planned no more, and prunes configurations of the past to
    /// `revisions`. With `hold`, an existing Deployment stays as it is.
    ///
    /// # Errors
    /// The first that occurs; what comes before it is done.
    pub async fn apply(
        &self,
        children: Children,
        hold: bool,
        revisions: usize,
    ) -> Result<Applied, ApplyError> {
        let children = children.in_order();
        self.delete_unplanned(&children).await?;
        let current =
            children.iter().find(|child| child.kind == ChildKind::ConfigMap).map(|child| child.name.clone());
        let mut applied = Applied { deployment: None, unconfirmed: false };
        for child in &children {
            let live = self.cache.get(child.kind, self.namespace, &child.name);
            applied.unconfirmed |= live.as_ref().is_some_and(|live| live.unconfirmed);
            let is_deployment = child.kind == ChildKind::Deployment;
            let object = match live {
                Some(live) if is_deployment && hold && self.controls(&live.object) => live.object,
                Some(live) => self.update(child, &live.object).await?,
                None => self.create(child).await?,
            };
            if is_deployment {
                applied.deployment = Some(object);
            }
        }
        self.prune(current.as_deref().unwrap_or_default(), revisions).await?;
        Ok(applied)
    }

    /// Whether the pipeline controls the object.
    fn controls(&self, object: &DynamicObject) -> bool {
        object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == self.uid)
    }

    /// Why an object that the pipeline does not control is in its way.
    fn not_ours(&self, child: &Child, live: &DynamicObject) -> ApplyError {
        let pipeline = IngestPipeline::kind(&());
        let of_predecessor = live.owner_references().iter().any(|owner| {
            owner.controller == Some(true) && owner.kind == pipeline && owner.name == self.pipeline
        });
        if of_predecessor {
            return ApplyError::OfPredecessor { kind: child.kind.resource().kind, name: child.name.clone() };
        }
        Self::conflict(child)
    }

    fn conflict(child: &Child) -> ApplyError {
        ApplyError::NameConflict { kind: child.kind.resource().kind, name: child.name.clone() }
    }

    async fn create(&self, child: &Child) -> Result<DynamicObject, ApplyError> {
        let mut body = child.body.clone();
        if let Some(replicas) = child.replicas_at_creation {
            body["spec"]["replicas"] = json!(replicas);
        }
        let failed = |verb, error| ApiError::of_child(verb, child.kind, &child.name, &error);
        let api = self.api(child.kind);
        let object = dynamic(&child.kind.resource(), body);
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&parameters, &object).await.map_err(|error| failed("create", error)) {
            Ok(created) => {
                tracing::info!(kind = %child.kind.in_roles(), name = %child.name, namespace = %self.namespace, "created");
                self.cache.note_write(child.kind, &created);
                Ok(created)
            }
            // Ours without its label, or not told by the watch yet, or somebody else's.
            Err(error) if error.is_already_exists() => {
                let live = api.get(&child.name).await.map_err(|error| failed("get", error))?;
                self.update(child, &live).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the child if what is stored is not what is planned.
    async fn update(&self, child: &Child, live: &DynamicObject) -> Result<DynamicObject, ApplyError> {
        if !self.controls(live) {
            return Err(self.not_ours(child, live));
        }
        if live.metadata.deletion_timestamp.is_some() {
            return Err(ApplyError::BeingDeleted {
                kind: child.kind.resource().kind,
                name: child.name.clone(),
            });
        }
        let stored = json(live);
        let found = drift(&child.body, &stored);
        let planned = child.body.pointer("/metadata/annotations").and_then(|all| all.get(PLAN_ANNOTATION));
        let same_plan =
            live.annotations().get(PLAN_ANNOTATION).map(String::as_str) == planned.and_then(Value::as_str);
        if same_plan && found.is_none() {
            return Ok(live.clone());
        }
        if same_plan && self.cache.is_settled(child.kind, live) {
            // The server keeps it in another form than we sent it: writing it again would change nothing.
            tracing::warn!(kind = %child.kind.in_roles(), name = %child.name, ?found, "differs from the plan for good");
            return Ok(live.clone());
        }
        if child.kind == ChildKind::ConfigMap
            && !found.is_none()
            && found.changed.iter().any(|path| path.starts_with("/data"))
        {
            // Immutable, and its name is its hash: whoever made it otherwise has to take it away.
            return Err(Self::conflict(child));
        }
        tracing::info!(
            kind = %child.kind.in_roles(), name = %child.name, namespace = %self.namespace,
            changed = ?found.changed, foreign = ?found.foreign, new_plan = !same_plan, "applying"
        );
        self.write(child).await
    }

    async fn write(&self, child: &Child) -> Result<DynamicObject, ApplyError> {
        for _ in 1..WRITES {
            match self.write_what_was_read(child).await {
                Err(ApplyError::Api(error)) if error.is_conflict() => {}
                ended => return ended,
            }
        }
        self.write_what_was_read(child).await
    }

    async fn write_what_was_read(&self, child: &Child) -> Result<DynamicObject, ApplyError> {
        let failed = |verb, error| ApiError::of_child(verb, child.kind, &child.name, &error);
        let api = self.api(child.kind);
        // Who owns which field is not in the cache.
        let live = api.get(&child.name).await.map_err(|error| failed("get", error))?;
        if !self.controls(&live) {
            return Err(self.not_ours(child, &live));
        }
        let fields = live.metadata.managed_fields.clone().unwrap_or_default();
        if let Some(fields) = ownership::handed_over(&fields, &child.body) {
            let patch = self.json_patch(
                &live,
                json!([{"op": "replace", "path": "/metadata/managedFields", "value": fields}]),
            );
            api.patch(&child.name, &manager(), &patch).await.map_err(|error| failed("patch", error))?;
        }
        let mut body = child.body.clone();
        body["metadata"]["uid"] = json!(live.uid());
        let mut object = api
            .patch(&child.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&body))
            .await
            .map_err(|error| failed("patch", error))?;
        let foreign = drift(&child.body, &json(&object)).foreign;
        if !foreign.is_empty() {
            let removals = foreign.iter().map(|path| json!({"op": "remove", "path": path})).collect();
            let patch = self.json_patch(&object, removals);
            object =
                api.patch(&child.name, &manager(), &patch).await.map_err(|error| failed("patch", error))?;
        }
        object.metadata.managed_fields = None;
        self.cache.note_write(child.kind, &object);
        Ok(object)
    }

    /// A patch that fails if the object has changed since.
    fn json_patch(&self, object: &DynamicObject, operations: Value) -> Patch<Value> {
        let mut operations = operations;
        if let Some(list) = operations.as_array_mut() {
            list.push(json!({
                "op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version(),
            }));
        }
        Patch::Json(serde_json::from_value(operations).unwrap_or_default())
    }

    /// Children that are planned no more; configurations of the past are pruned apart.
    async fn delete_unplanned(&self, planned: &[Child]) -> Result<(), ApplyError> {
        for kind in ChildKind::ALL {
            if kind == ChildKind::ConfigMap {
                continue;
            }
            for object in self.cache.of_pipeline(kind, self.namespace, self.pipeline) {
                let name = object.name_any();
                let keep = planned.iter().any(|child| child.kind == kind && child.name == name);
                if !keep && self.controls(&object) && object.metadata.deletion_timestamp.is_none() {
                    self.delete(kind, &object).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes exactly this version of this object.
    async fn delete(&self, kind: ChildKind, object: &DynamicObject) -> Result<(), ApplyError> {
        let name = object.name_any();
        let preconditions = Preconditions { resource_version: object.resource_version(), uid: object.uid() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api(kind).delete(&name, &parameters).await {
            Ok(_) => tracing::info!(kind = %kind.in_roles(), %name, namespace = %self.namespace, "deleted"),
            Err(error) => {
                let error = ApiError::of_child("delete", kind, &name, &error);
                if !error.is_not_found() {
                    return Err(error.into());
                }
            }
        }
        self.cache.note_delete(kind, self.namespace, &name);
        Ok(())
    }

    /// Configurations of the past beyond the newest `revisions`; never one that a pod or a kept ReplicaSet mounts.
    async fn prune(&self, current: &str, revisions: usize) -> Result<(), ApplyError> {
        let mut past: Vec<_> = self
            .cache
            .of_pipeline(ChildKind::ConfigMap, self.namespace, self.pipeline)
            .into_iter()
            .filter(|object| object.name_any() != current && self.controls(object))
            .collect();
        if past.len() <= revisions {
            return Ok(());
        }
        // Times have seconds; of one second, the version tells which came later.
        past.sort_by_key(|object| {
            std::cmp::Reverse((object.creation_timestamp().map(|time| time.0), version(&object.metadata)))
        });
        let mounted = self.mounted().await?;
        for object in past.into_iter().skip(revisions).filter(|object| !mounted.contains(&object.name_any()))
        {
            self.delete(ChildKind::ConfigMap, &object).await?;
        }
        Ok(())
    }

    /// Names of the ConfigMaps that pods and ReplicaSets of the pipeline mount.
    async fn mounted(&self) -> Result<BTreeSet<String>, ApplyError> {
        let selector = ListParams::default().labels(&format!("{PIPELINE_LABEL}={}", self.pipeline));
        let mut names = BTreeSet::new();
        for (group, plural, kind, volumes) in [
            ("", "pods", "Pod", "/spec/volumes"),
            ("apps", "replicasets", "ReplicaSet", "/spec/template/spec/volumes"),
        ] {
            let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let resource = ApiResource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                api_version,
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), self.namespace, &resource);
            let in_roles = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
            let objects =
                api.list(&selector).await.map_err(|error| ApiError::new("list", &in_roles, "", &error))?;
            for object in objects {
                let volumes =
                    object.data.pointer(volumes).and_then(Value::as_array).cloned().unwrap_or_default();
                let mounts = volumes.iter().filter_map(|volume| volume.pointer("/configMap/name")?.as_str());
                names.extend(mounts.map(str::to_owned));
            }
        }
        Ok(names)
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The object as the API server keeps it.
fn json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn dynamic(resource: &ApiResource, body: Value) -> DynamicObject {
    serde_json::from_value(body).unwrap_or_else(|_| DynamicObject::new("", resource))
}

//! A child as it is kept: little more than its JSON, compressed.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use serde::{Deserialize, Deserializer};

use crate::names::PIPELINE_LABEL;
use crate::plan::ChildKind;

/// What is kept of a child. There are seven and more of each pipeline, and values would take twenty times the room.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Which version of the object this is.
    pub(super) version: u64,
    /// Whose child its label says it is.
    pipeline: Option<Box<str>>,
    /// The whole object but its managed fields, which are asked for when they are needed: JSON, by LZ4.
    text: Arc<[u8]>,
}

impl Kept {
    pub(super) fn of(object: &DynamicObject) -> serde_json::Result<Self> {
        let text = if object.metadata.managed_fields.is_none() {
            serde_json::to_vec(object)
        } else {
            let mut object = object.clone();
            object.metadata.managed_fields = None;
            serde_json::to_vec(&object)
        }?;
        let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(PIPELINE_LABEL));
        Ok(Self {
            version: version(&object.metadata),
            pipeline: label.map(|name| name.as_str().into()),
            text: lz4_flex::compress_prepend_size(&text).into(),
        })
    }

    /// Whether it carries the label of this pipeline.
    pub(super) fn is_of(&self, pipeline: &str) -> bool {
        self.pipeline.as_deref() == Some(pipeline)
    }

    /// The object again.
    pub(super) fn object(&self, kind: ChildKind) -> DynamicObject {
        let ApiResource { api_version, kind, .. } = kind.resource();
        let text = lz4_flex::decompress_size_prepended(&self.text).unwrap_or_default();
        // It was an object when it was kept.
        let mut object: DynamicObject = serde_json::from_slice(&text).unwrap_or_else(|_| DynamicObject {
            types: None,
            metadata: ObjectMeta::default(),
            data: serde_json::Value::Null,
        });
        // Items of a list do not say what they are.
        object.types = Some(TypeMeta { api_version, kind });
        object
    }
}

/// A child as a watch tells of it: what is kept, and the metadata that say which pipeline has to look.
#[derive(Clone, Debug)]
pub struct Seen {
    pub(super) kept: Kept,
    metadata: ObjectMeta,
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = DynamicObject::deserialize(deserializer)?;
        object.metadata.managed_fields = None;
        let kept = Kept::of(&object).map_err(serde::de::Error::custom)?;
        Ok(Self { kept, metadata: object.metadata })
    }
}

impl Resource for Seen {
    type DynamicType = ApiResource;
    type Scope = <DynamicObject as Resource>::Scope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Versions of one kind grow (KEP-5504); one that is no number is older than any.
pub(crate) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

//! The first step: what the pipeline refers to, read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};
use penstock_crds::edge::ReferencePath;
use penstock_crds::pipeline::{IngestPipelineSpec, JsonSchemaSource};

use crate::api_error::ApiError;
use crate::reason::Reason;

/// A reference of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field that names it.
    pub field: String,
    /// What it names, `secrets/NAME/KEY` or `configmaps/NAME/KEY`.
    pub path: ReferencePath,
    /// Whether edge pods read it, and at their start only, so that they are rolled when it changes.
    pub rolls_pods: bool,
}

/// Everything that a pipeline refers to.
#[must_use]
pub fn references(spec: &IngestPipelineSpec) -> Vec<Reference> {
    let mut all = Vec::new();
    let mut add = |field: String, path: ReferencePath, rolls_pods: bool| {
        all.push(Reference { field, path, rolls_pods });
    };
    let kafka = &spec.kafka;
    if let Some(ca) = kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        add("spec.kafka.tls.ca".to_owned(), ca.path(), true);
    }
    for (field, authentication, rolls_pods) in [
        ("spec.kafka.authentication", &kafka.authentication, true),
        ("spec.kafka.adminAuthentication", &kafka.admin_authentication, false),
    ] {
        if let Some(authentication) = authentication {
            add(field.to_owned(), authentication.parts().1.password_secret.path(), rolls_pods);
        }
    }
    for (index, route) in spec.routes.iter().enumerate() {
        if let Some(JsonSchemaSource::ConfigMap(schema)) = route.validation.as_ref().map(|v| &v.json_schema) {
            add(format!("spec.routes[{index}].validation.jsonSchema.configMap"), schema.path(), true);
        }
    }
    all
}

/// What was read.
#[derive(Clone, Default)]
pub struct Dereferenced {
    /// Contents of Secrets, by path. ConfigMaps are only looked at.
    secrets: BTreeMap<String, Vec<u8>>,
    /// `uid/resourceVersion` of each object, by `secrets/NAME` or `configmaps/NAME`.
    versions: BTreeMap<String, String>,
    /// Of those, what edge pods read at their start only.
    rolling: BTreeMap<String, String>,
}

impl Dereferenced {
    /// The content of a Secret's key.
    #[must_use]
    pub fn secret(&self, path: &ReferencePath) -> Option<&[u8]> {
        self.secrets.get(&path.0).map(Vec::as_slice)
    }

    /// The version of the object that `path` is in.
    #[must_use]
    pub fn version(&self, path: &ReferencePath) -> Option<&str> {
        self.versions.get(object(path)?.0).map(String::as_str)
    }

    /// Versions of what rolls the pods.
    #[must_use]
    pub fn rolling(&self) -> &BTreeMap<String, String> {
        &self.rolling
    }
}

impl std::fmt::Debug for Dereferenced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the contents.
        f.debug_struct("Dereferenced").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// Why a reference cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The API server refused, or did not answer.
    #[error("{field}: {source}")]
    Api {
        /// The field.
        field: String,
        /// What happened.
        source: ApiError,
    },
    /// The object is not there.
    #[error("{field}: there is no {kind} {name}; create it in the pipeline's namespace, or correct the name")]
    NoObject {
        /// The field.
        field: String,
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object has no such key.
    #[error("{field}: {kind} {name} has no key {key}; add it, or correct the key")]
    NoKey {
        /// The field.
        field: String,
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
}

impl DereferenceError {
    /// The reason for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Api { source, .. } => source.reason(),
            Self::NoObject { .. } | Self::NoKey { .. } => Reason::ReferenceNotFound,
        }
    }

    /// Whether the same may succeed later without a change of the pipeline: always.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }
}

/// Reads what the pipeline refers to. Secrets are read one by one, by name: the operator may not list them.
///
/// # Errors
/// The first reference that cannot be followed.
pub async fn dereference(
    client: &Client,
    namespace: &str,
    references: &[Reference],
) -> Result<Dereferenced, DereferenceError> {
    let mut read = Dereferenced::default();
    let mut objects: BTreeMap<String, Object> = BTreeMap::new();
    for Reference { field, path, rolls_pods } in references {
        let Some((at, kind, name, key)) = object(path).and_then(|(at, key)| {
            let (folder, name) = at.split_once('/')?;
            Some((at, if folder == "secrets" { "Secret" } else { "ConfigMap" }, name, key))
        }) else {
            continue;
        };
        if !objects.contains_key(at) {
            let found = get(client, namespace, kind, name).await;
            let found = found.map_err(|source| DereferenceError::Api { field: field.clone(), source })?;
            let Some(found) = found else {
                return Err(DereferenceError::NoObject { field: field.clone(), kind, name: name.to_owned() });
            };
            objects.insert(at.to_owned(), found);
        }
        let Some(found) = objects.get(at) else { continue };
        let Some(content) = found.data.get(key) else {
            let (name, key) = (name.to_owned(), key.to_owned());
            return Err(DereferenceError::NoKey { field: field.clone(), kind, name, key });
        };
        read.versions.insert(at.to_owned(), found.version.clone());
        if *rolls_pods {
            read.rolling.insert(at.to_owned(), found.version.clone());
        }
        if kind == "Secret" {
            read.secrets.insert(path.0.clone(), content.clone());
        }
    }
    Ok(read)
}

/// `secrets/NAME` and the key.
fn object(path: &ReferencePath) -> Option<(&str, &str)> {
    path.0.rsplit_once('/')
}

struct Object {
    version: String,
    data: BTreeMap<String, Vec<u8>>,
}

async fn get(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<Option<Object>, ApiError> {
    let version = |uid: Option<String>, version: Option<String>| {
        format!("{}/{}", uid.unwrap_or_default(), version.unwrap_or_default())
    };
    if kind == "Secret" {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| ApiError::new("get", "secrets", name, &error))?;
        return Ok(found.map(|secret| Object {
            version: version(secret.uid(), secret.resource_version()),
            data: secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect(),
        }));
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| ApiError::new("get", "configmaps", name, &error))?;
    Ok(found.map(|map| Object {
        version: version(map.uid(), map.resource_version()),
        data: map
            .data
            .into_iter()
            .flatten()
            .map(|(key, value)| (key, value.into_bytes()))
            .chain(map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0)))
            .collect(),
    }))
}

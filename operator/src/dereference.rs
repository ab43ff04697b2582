//! The first step: what the pipeline refers to, read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use penstock_crds::edge::{AuthenticationMethodConfig, ReferencePath};
use penstock_crds::pipeline::{
    AuthenticationMethod, IngestPipelineSpec, JsonSchemaSource, Jwks, RedisServers, Sessions,
};
use penstock_crds::resolve;
use penstock_sidecar::auth::{self, FileError};

use crate::api_error::ApiError;
use crate::reason::Reason;

/// The keys of a Secret of type kubernetes.io/tls.
const TLS_KEYS: [&str; 2] = ["tls.crt", "tls.key"];

/// A reference of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field that names it.
    pub field: String,
    /// What it names, `secrets/NAME/KEY` or `configmaps/NAME/KEY`.
    pub path: ReferencePath,
    /// Whether edge pods read it, and at their start only, so that they are rolled when it changes. What they read again
    /// by themselves must not roll them.
    pub rolls_pods: bool,
    /// What senders prove themselves by, for a file of that: its shape is checked.
    pub credentials: Option<AuthenticationMethodConfig>,
}

/// Everything that a pipeline refers to.
#[must_use]
pub fn references(spec: &IngestPipelineSpec) -> Vec<Reference> {
    let mut all = Vec::new();
    let mut add = |field: String, path: ReferencePath, rolls_pods: bool| {
        all.push(Reference { field, path, rolls_pods, credentials: None });
    };
    let kafka = &spec.kafka;
    if let Some(ca) = kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        add("spec.kafka.tls.ca".to_owned(), ca.path(), true);
    }
    if let Some(shown) = kafka.tls.as_ref().and_then(|tls| tls.certificate_secret.as_ref()) {
        for key in TLS_KEYS {
            add("spec.kafka.tls.certificateSecret".to_owned(), shown.path(key), true);
        }
    }
    for (field, authentication, rolls_pods) in [
        ("spec.kafka.authentication", &kafka.authentication, true),
        ("spec.kafka.adminAuthentication", &kafka.admin_authentication, false),
    ] {
        if let Some(authentication) = authentication {
            for path in authentication.resolve().references() {
                add(field.to_owned(), path.clone(), rolls_pods);
            }
        }
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let Some(tls) = &endpoint.tls else { continue };
        // Sidecars read them again when they change.
        let field = format!("spec.endpoints[{index}].tls");
        for key in TLS_KEYS {
            add(format!("{field}.certificateSecret"), tls.certificate_secret.path(key), false);
        }
        if let Some(ca) = &tls.client_ca_secret {
            add(format!("{field}.clientCaSecret"), ca.path(), false);
        }
    }
    for (index, route) in spec.routes.iter().enumerate() {
        if let Some(JsonSchemaSource::ConfigMap(schema)) = route.validation.as_ref().map(|v| &v.json_schema) {
            add(format!("spec.routes[{index}].validation.jsonSchema.configMap"), schema.path(), true);
        }
    }
    if let Some(Sessions::Redis(redis)) = &spec.sessions {
        // Read at every connection, so that no pod has to go for a new one.
        let mut add = |field: &str, path| add(format!("spec.sessions.redis.{field}"), path, false);
        if let Some(password) = &redis.password_secret {
            add("passwordSecret", password.path());
        }
        if let RedisServers::Sentinel(sentinel) = &redis.servers
            && let Some(password) = &sentinel.password_secret
        {
            add("sentinel.passwordSecret", password.path());
        }
        if let Some(ca) = redis.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            add("tls.ca", ca.path());
        }
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let Some(authentication) = &endpoint.authentication else { continue };
        let (field, path) = match &authentication.method {
            AuthenticationMethod::Basic(basic) => ("basic.usersSecret", basic.users_secret.path()),
            AuthenticationMethod::Token(token) => ("token.tokensSecret", token.tokens_secret.path()),
            AuthenticationMethod::Jwt(jwt) => {
                let field = match &jwt.jwks {
                    Jwks::Secret(_) => "jwt.jwks.secret",
                    Jwks::ConfigMap(_) => "jwt.jwks.configMap",
                };
                (field, jwt.jwks.path())
            }
            AuthenticationMethod::ClientCertificate(_) => continue,
        };
        all.push(Reference {
            field: format!("spec.endpoints[{index}].authentication.{field}"),
            path,
            rolls_pods: false,
            credentials: Some(resolve::authentication(authentication).method),
        });
    }
    all
}

/// What was read.
#[derive(Clone, Default)]
pub struct Dereferenced {
    /// ConfigMaps are only looked at.
    secrets: Vec<Secret>,
    /// `uid/resourceVersion` of what edge pods read at their start only, by `secrets/NAME` or `configmaps/NAME`.
    rolling: BTreeMap<String, String>,
}

impl Dereferenced {
    /// The Secrets.
    #[must_use]
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
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
        f.debug_struct("Dereferenced").field("rolling", &self.rolling).finish_non_exhaustive()
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
    /// What stands under the key cannot be used. Never what it is.
    #[error("{field}: {kind} {name}, key {key}: {error}; correct it, edge pods go on with what they have")]
    Unusable {
        /// The field.
        field: String,
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// Line and rule.
        error: FileError,
    },
}

impl DereferenceError {
    /// The reason for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Api { source, .. } => source.reason(),
            Self::NoObject { .. } | Self::NoKey { .. } => Reason::ReferenceNotFound,
            Self::Unusable { .. } => Reason::ReferenceUnusable,
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
    for Reference { field, path, rolls_pods, credentials } in references {
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
        let Some(contents) = found.contents(key) else {
            let (name, key) = (name.to_owned(), key.to_owned());
            return Err(DereferenceError::NoKey { field: field.clone(), kind, name, key });
        };
        if let Some(method) = credentials {
            auth::check_file(method, contents).map_err(|error| {
                let (name, key) = (name.to_owned(), key.to_owned());
                DereferenceError::Unusable { field: field.clone(), kind, name, key, error }
            })?;
        }
        if *rolls_pods {
            read.rolling.insert(at.to_owned(), found.version.clone());
        }
    }
    read.secrets = objects.into_values().filter_map(Object::into_secret).collect();
    Ok(read)
}

/// `secrets/NAME` and the key.
fn object(path: &ReferencePath) -> Option<(&str, &str)> {
    path.0.rsplit_once('/')
}

struct Object {
    version: String,
    data: Data,
}

enum Data {
    Secret(Secret),
    ConfigMap(ConfigMap),
}

impl Object {
    fn new(meta: &ObjectMeta, data: Data) -> Self {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        Self { version: format!("{}/{}", part(&meta.uid), part(&meta.resource_version)), data }
    }

    fn contents(&self, key: &str) -> Option<&[u8]> {
        match &self.data {
            Data::Secret(secret) => secret.data.as_ref()?.get(key).map(|bytes| &*bytes.0),
            Data::ConfigMap(map) => {
                let text = map.data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
                text.or_else(|| map.binary_data.as_ref()?.get(key).map(|bytes| &*bytes.0))
            }
        }
    }

    fn into_secret(self) -> Option<Secret> {
        match self.data {
            Data::Secret(secret) => Some(secret),
            Data::ConfigMap(_) => None,
        }
    }
}

async fn get(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<Option<Object>, ApiError> {
    if kind == "Secret" {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| ApiError::new("get", "secrets", name, &error))?;
        return Ok(found.map(|secret| Object::new(&secret.metadata.clone(), Data::Secret(secret))));
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| ApiError::new("get", "configmaps", name, &error))?;
    Ok(found.map(|map| Object::new(&map.metadata.clone(), Data::ConfigMap(map))))
}

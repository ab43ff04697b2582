//! What children exist: a watch of each kind, and what we wrote ourselves and the watch has not told yet.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};

use crate::names::PIPELINE_LABEL;
use crate::plan::ChildKind;

/// How long our own write counts although the watch does not show it: longer, and it was deleted since.
pub const TRUST_OWN_WRITE: Duration = Duration::from_secs(5);

/// How often a kind is looked at that has not been seen yet.
const LOOK: Duration = Duration::from_millis(50);
/// How long a watch that failed may stay silent before it counts as restored: it is tried again within a minute, and
/// says nothing when that succeeds.
const TRIED_AGAIN: Duration = Duration::from_secs(75);

/// Namespace and name.
type Key = (String, String);

/// The children in one namespace or all.
pub struct Cache {
    kinds: BTreeMap<ChildKind, Kind>,
}

struct Kind {
    store: Store<Kept>,
    /// Why the watch did not work when it was last tried.
    trouble: Arc<Mutex<Option<Trouble>>>,
    written: Arc<Mutex<Written>>,
    /// The version that our last write gave an object: as long as it has that one, nobody has changed it.
    settled: Mutex<HashMap<Key, String>>,
}

/// What we wrote and the watch has not told yet, and when.
type Written = HashMap<Key, (Kept, Instant)>;

/// A child as it is kept: as text, which takes a tenth of the room of values, and beside it of its metadata what it is found
/// by and told from its other versions.
#[derive(Clone, Debug)]
pub struct Kept {
    metadata: ObjectMeta,
    text: Box<str>,
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(DynamicObject::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Resource for Kept {
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

impl Kept {
    fn of(mut object: DynamicObject) -> serde_json::Result<Self> {
        // Who wrote what is asked for when it is needed.
        object.metadata.managed_fields = None;
        let text = serde_json::to_string(&object)?.into();
        let ObjectMeta { name, namespace, uid, resource_version, owner_references, labels, .. } =
            object.metadata;
        let labels = labels.map(|mut labels| {
            labels.retain(|name, _| name == PIPELINE_LABEL);
            labels
        });
        let metadata = ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            owner_references,
            labels,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text })
    }

    fn object(&self, kind: ChildKind) -> DynamicObject {
        let ApiResource { api_version, kind, .. } = kind.resource();
        // It was an object when it was written.
        let mut object: DynamicObject = serde_json::from_str(&self.text).unwrap_or_else(|_| DynamicObject {
            types: None,
            metadata: self.metadata.clone(),
            data: serde_json::Value::Null,
        });
        // Items of a list do not say what they are.
        object.types = Some(TypeMeta { api_version, kind });
        object
    }
}

/// Why a kind cannot be watched.
#[derive(Clone, Debug)]
struct Trouble {
    why: String,
    at: Instant,
    /// The cluster does not serve the kind, so there is none of it.
    absent: bool,
}

impl From<&watcher::Error> for Trouble {
    fn from(error: &watcher::Error) -> Self {
        let absent = match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                matches!(error, kube::Error::Api(status) if status.code == 404)
            }
            _ => false,
        };
        Self { why: error.to_string(), at: Instant::now(), absent }
    }
}

impl Trouble {
    /// Whether the operator's roles lack the watch: then what was listed once grows old.
    fn is_lasting(&self) -> bool {
        is_forbidden(&self.why) && self.at.elapsed() < TRIED_AGAIN
    }
}

/// What triggers reconciles: objects that have changed.
pub type Changes = BoxStream<'static, Result<Kept, watcher::Error>>;

/// A child as it is.
#[derive(Clone, Debug)]
pub struct Live {
    /// The newest version that we know of.
    pub object: Arc<DynamicObject>,
    /// Whether only our own write tells of it: then look again soon.
    pub unconfirmed: bool,
}

/// A kind that cannot be seen.
#[derive(Debug, thiserror::Error)]
#[error("cannot list or watch {}: {why}", kind.in_roles())]
pub struct NotWatched {
    /// The kind.
    pub kind: ChildKind,
    /// What the API server said.
    pub why: String,
}

impl NotWatched {
    /// Whether it is the operator's roles that lack it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        is_forbidden(&self.why)
    }
}

impl Cache {
    /// Begins to watch children in `namespace`, or everywhere. Nothing is seen until the streams are polled.
    #[must_use]
    pub fn start(client: &Client, namespace: Option<&str>) -> (Self, Vec<(ApiResource, Changes)>) {
        let mut kinds = BTreeMap::new();
        let mut streams = Vec::new();
        for kind in ChildKind::ALL {
            let resource = kind.resource();
            let api: Api<Kept> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let writer: Writer<Kept> = Writer::new(resource.clone());
            let store = writer.as_reader();
            let trouble = Arc::new(Mutex::new(None));
            let (well, ill) = (Arc::clone(&trouble), Arc::clone(&trouble));
            let written = Arc::new(Mutex::new(Written::new()));
            let told = Arc::clone(&written);
            let changes = reflector(writer, watcher(api, watcher::Config::default().labels(PIPELINE_LABEL)))
                .default_backoff()
                .touched_objects()
                .inspect_ok(move |kept| {
                    *well.lock() = None;
                    let key = (kept.namespace().unwrap_or_default(), kept.name_any());
                    let mut written = told.lock();
                    if written
                        .get(&key)
                        .is_some_and(|(own, _)| version(&own.metadata) <= version(&kept.metadata))
                    {
                        written.remove(&key);
                    }
                })
                .inspect_err(move |error| {
                    tracing::warn!(kind = %kind.in_roles(), %error, "cannot watch");
                    *ill.lock() = Some(Trouble::from(error));
                })
                .boxed();
            streams.push((resource, changes));
            let kind_cache = Kind { store, trouble, written, settled: Mutex::default() };
            kinds.insert(kind, kind_cache);
        }
        (Self { kinds }, streams)
    }

    fn kind(&self, kind: ChildKind) -> Option<&Kind> {
        self.kinds.get(&kind)
    }

    /// Waits until every kind has been seen once, at most `patience`. A kind that the cluster does not serve counts as
    /// seen: there is none of it, and who needs one learns so when it is made.
    ///
    /// # Errors
    /// The first kind that has not, or that may be listed but not watched, so that what is known of it grows old.
    pub async fn seen(&self, patience: Duration) -> Result<(), NotWatched> {
        let deadline = tokio::time::Instant::now() + patience;
        for (kind, watched) in &self.kinds {
            loop {
                let ready = tokio::time::timeout(LOOK, watched.store.wait_until_ready()).await;
                let ready = matches!(ready, Ok(Ok(())));
                let trouble = watched.trouble.lock().clone();
                if ready {
                    if let Some(trouble) = trouble.filter(Trouble::is_lasting) {
                        return Err(NotWatched { kind: *kind, why: trouble.why });
                    }
                    break;
                }
                if trouble.as_ref().is_some_and(|trouble| trouble.absent) {
                    break;
                }
                if tokio::time::Instant::now() >= deadline {
                    let why = trouble.map_or_else(|| "no answer yet".to_owned(), |trouble| trouble.why);
                    return Err(NotWatched { kind: *kind, why });
                }
            }
        }
        Ok(())
    }

    /// A child, if it exists.
    #[must_use]
    pub fn get(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<Live> {
        let watched = self.kind(kind)?;
        let reference = ObjectRef::new_with(name, kind.resource()).within(namespace);
        let stored = watched.store.get(&reference);
        let key = (namespace.to_owned(), name.to_owned());
        let mut written = watched.written.lock();
        let Some((own, at)) = written.get(&key) else {
            return stored.map(|kept| Live { object: Arc::new(kept.object(kind)), unconfirmed: false });
        };
        let caught_up =
            stored.as_ref().is_some_and(|stored| version(&stored.metadata) >= version(&own.metadata));
        if caught_up || at.elapsed() > TRUST_OWN_WRITE {
            written.remove(&key);
            return stored.map(|kept| Live { object: Arc::new(kept.object(kind)), unconfirmed: false });
        }
        Some(Live { object: Arc::new(own.object(kind)), unconfirmed: true })
    }

    /// All children of a kind that carry the label of this pipeline.
    #[must_use]
    pub fn of_pipeline(&self, kind: ChildKind, namespace: &str, pipeline: &str) -> Vec<DynamicObject> {
        let Some(watched) = self.kind(kind) else { return Vec::new() };
        let ours = |object: &Kept| {
            object.metadata.namespace.as_deref() == Some(namespace)
                && object.labels().get(PIPELINE_LABEL).is_some_and(|name| name == pipeline)
        };
        watched.store.state_filter(ours).iter().map(|kept| kept.object(kind)).collect()
    }

    /// All Deployments, each read when it is asked for.
    pub fn deployments(&self) -> impl Iterator<Item = DynamicObject> + use<> {
        let kind = ChildKind::Deployment;
        let all = self.kind(kind).map(|watched| watched.store.state()).unwrap_or_default();
        all.into_iter().map(move |kept| kept.object(kind))
    }

    /// Notes what we wrote.
    pub fn note_write(&self, kind: ChildKind, object: &DynamicObject) {
        let Some(watched) = self.kind(kind) else { return };
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        if let Some(version) = object.resource_version() {
            watched.settled.lock().insert(key.clone(), version);
        }
        let Ok(own) = Kept::of(object.clone()) else { return };
        let reference = ObjectRef::new_with(&key.1, kind.resource()).within(&key.0);
        // Under the lock: a watch that tells of it after this look takes it away again.
        let mut written = watched.written.lock();
        let told = watched.store.get(&reference);
        if told.is_none_or(|told| version(&told.metadata) < version(&own.metadata)) {
            written.insert(key, (own, Instant::now()));
        }
    }

    /// Notes that we deleted it.
    pub fn note_delete(&self, kind: ChildKind, namespace: &str, name: &str) {
        let Some(watched) = self.kind(kind) else { return };
        let key = (namespace.to_owned(), name.to_owned());
        watched.settled.lock().remove(&key);
        watched.written.lock().remove(&key);
    }

    /// Whether nobody has changed the object since our last write.
    #[must_use]
    pub fn is_settled(&self, kind: ChildKind, object: &DynamicObject) -> bool {
        let Some(watched) = self.kind(kind) else { return false };
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let settled = watched.settled.lock();
        settled.get(&key).is_some_and(|version| object.resource_version().as_ref() == Some(version))
    }

    /// Forgets what was noted of children that are gone.
    pub fn forget(&self, namespace: &str, pipeline: &str) {
        for watched in self.kinds.values() {
            let gone = |(of, name): &Key| of == namespace && name.starts_with(pipeline);
            watched.settled.lock().retain(|key, _| !gone(key));
            watched.written.lock().retain(|key, _| !gone(key));
        }
    }
}

fn is_forbidden(why: &str) -> bool {
    why.contains("orbidden")
}

/// Versions of one kind grow (KEP-5504); one that is no number is older than any.
pub(crate) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

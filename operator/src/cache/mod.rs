//! What children exist: a watch of each kind, and what we wrote ourselves and the watch has not told yet.

mod kept;
mod known;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::kept::version;
use self::kept::{Kept, Seen};
pub use self::known::TRUST_OWN_WRITE;
use self::known::{Known, Newest};
use crate::names::PIPELINE_LABEL;
use crate::plan::ChildKind;

/// How often a kind is looked at that has not been seen yet.
const LOOK: Duration = Duration::from_millis(50);
/// How long a watch that failed may stay silent before it counts as restored: it is tried again within a minute, and
/// says nothing when that succeeds.
const TRIED_AGAIN: Duration = Duration::from_secs(75);

/// The children in one namespace or all.
pub struct Cache {
    kinds: BTreeMap<ChildKind, Kind>,
}

struct Kind {
    known: Arc<Mutex<Known>>,
    /// Whether everything has been told once.
    listed: watch::Receiver<bool>,
    /// Why the watch did not work when it was last tried.
    trouble: Arc<Mutex<Option<Trouble>>>,
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
pub type Changes = BoxStream<'static, Result<Seen, watcher::Error>>;

/// A child as it is.
#[derive(Clone, Debug)]
pub struct Live {
    /// The newest version that we know of.
    pub object: DynamicObject,
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
            let api: Api<Seen> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let known = Arc::new(Mutex::new(Known::default()));
            let trouble = Arc::new(Mutex::new(None));
            let (all_told, listed) = watch::channel(false);
            let (told, well, ill) = (Arc::clone(&known), Arc::clone(&trouble), Arc::clone(&trouble));
            let changes = watcher(api, watcher::Config::default().labels(PIPELINE_LABEL))
                .inspect_ok(move |event| {
                    if told.lock().tell(event) {
                        all_told.send_replace(true);
                    }
                })
                .default_backoff()
                .touched_objects()
                .inspect_ok(move |_| *well.lock() = None)
                .inspect_err(move |error| {
                    tracing::warn!(kind = %kind.in_roles(), %error, "cannot watch");
                    *ill.lock() = Some(Trouble::from(error));
                })
                .boxed();
            streams.push((resource, changes));
            kinds.insert(kind, Kind { known, listed, trouble });
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
                let mut listed = watched.listed.clone();
                let listed = tokio::time::timeout(LOOK, listed.wait_for(|listed| *listed)).await;
                let trouble = watched.trouble.lock().clone();
                if matches!(listed, Ok(Ok(_))) {
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
        let newest = self.kind(kind)?.known.lock().newest(namespace, name, Instant::now());
        let Newest { kept, unconfirmed } = newest?;
        Some(Live { object: kept.object(kind), unconfirmed })
    }

    /// All children of a kind that carry the label of this pipeline.
    #[must_use]
    pub fn of_pipeline(&self, kind: ChildKind, namespace: &str, pipeline: &str) -> Vec<DynamicObject> {
        let Some(watched) = self.kind(kind) else { return Vec::new() };
        let children = watched.known.lock().of_pipeline(namespace, pipeline);
        children.iter().map(|kept| kept.object(kind)).collect()
    }

    /// All Deployments, each read when it is asked for.
    pub fn deployments(&self) -> impl Iterator<Item = DynamicObject> + use<> {
        let kind = ChildKind::Deployment;
        let all = self.kind(kind).map(|watched| watched.known.lock().all()).unwrap_or_default();
        all.into_iter().map(move |kept| kept.object(kind))
    }

    /// Notes what we wrote.
    pub fn note_write(&self, kind: ChildKind, object: &DynamicObject) {
        let (Some(watched), Ok(own)) = (self.kind(kind), Kept::of(object)) else { return };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        watched.known.lock().note_write(&namespace, &name, own, Instant::now());
    }

    /// Notes that we deleted it.
    pub fn note_delete(&self, kind: ChildKind, namespace: &str, name: &str) {
        if let Some(watched) = self.kind(kind) {
            watched.known.lock().note_delete(namespace, name);
        }
    }

    /// Whether nobody has changed the object since our last write.
    #[must_use]
    pub fn is_settled(&self, kind: ChildKind, object: &DynamicObject) -> bool {
        let Some(watched) = self.kind(kind) else { return false };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        watched.known.lock().is_settled(&namespace, &name, version(&object.metadata))
    }

    /// Forgets what was noted of the children of a pipeline that is gone.
    pub fn forget(&self, namespace: &str, pipeline: &str) {
        for watched in self.kinds.values() {
            watched.known.lock().forget(namespace, pipeline);
        }
    }
}

fn is_forbidden(why: &str) -> bool {
    why.contains("orbidden")
}

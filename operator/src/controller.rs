//! The controller: watches pipelines and their children, and reconciles each pipeline that may have changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use futures::stream::{FuturesUnordered, StreamExt};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, controller};
use kube::{Api, Client, Resource};
use tokio::sync::{mpsc, watch};

use crate::api_error::ApiError;
use crate::cache::Cache;
use crate::reconcile::{Context, Scope, Stored, reconcile};
use crate::telemetry::metrics::Reconciled;
use crate::topics::Contender;

/// How long one reconcile may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long changes of one pipeline are gathered into one reconcile.
const GATHER: Duration = Duration::from_millis(150);
/// The pause after a reconcile whose result could not be written.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// How many requests to look again may wait.
pub const AGAIN: usize = 4_096;

/// A reconcile that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Its result could not be written.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It took too long.
    #[error("the reconcile took longer than {} s", PATIENCE.as_secs())]
    TimedOut,
}

/// Runs until `shutdown`, for pipelines of these namespaces (none: of all).
pub async fn run(
    context: Arc<Context>,
    namespaces: &[String],
    mut again: mpsc::Receiver<ObjectRef<Stored>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (stop, _) = watch::channel(false);
    let scopes: Vec<Option<&str>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(|name| Some(name.as_str())).collect()
    };
    let controllers = FuturesUnordered::new();
    let mut triggers = Vec::new();
    for namespace in scopes {
        let (send, receive) = mpsc::channel(AGAIN);
        triggers.push((namespace.map(str::to_owned), send));
        controllers.push(in_scope(&context, namespace, receive, stop.subscribe()));
    }
    let route = async {
        while let Some(reference) = again.recv().await {
            let of = |namespace: &Option<String>| namespace.is_none() || *namespace == reference.namespace;
            if let Some((_, send)) = triggers.iter().find(|(namespace, _)| of(namespace)) {
                let _ = send.try_send(reference.clone());
            }
        }
        std::future::pending::<()>().await;
    };
    let all = controllers.collect::<Vec<_>>();
    tokio::pin!(all, route);
    tokio::select! {
        _ = &mut all => {}
        () = &mut route => {}
        () = shutdown => {
            let _ = stop.send(true);
            // What has begun ends in order.
            let _ = all.await;
        }
    }
}

/// One controller: of a namespace, or of all.
fn in_scope(
    context: &Arc<Context>,
    namespace: Option<&str>,
    again: mpsc::Receiver<ObjectRef<Stored>>,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let client: Client = context.client.clone();
    let api: Api<Stored> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = reflector::store();
    let forget = Arc::clone(context);
    let pipelines = watcher(api, watcher::Config::default())
        .map_ok(|event| event.modify(|stored: &mut Stored| stored.meta_mut().managed_fields = None))
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(watcher::Event::Delete(stored)) = event {
                gone(&forget, stored);
            }
        })
        .touched_objects()
        .inspect(|event| {
            if let Err(error) = event {
                tracing::warn!(%error, "cannot watch ingestpipelines.penstock.dev");
            }
        });
    let (cache, children) = Cache::start(&client, namespace);
    let scope = Arc::new(Scope { cache, pipelines: reader.clone() });
    context.scopes.write().push(Arc::clone(&scope));
    let mut controller = Controller::for_stream(pipelines, reader)
        // Without a bound of its own: `one` waits for its turn, where those who wait can be counted.
        .with_config(Config::default().debounce(GATHER))
        .reconcile_on(futures::stream::unfold(again, |mut again| async move {
            again.recv().await.map(|reference| (reference, again))
        }))
        .graceful_shutdown_on(until_stopped(stop.clone()));
    for (resource, changes) in children {
        controller = controller.owns_stream_with(changes, resource);
    }
    let shared = Arc::new((Arc::clone(context), Arc::clone(&scope)));
    let ended = controller.run(one, after_error, shared).for_each(|result| async move {
        match result {
            Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
            Err(error) => tracing::debug!(%error, "a trigger or reconcile failed"),
        }
    });
    async move {
        tokio::select! {
            () = stopped_before_it_began(&scope.pipelines, stop) => {}
            () = ended => {}
        }
    }
}

async fn until_stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The stop of a controller that has not seen its pipelines yet. kube's would wait for them, and for ever: a stop ends the
/// watch that would bring them.
async fn stopped_before_it_began(pipelines: &Store<Stored>, stop: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = pipelines.wait_until_ready() => std::future::pending().await,
        () = until_stopped(stop) => {}
    }
}

/// A pipeline was deleted: whoever wanted its topics looks again.
fn gone(context: &Context, stored: &Stored) {
    let meta = stored.meta();
    let (namespace, name) =
        (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    context.metrics.forget(&namespace, &name);
    for scope in context.scopes.read().iter() {
        scope.cache.forget(&namespace, &name);
    }
    let uid = meta.uid.clone().unwrap_or_default();
    context.memory.forget(&uid);
    context.claims.lock().forget(&uid);
    if let Some(contender) = stored.0.as_ref().ok().and_then(Contender::of) {
        context.look_again_at_rivals(&contender);
    }
}

type Shared = (Arc<Context>, Arc<Scope>);

async fn one(stored: Arc<Stored>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    let (context, scope) = shared.as_ref();
    let waits = context.metrics.waits();
    let _turn = context.turns.acquire().await;
    drop(waits);
    // It may have changed while it waited.
    let Some(stored) = scope.pipelines.get(&ObjectRef::from_obj(stored.as_ref())) else {
        return Ok(Action::await_change());
    };
    let _in_flight = context.metrics.reconcile_begins();
    let started = Instant::now();
    // Made at its turn: while it waits, thousands with it, it takes no room.
    let work = Box::pin(reconcile(context, scope, &stored));
    let result = tokio::time::timeout(PATIENCE, work).await;
    let took = started.elapsed();
    match result {
        Ok(Ok((again, how))) => {
            context.metrics.reconciled(how, took);
            Ok(Action::requeue(again))
        }
        Ok(Err(error)) => {
            context.metrics.reconciled(Reconciled::Failed, took);
            context.metrics.error(error.reason());
            Err(error.into())
        }
        Err(_) => {
            context.metrics.reconciled(Reconciled::TimedOut, took);
            Err(ReconcileError::TimedOut)
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn after_error(stored: Arc<Stored>, error: &ReconcileError, _: Arc<Shared>) -> Action {
    let meta = stored.meta();
    tracing::warn!(namespace = ?meta.namespace, name = ?meta.name, %error, "will try again");
    Action::requeue(AFTER_ERROR)
}

//! The clients of all pipelines: few, shared where nothing tells two apart, and closed when nobody uses them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::Instant;

use super::access::{Access, Key};
use super::allowed::AllowedServers;
use super::connection::Connection;
use super::decide::{Decision, decide};
use super::error::{KafkaError, Trouble};
use super::seen::Seen;
use super::step::{Failures, Step};
use super::wanted::{Wanted, names};

/// A client that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(60);
/// Clients kept at most; beyond, the one unused for longest is closed.
const CLIENTS: usize = 64;
/// Calls at once. Each has a thread while it waits, for ten seconds at most; clusters that do not answer must not take
/// all of them from those that do.
const CALLS: usize = 64;
/// How long a change that the brokers have accepted may take to show.
const SHOWS: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Clients by what tells them apart. Clones share them. They are closed on a timer of the runtime that calls.
#[derive(Clone)]
pub struct Clusters(Arc<Inner>);

struct Inner {
    allowed: AllowedServers,
    pool: Mutex<Pool>,
    calls: Arc<Semaphore>,
}

#[derive(Default)]
struct Pool {
    members: HashMap<Key, Member>,
    is_swept: bool,
}

struct Member {
    line: Arc<AsyncMutex<Line>>,
    used: Instant,
}

/// One client's calls go one after the other: a dead cluster has one thread, however many pipelines ask for it.
#[derive(Default)]
struct Line {
    connection: Option<Connection>,
    /// What the last call met that those behind it in the line would meet too.
    failed: Option<(Instant, KafkaError)>,
}

impl Clusters {
    /// No clients yet. Only `allowed` servers are ever connected to.
    #[must_use]
    pub fn new(allowed: AllowedServers) -> Self {
        let pool = Mutex::default();
        Self(Arc::new(Inner { allowed, pool, calls: Arc::new(Semaphore::new(CALLS)) }))
    }

    /// Looks at topics by their names in Kafka.
    ///
    /// # Errors
    /// When the cluster cannot be asked; what is wrong with one topic stands beside the others.
    pub async fn look(&self, access: &Access, names: &BTreeSet<String>) -> Result<Seen, KafkaError> {
        let names = names.clone();
        self.call(access, move |connection| connection.look(&names)).await
    }

    /// Carries out steps whose intent is recorded. Returns what failed, by topic.
    ///
    /// # Errors
    /// When the cluster cannot be asked; then any of them may have been done.
    pub async fn carry_out(&self, access: &Access, steps: &[Step]) -> Result<Failures, KafkaError> {
        if steps.is_empty() {
            return Ok(Failures::new());
        }
        let steps = steps.to_vec();
        self.call(access, move |connection| connection.carry_out(&steps)).await
    }

    /// The second half: carries out the steps of `decision`, looks until they show, and decides again. What does not show
    /// within five seconds is still a step of the answer. If the decision says so, its topics must be in the stored
    /// status by now: what it was to create counts as the pipeline's own.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn finish(
        &self,
        access: &Access,
        wanted: &Wanted<'_>,
        decision: &Decision,
    ) -> Result<Decision, KafkaError> {
        if decision.steps.is_empty() {
            return Ok(decision.clone());
        }
        let failures = self.carry_out(access, &decision.steps).await?;
        let wanted = &Wanted { recorded: &decision.topics, ..*wanted };
        let started = Instant::now();
        loop {
            let seen = self.look(access, &names(wanted)).await?;
            let decision = decide(wanted, &seen, &failures);
            if decision.steps.is_empty() || started.elapsed() >= SHOWS {
                return Ok(decision);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.0.pool.lock().members.len()
    }

    async fn call<T: Send + 'static>(
        &self,
        access: &Access,
        call: impl FnOnce(&Connection) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        self.0.allowed.check("spec.kafka.bootstrapServers", access.servers())?;
        self.0.allowed.check(access.credentials(), access.token_server().as_slice())?;
        let line = self.line(access.key());
        let came = Instant::now();
        let mut line = line.lock_owned().await;
        if let Some((_, error)) = line.failed.as_ref().filter(|(when, _)| *when >= came) {
            return Err(error.clone());
        }
        let gone =
            |_| KafkaError::Unreachable { servers: access.servers().join(","), trouble: Trouble::Silence };
        let permit =
            Arc::clone(&self.0.calls).acquire_owned().await.map_err(|closed| gone(closed.to_string()))?;
        let owned = access.clone();
        // It ends by itself when the caller has gone: the line and the permit go with it.
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            line.call(owned, call)
        });
        task.await.map_err(|panicked| gone(panicked.to_string()))?
    }

    fn line(&self, key: &Key) -> Arc<AsyncMutex<Line>> {
        let mut pool = self.0.pool.lock();
        if !pool.is_swept {
            pool.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
        if !pool.members.contains_key(key) && pool.members.len() >= CLIENTS {
            pool.close_longest_unused();
        }
        let member = pool
            .members
            .entry(key.clone())
            .or_insert_with(|| Member { line: Arc::default(), used: Instant::now() });
        member.used = Instant::now();
        Arc::clone(&member.line)
    }
}

impl Line {
    fn call<T>(
        &mut self,
        access: Access,
        call: impl FnOnce(&Connection) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        if self.connection.as_ref().is_some_and(Connection::is_refused) {
            self.connection = None;
        }
        let answer = match &self.connection {
            Some(connection) => call(connection),
            None => Connection::new(access).and_then(|connection| call(self.connection.insert(connection))),
        };
        self.failed = None;
        if let Err(
            error @ (KafkaError::Unreachable { .. }
            | KafkaError::Authentication { .. }
            | KafkaError::Token { .. }),
        ) = &answer
        {
            // librdkafka waits longer and longer between attempts and keeps repeated errors to itself; a new client
            // does neither.
            self.connection = None;
            self.failed = Some((Instant::now(), error.clone()));
        }
        answer
    }
}

impl Pool {
    fn close_longest_unused(&mut self) {
        let oldest = self.members.iter().min_by_key(|(_, member)| member.used).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.members.remove(&key);
        }
    }
}

/// Closes clients that nobody uses, until there are none.
async fn sweep(inner: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut pool = inner.pool.lock();
        pool.members.retain(|_, member| member.used.elapsed() < IDLE);
        if pool.members.is_empty() {
            pool.is_swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests;

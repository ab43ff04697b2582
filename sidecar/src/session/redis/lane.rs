//! The way to the server that keeps a shard. Commands of many sessions that are due together leave as one pipeline and
//! come back in one piece; while some are on their way, those that come gather for the next. Every command is answered
//! within the timeouts of its connection, with a result or with why there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, PushInfo, ServerError, ServerErrorKind, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::error::LinkError;
use super::link::Link;
use super::scripts;
use super::settings::Settings;
use crate::session::error::Away;

/// Commands that may wait.
const QUEUE: usize = 16_384;
/// Bytes of commands that may wait or be on their way.
const QUEUE_BYTES: usize = 32 << 20;
/// Commands in a pipeline. A server serves nobody else while it runs one.
const BATCH: usize = 256;
/// Pipelines on their way: one that is run, and one that is there when it is done.
const PIPELINES: usize = 2;
/// How often an idle server is asked whether it is there, and a Sentinel whether it is the primary.
const CHECK: Duration = Duration::from_secs(1);
/// Pauses between attempts to connect.
const PAUSES_MILLIS: [u64; 5] = [20, 50, 100, 250, 500];

type Answer = oneshot::Sender<Result<Value, Away>>;

/// A command on its way in.
struct Request {
    command: Cmd,
    ticket: Ticket,
    answer: Answer,
}

/// Bytes taken from [`QUEUE_BYTES`], given back when dropped.
struct Ticket {
    bytes: usize,
    queued: Arc<AtomicUsize>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What happens on a lane that its store wants to know.
pub(super) trait Watch: Send + Sync + 'static {
    /// There is a connection again: what was published meanwhile was missed.
    fn connected(&self);
    /// A message on the channel of this pod.
    fn told(&self, message: &[u8]);
}

/// How much went over a lane, for metrics.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) commands: AtomicUsize,
    pub(super) pipelines: AtomicUsize,
    /// Why there is no connection.
    pub(super) problem: Mutex<Option<LinkError>>,
    pub(super) connected: AtomicBool,
}

/// The way to a shard. It ends when it is dropped.
pub(super) struct Lane {
    requests: mpsc::Sender<Request>,
    queued: Arc<AtomicUsize>,
    traffic: Arc<Traffic>,
}

impl Lane {
    /// Starts on the current runtime. `key` is any of the shard, `channel` where this pod is told things.
    pub(super) fn start(
        settings: Arc<Settings>,
        key: String,
        channel: String,
        watch: Arc<dyn Watch>,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let traffic = Arc::new(Traffic::default());
        let worker =
            Worker { settings, key, channel, watch, queue, traffic: Arc::clone(&traffic), away: false };
        tokio::spawn(worker.run());
        Self { requests, queued: Arc::default(), traffic }
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Has a command run. It is sent with the epoch of its connection as its last argument.
    pub(super) fn send(&self, command: Cmd) -> oneshot::Receiver<Result<Value, Away>> {
        let (answer, answered) = oneshot::channel();
        let bytes = command.args_iter().map(|arg| size(&arg)).sum();
        let queued = self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let ticket = Ticket { bytes, queued: Arc::clone(&self.queued) };
        let request = Request { command, ticket, answer };
        if queued > QUEUE_BYTES {
            let _ = request.answer.send(Err(Away::Full));
        } else if let Err(refused) = self.requests.try_send(request) {
            let _ = refused.into_inner().answer.send(Err(Away::Full));
        }
        answered
    }
}

fn size(arg: &redis::Arg<&[u8]>) -> usize {
    match arg {
        redis::Arg::Simple(bytes) => bytes.len() + 16,
        _ => 16,
    }
}

/// A pipeline that is on its way, with who waits for it.
struct Sent {
    pipeline: Pipeline,
    /// Commands before those of the requests.
    head: usize,
    waiting: Vec<(Ticket, Answer)>,
}

type Answered = (Sent, Result<Vec<Value>, redis::RedisError>);

struct Worker {
    settings: Arc<Settings>,
    key: String,
    channel: String,
    watch: Arc<dyn Watch>,
    queue: mpsc::Receiver<Request>,
    traffic: Arc<Traffic>,
    /// The last attempt to connect failed: nobody waits for the next.
    away: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.open().await {
                None => return,
                Some(Ok(link)) => {
                    tracing::info!(server = %link.address, "sessions: connected to Redis");
                    (failures, self.away) = (0, false);
                    *self.traffic.problem.lock() = None;
                    self.traffic.connected.store(true, Ordering::Relaxed);
                    self.watch.connected();
                    let server = link.address.to_string();
                    let lost = Box::pin(self.serve(link)).await;
                    self.traffic.connected.store(false, Ordering::Relaxed);
                    match lost {
                        None => return,
                        Some(why) => tracing::warn!(server, reason = why.reason(), "sessions: {why}"),
                    }
                }
                Some(Err(error)) => {
                    self.away = true;
                    let before = self.traffic.problem.lock().replace(error.clone());
                    if before.as_ref() != Some(&error) {
                        tracing::warn!(reason = error.reason(), "sessions: no Redis: {error}");
                    }
                    let pause = PAUSES_MILLIS.get(failures).or(PAUSES_MILLIS.last()).copied().unwrap_or(500);
                    failures += 1;
                    if !self.refuse_until(sleep(Duration::from_millis(pause))).await {
                        return;
                    }
                }
            }
        }
    }

    /// Connects. None when nobody is left to ask.
    async fn open(&mut self) -> Option<Result<Link, LinkError>> {
        let watch = Arc::clone(&self.watch);
        let pushes = move |push: PushInfo| {
            if let (redis::PushKind::Message, Some(Value::BulkString(message))) =
                (&push.kind, push.data.get(1))
            {
                watch.told(message);
            }
            Ok::<(), ()>(())
        };
        let (settings, key, channel) = (Arc::clone(&self.settings), self.key.clone(), self.channel.clone());
        let mut opening = Box::pin(async move { Link::open(&settings, &key, &channel, pushes).await });
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => return Some(opened),
                request = self.queue.recv(), if self.away => {
                    let _ = request?.answer.send(Err(Away::Disconnected));
                }
            }
        }
    }

    /// Answers that there is no connection, until `end`. False when nobody is left to ask.
    async fn refuse_until(&mut self, end: impl Future<Output = ()>) -> bool {
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                request = self.queue.recv() => match request {
                    Some(request) => drop(request.answer.send(Err(Away::Disconnected))),
                    None => return false,
                },
                () = &mut end => return true,
            }
        }
    }

    /// Serves on a connection, until it is lost. None when nobody is left to ask.
    async fn serve(&mut self, link: Link) -> Option<Away> {
        let mut sent: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
        let mut again: Vec<(Cmd, Ticket, Answer)> = Vec::new();
        let mut load = true;
        let mut ticks = interval(CHECK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check: Option<BoxFuture<'static, bool>> = None;
        loop {
            if !again.is_empty() {
                let sent_again = self.sent(std::mem::take(&mut again), std::mem::take(&mut load));
                sent.push(answered(&link, sent_again));
            }
            tokio::select! {
                biased;
                Some((batch, result)) = sent.next(), if !sent.is_empty() => {
                    match result {
                        Ok(values) => {
                            let refused = settle(batch, values, &mut again);
                            load |= !again.is_empty();
                            if let Some(lost) = refused {
                                return Some(lost);
                            }
                        }
                        Err(error) => {
                            let why = if error.is_timeout() { Away::Timeout } else { Away::Lost };
                            for (_, answer) in batch.waiting {
                                let _ = answer.send(Err(why));
                            }
                            return Some(why);
                        }
                    }
                }
                request = self.queue.recv(), if sent.len() < PIPELINES => {
                    let batch = self.batch(request?, link.epoch);
                    let batch = self.sent(batch, std::mem::take(&mut load));
                    sent.push(answered(&link, batch));
                }
                current = async { match &mut check { Some(check) => check.await, None => true } },
                    if check.is_some() =>
                {
                    check = None;
                    if !current {
                        return Some(Away::Lost);
                    }
                }
                _ = ticks.tick(), if check.is_none() => {
                    let (mut link, settings, key) = (link.clone(), Arc::clone(&self.settings), self.key.clone());
                    check = Some(async move { link.is_current(&settings, &key).await }.boxed());
                }
            }
        }
    }

    /// What is due together with a request.
    fn batch(&mut self, first: Request, epoch: u64) -> Vec<(Cmd, Ticket, Answer)> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(Request { mut command, ticket, answer }) = next {
            command.arg(epoch);
            batch.push((command, ticket, answer));
            next = if batch.len() < BATCH { self.queue.try_recv().ok() } else { None };
        }
        batch
    }

    fn sent(&self, batch: Vec<(Cmd, Ticket, Answer)>, load: bool) -> Sent {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        if load {
            for script in scripts::ALL {
                pipeline.cmd("SCRIPT").arg("LOAD").arg(script.code());
            }
        }
        let head = pipeline.len();
        self.traffic.commands.fetch_add(batch.len(), Ordering::Relaxed);
        self.traffic.pipelines.fetch_add(1, Ordering::Relaxed);
        let mut waiting = Vec::with_capacity(batch.len());
        for (command, ticket, answer) in batch {
            pipeline.add_command(command);
            waiting.push((ticket, answer));
        }
        Sent { pipeline, head, waiting }
    }
}

fn answered(link: &Link, sent: Sent) -> BoxFuture<'static, Answered> {
    let connection = link.connection.clone();
    async move {
        let result = Link::send(connection, &sent.pipeline).await;
        (sent, result)
    }
    .boxed()
}

/// Gives each its answer. What a server has not run for want of the script is kept to be sent again. Returns why the
/// connection is of no more use, if it is not.
fn settle(sent: Sent, values: Vec<Value>, again: &mut Vec<(Cmd, Ticket, Answer)>) -> Option<Away> {
    let mut lost = None;
    let commands = sent.pipeline.cmd_iter().skip(sent.head);
    let mut values = values.into_iter().skip(sent.head);
    for ((ticket, answer), command) in sent.waiting.into_iter().zip(commands) {
        let answered = match values.next() {
            Some(Value::ServerError(error)) if error.kind() == Some(ServerErrorKind::NoScript) => {
                again.push((command.clone(), ticket, answer));
                continue;
            }
            Some(Value::ServerError(error)) => {
                let (why, moved) = refusal(&error);
                if moved {
                    lost = Some(why);
                }
                Err(why)
            }
            Some(value) => Ok(value),
            None => Err(Away::Unexpected),
        };
        let _ = answer.send(answered);
    }
    lost
}

/// What an error of a server means, and whether another server is to be asked.
fn refusal(error: &ServerError) -> (Away, bool) {
    match error.kind() {
        Some(ServerErrorKind::ReadOnly) => (Away::Refused("it has become a replica"), true),
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            (Away::Refused("another server serves the slot"), true)
        }
        Some(ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain) => {
            (Away::Refused("the cluster is down"), true)
        }
        Some(ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading) => {
            (Away::Refused("it is loading its data"), true)
        }
        Some(ServerErrorKind::NoPerm) => {
            (Away::Refused("the user may not run a command that is needed"), false)
        }
        _ => match error.code() {
            "OOM" => (Away::Refused("its memory is full (maxmemory)"), false),
            "NOREPLICAS" => (Away::Refused("too few replicas follow it (min-replicas-to-write)"), false),
            "MISCONF" => (Away::Refused("it cannot write to its disk"), false),
            "BUSY" => (Away::Refused("another script keeps it busy"), false),
            "NOAUTH" => (Away::Refused("it forgot who we are"), true),
            _ => (Away::Unexpected, false),
        },
    }
}

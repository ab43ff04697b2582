//! The Kafka store: one idempotent producer per pod, reports matched to slots, topics watched.
//!
//! Two threads of its own: one takes delivery reports and replaces a producer that failed for good; one looks at the
//! topics every few seconds. Producing happens on the connection's task and never blocks.

mod classify;
mod health;
#[cfg(test)]
pub(crate) mod mock;
mod native;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;
mod topics;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use penstock_crds::edge::EdgeConfig;

pub use health::Health;
pub use settings::{BATCH_BYTES, SettingsError, producer as producer_settings};
pub use statistics::{BrokerStatistics, Statistics};
pub use topics::{Obstacle, Topic};

use super::lane::{Lane, LaneKey, Lanes};
use super::record::{MessageId, Record};
use super::{Outcome, Receipt, TransientCause};
use crate::budget::{EndpointBudget, MESSAGE_OVERHEAD_BYTES, PodBudget};
use native::{Native, Report};

/// How long a poll for reports waits; also how soon the thread sees that it should end.
const POLL: Duration = Duration::from_millis(100);
/// Events taken before connections are woken: enough to coalesce, few enough not to delay the first.
const EVENTS_PER_WAKE: usize = 64;
/// How often the topics are looked at while all is well.
const LOOK: Duration = Duration::from_secs(5);
/// How often while something is not.
const LOOK_AGAIN: Duration = Duration::from_millis(1_000);
/// How long the brokers may take to describe the topics.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message was not given to the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// Not now.
    Transient(TransientCause),
    /// The topic takes at most this many bytes.
    TooLarge {
        /// `max.message.bytes` of the topic.
        limit_bytes: usize,
    },
}

/// A message's way back to its sender.
#[derive(Clone, Debug)]
pub struct Return {
    /// The id it will be known by.
    pub id: MessageId,
    /// The connection's own mark: an MQTT packet identifier, or 0.
    pub tag: u16,
    /// The endpoint's own code for a message that intake refused: an MQTT reason code, or 0.
    pub refusal: u8,
    /// Goes to the dead-letter topic.
    pub dead_letter: bool,
    /// When it arrived.
    pub arrived: Instant,
}

/// The store.
pub struct KafkaStore {
    config: Arc<EdgeConfig>,
    references: PathBuf,
    topics: Vec<Topic>,
    lanes: Lanes,
    pod: Arc<PodBudget>,
    producer: ArcSwapOption<Generation>,
    health: Health,
    statistics: Mutex<Statistics>,
    producers_made: AtomicUsize,
    ending: AtomicBool,
}

/// One producer's life: from its making to its last report.
struct Generation {
    native: Native<Observer>,
    batch_bytes: usize,
    /// Set once: it takes nothing more, and goes when its last report is there.
    retired: AtomicBool,
}

/// Tells the store what the client's callbacks say.
struct Observer(std::sync::Weak<KafkaStore>);

/// The store's threads, to be ended in order.
pub struct Threads {
    store: Arc<KafkaStore>,
    reports: JoinHandle<()>,
    looks: JoinHandle<()>,
    stop_looking: mpsc::Sender<()>,
}

impl KafkaStore {
    /// Makes the first producer and starts the threads. Kafka need not be there.
    pub fn start(
        config: Arc<EdgeConfig>,
        references: &Path,
        pod: Arc<PodBudget>,
    ) -> Result<(Arc<Self>, Threads), StartError> {
        let store = Arc::new(Self {
            topics: config.topics.iter().cloned().map(Topic::new).collect(),
            references: references.to_owned(),
            lanes: Lanes::default(),
            pod,
            producer: ArcSwapOption::empty(),
            health: Health::new(&config.kafka.bootstrap_servers),
            statistics: Mutex::default(),
            producers_made: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            config,
        });
        let first = store.make_producer(settings::BATCH_BYTES)?;
        let (stop_looking, stopped) = mpsc::channel();
        let reports = std::thread::Builder::new().name("kafka-reports".to_owned()).spawn({
            let store = Arc::clone(&store);
            move || store.take_reports(first)
        })?;
        let looks = std::thread::Builder::new().name("kafka-topics".to_owned()).spawn({
            let store = Arc::clone(&store);
            move || store.look_at_topics(&stopped)
        })?;
        let threads = Threads { store: Arc::clone(&store), reports, looks, stop_looking };
        Ok((store, threads))
    }

    /// The lanes of all connections.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The topics, in the order of the configuration.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// How Kafka has been doing.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// librdkafka's last statistics.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics.lock().clone()
    }

    /// How many producers have been made since the start.
    #[must_use]
    pub fn producers_made(&self) -> usize {
        self.producers_made.load(Ordering::Relaxed)
    }

    /// Gives a message to the producer. On success its outcome will come to the lane's next slot; on an error nothing
    /// was taken.
    pub fn submit(
        &self,
        key: LaneKey,
        lane: &Lane,
        budget: &EndpointBudget,
        record: &Record<'_>,
        back: Return,
    ) -> Result<(), SubmitError> {
        let topic =
            self.topics.get(record.topic).ok_or(SubmitError::Transient(TransientCause::TopicNotReady))?;
        topic.admit().map_err(SubmitError::Transient)?;
        let stored_bytes = record.stored_bytes();
        if stored_bytes > topic.max_message_bytes() {
            return Err(SubmitError::TooLarge { limit_bytes: topic.max_message_bytes() });
        }
        let producer = self.producer.load();
        let Some(generation) =
            producer.as_ref().filter(|generation| !generation.retired.load(Ordering::Acquire))
        else {
            return Err(SubmitError::Transient(TransientCause::ProducerReplaced));
        };
        let bytes = stored_bytes as u64 + MESSAGE_OVERHEAD_BYTES;
        if !budget.try_take(bytes, 1) {
            return Err(SubmitError::Transient(TransientCause::BudgetExhausted));
        }
        let ticket = lane.occupy(key, back, bytes);
        generation.native.produce(record, ticket).map_err(|error| {
            lane.retract();
            budget.give_back(bytes, 1);
            if generation.native.fatal_error().is_some() {
                generation.retired.store(true, Ordering::Release);
            }
            SubmitError::Transient(classify::cause_of(error))
        })
    }

    fn make_producer(self: &Arc<Self>, batch_bytes: usize) -> Result<Arc<Generation>, StartError> {
        let settings = settings::producer(&self.config, &self.references, batch_bytes)?;
        let names: Vec<_> = self.topics.iter().filter_map(Topic::c_name).collect();
        let native = Native::new(&settings, &names, Observer(Arc::downgrade(self)))?;
        let generation = Arc::new(Generation { native, batch_bytes, retired: AtomicBool::new(false) });
        self.producers_made.fetch_add(1, Ordering::Relaxed);
        self.producer.store(Some(Arc::clone(&generation)));
        Ok(generation)
    }

    /// The report thread: generation after generation.
    fn take_reports(self: &Arc<Self>, first: Arc<Generation>) {
        let mut generation = first;
        loop {
            self.take_reports_of(&generation);
            self.producer.store(None);
            let batch_bytes = self.batch_bytes();
            drop(generation);
            if self.ending.load(Ordering::Acquire) {
                return;
            }
            generation = loop {
                match self.make_producer(batch_bytes) {
                    Ok(generation) => break generation,
                    Err(error) => tracing::error!(%error, "cannot make a new Kafka producer, trying again"),
                }
                std::thread::park_timeout(Duration::from_secs(1));
                if self.ending.load(Ordering::Acquire) {
                    return;
                }
            };
            tracing::info!("a new Kafka producer takes messages");
        }
    }

    /// Takes reports until the generation is retired and its last report is there, or until the store ends.
    fn take_reports_of(&self, generation: &Generation) {
        let mut reports = Vec::new();
        let mut wake = Vec::new();
        loop {
            let mut events = 0;
            let mut timeout = POLL;
            while events < EVENTS_PER_WAKE && generation.native.poll(timeout, &mut reports) {
                timeout = Duration::ZERO;
                events += 1;
            }
            if !reports.is_empty() {
                self.complete(generation, &mut reports, &mut wake);
            }
            if generation.native.fatal_error().is_some() && !generation.retired.swap(true, Ordering::AcqRel) {
                let reason = generation.native.fatal_error().map(|(_, reason)| reason).unwrap_or_default();
                tracing::error!(
                    reason,
                    "the Kafka producer failed for good; waiting for its reports to replace it"
                );
            }
            let ending = self.ending.load(Ordering::Acquire);
            let retired = generation.retired.load(Ordering::Acquire);
            if ending || (retired && generation.native.outstanding() == 0) {
                return;
            }
        }
    }

    fn complete(&self, generation: &Generation, reports: &mut Vec<Report>, wake: &mut Vec<std::task::Waker>) {
        let mut persisted = false;
        let outcomes = reports.drain(..).map(|report| {
            let outcome = match (report.error, self.topics.get(report.topic)) {
                (None, Some(topic)) => {
                    persisted = true;
                    Outcome::Persisted(Receipt {
                        topic: topic.name(),
                        partition: report.partition,
                        offset: report.offset,
                        timestamp_millis: report.timestamp_millis,
                    })
                }
                (None, None) => Outcome::Transient(TransientCause::BrokerError),
                (Some(error), topic) => {
                    self.health.failed(error, topic.map(Topic::name));
                    if error == rdkafka::error::RDKafkaErrorCode::Fatal {
                        generation.retired.store(true, Ordering::Release);
                    }
                    classify::outcome_of(error)
                }
            };
            (report.ticket, outcome)
        });
        self.lanes.complete(outcomes, wake);
        if persisted {
            self.health.persisted();
        }
        self.pod.announce();
        wake.drain(..).for_each(std::task::Waker::wake);
    }

    /// The topic thread.
    fn look_at_topics(&self, stopped: &mpsc::Receiver<()>) {
        loop {
            let all_well = self.look_once();
            if all_well {
                self.health.seen();
            }
            let pause = if all_well { LOOK } else { LOOK_AGAIN };
            match stopped.recv_timeout(pause) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Describes all topics once. Returns whether all of them take messages.
    fn look_once(&self) -> bool {
        let producer = self.producer.load_full();
        let Some(generation) = producer else { return false };
        let names: Vec<_> = self.topics.iter().filter_map(Topic::c_name).collect();
        let descriptions = match generation.native.describe_topics(&names, LOOK_TIMEOUT) {
            Ok(descriptions) => descriptions,
            Err(error) => {
                self.health.failed(error, None);
                self.topics.iter().for_each(|topic| topic.unreachable(error));
                return false;
            }
        };
        self.health.reached();
        // Rights on a topic's configuration, and a broker that tells it, are welcome and not required.
        let configs =
            generation.native.describe_configs(&names, &descriptions, LOOK_TIMEOUT).unwrap_or_default();
        for topic in &self.topics {
            let Some(description) = descriptions.topics.iter().find(|d| d.name == topic.name()) else {
                continue;
            };
            let config = configs.iter().find(|config| config.name == topic.name());
            if let Some(news) = topic.observe(description, config) {
                if topic.obstacle().is_some() {
                    tracing::warn!("{news}");
                } else {
                    tracing::info!("{news}");
                }
            }
        }
        if self.batch_bytes() < generation.batch_bytes && !generation.retired.swap(true, Ordering::AcqRel) {
            tracing::info!("a topic takes smaller batches now; replacing the Kafka producer");
        }
        self.topics.iter().all(|topic| topic.obstacle().is_none())
    }

    /// The largest batch that every topic takes.
    fn batch_bytes(&self) -> usize {
        self.topics
            .iter()
            .map(Topic::max_message_bytes)
            .min()
            .unwrap_or(settings::BATCH_BYTES)
            .clamp(1, settings::BATCH_BYTES)
    }
}

impl StartError {
    /// Whether the configuration is at fault, and not the machine.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Client(_) => true,
            Self::Thread(_) => false,
        }
    }
}

impl Threads {
    /// Whether one of them has ended although nobody asked it to.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.reports.is_finished() || self.looks.is_finished()
    }

    /// Waits up to `patience` for the last reports, then ends the threads. Returns how many messages are left without
    /// a report. Blocks.
    #[must_use]
    pub fn end(self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let outstanding = || self.store.producer.load().as_ref().map_or(0, |g| g.native.outstanding());
        while outstanding() > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let left = outstanding();
        self.store.ending.store(true, Ordering::Release);
        drop(self.stop_looking);
        self.reports.thread().unpark();
        for thread in [self.reports, self.looks] {
            if thread.join().is_err() {
                tracing::error!("a Kafka thread panicked");
            }
        }
        left
    }
}

impl native::Observer for Observer {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        health::log(level, facility, message);
    }

    fn statistics(&self, json: &[u8]) {
        if let (Some(store), Ok(statistics)) = (self.0.upgrade(), serde_json::from_slice(json)) {
            *store.statistics.lock() = statistics;
        }
    }

    fn error(&self, error: rdkafka::error::RDKafkaErrorCode, message: &str) {
        if let Some(store) = self.0.upgrade() {
            store.health.client_error(error, message);
        }
    }
}

/// Why the store could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A reference cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// librdkafka refuses the settings.
    #[error("spec.kafka: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

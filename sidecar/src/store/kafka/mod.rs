//! The Kafka store: one idempotent producer per pod, reports matched to slots, topics watched.
//!
//! Two threads of its own: one takes delivery reports and replaces a producer that failed for good ([`generation`]); one
//! looks at the topics every few seconds ([`look`]). Producing happens on the connection's task and never blocks.

pub mod admin;
mod classify;
mod generation;
mod health;
mod linger;
mod look;
#[cfg(test)]
pub(crate) mod mock;
mod native;
mod positions;
mod progress;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;
pub mod token;
mod topics;
mod window;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use penstock_crds::edge::EdgeConfig;
use tokio::sync::watch;

pub use health::Health;
pub use settings::{BATCH_BYTES, SettingsError, producer as producer_settings};
pub use statistics::{BrokerStatistics, Statistics};
pub use topics::{Obstacle, Topic};

use super::lane::{Lane, LaneKey, Lanes, Return, Ticket};
use super::record::Record;
use super::{Outcome, Receipt, TransientCause};
use crate::budget::{EndpointBudget, MESSAGE_OVERHEAD_BYTES, PodBudget};
use crate::planted::{self, Bug};
use crate::session::record::KeptReceipt;
use generation::Generation;
use progress::Progress;
use window::Window;

/// How long the threads may take to end, beyond the patience for reports: a name server that does not answer can hold
/// librdkafka up, and then the process ends without it.
const END_PATIENCE: Duration = Duration::from_secs(2);

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

/// The store.
pub struct KafkaStore {
    config: Arc<EdgeConfig>,
    references: PathBuf,
    topics: Vec<Topic>,
    lanes: Lanes,
    pod: Arc<PodBudget>,
    window: Window,
    producer: ArcSwapOption<Generation>,
    health: Health,
    statistics: Mutex<Statistics>,
    progress: Mutex<Progress>,
    producers_made: AtomicUsize,
    ending: AtomicBool,
    /// Wakes the topic thread: to look at once, or to end.
    look: mpsc::SyncSender<()>,
    /// Whether the topics have been looked at, with whatever result.
    looked: watch::Sender<bool>,
}

/// Tells the store what the client's callbacks say.
struct Observer(std::sync::Weak<KafkaStore>);

/// The store's threads, to be ended in order.
pub struct Threads {
    store: Arc<KafkaStore>,
    reports: JoinHandle<()>,
    looks: JoinHandle<()>,
}

impl KafkaStore {
    /// Makes the first producer and starts the threads. Kafka need not be there.
    pub fn start(
        config: Arc<EdgeConfig>,
        references: &Path,
        pod: Arc<PodBudget>,
    ) -> Result<(Arc<Self>, Threads), StartError> {
        let (look, wake_to_look) = mpsc::sync_channel(1);
        let store = Arc::new(Self {
            topics: config.topics.iter().cloned().map(Topic::new).collect(),
            references: references.to_owned(),
            lanes: Lanes::default(),
            window: Window::new(
                Duration::from_secs(u64::from(config.delivery.ack_timeout_seconds)),
                pod.limit_bytes(),
            ),
            pod,
            producer: ArcSwapOption::empty(),
            health: Health::new(&config.kafka.bootstrap_servers),
            statistics: Mutex::default(),
            progress: Mutex::default(),
            producers_made: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            look,
            looked: watch::Sender::new(false),
            config,
        });
        let first = store.make_producer(settings::BATCH_BYTES)?;
        let reports = std::thread::Builder::new().name("kafka-reports".to_owned()).spawn({
            let store = Arc::clone(&store);
            move || store.take_reports(first)
        })?;
        let looks = std::thread::Builder::new().name("kafka-topics".to_owned()).spawn({
            let store = Arc::clone(&store);
            move || store.look_at_topics(&wake_to_look)
        })?;
        let threads = Threads { store: Arc::clone(&store), reports, looks };
        Ok((store, threads))
    }

    /// The lanes of all connections.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The receipt that a session has kept, if its topic is still one of the pipeline's.
    #[must_use]
    pub fn recall(&self, kept: &KeptReceipt) -> Option<Receipt> {
        let topic = self.topics.iter().find(|topic| *topic.name() == *kept.topic)?;
        Some(Receipt {
            topic: topic.name(),
            partition: kept.partition,
            offset: kept.offset,
            timestamp_millis: kept.timestamp_millis,
        })
    }

    /// The topics, in the order of the configuration.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Waits until the topics have been looked at, with whatever result; at most `patience`.
    pub async fn first_look(&self, patience: Duration) {
        let mut looked = self.looked.subscribe();
        // Without a result in time, whoever asks goes on as with a bad one.
        let _ = tokio::time::timeout(patience, looked.wait_for(|looked| *looked)).await;
    }

    /// How Kafka has been doing.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How much may be under way to Kafka at the moment, bytes.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        self.window.limit_bytes()
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
        if record.key.is_none() && topic.needs_key() {
            self.health.needs_key(topic.name());
            return Err(SubmitError::Transient(TransientCause::TopicNotReady));
        }
        // As long as it is held, the report thread does not let this generation go.
        let producer = self.producer.load();
        let Some(generation) = producer.as_ref().filter(|generation| !generation.is_retired()) else {
            return Err(SubmitError::Transient(TransientCause::ProducerReplaced));
        };
        let bytes = stored_bytes as u64 + MESSAGE_OVERHEAD_BYTES;
        if !budget.try_take(bytes, 1) {
            return Err(SubmitError::Transient(TransientCause::BudgetExhausted));
        }
        if !self.window.try_take(bytes, || (lane.load().1, self.pod.holders())) {
            budget.give_back(bytes, 1);
            return Err(SubmitError::Transient(TransientCause::BudgetExhausted));
        }
        if planted::finds_no_room() {
            self.window.give_back(bytes);
            budget.give_back(bytes, 1);
            return Err(SubmitError::Transient(TransientCause::QueueFull));
        }
        let taken = match self.room_to_gather(generation, stored_bytes) {
            // Only here, where nothing that has gathered can fail unseen, is it known whether the lane may go on.
            Some(gathered) => {
                lane.occupy(key, back, bytes).inspect(|ticket| generation.gather(gathered, record, *ticket))
            }
            None => lane.occupy(key, back, bytes).and_then(|ticket| {
                generation.produce(record, ticket).inspect_err(|_| lane.retract()).map(|()| ticket)
            }),
        };
        match taken {
            Ok(ticket) => {
                if planted::is(Bug::EarlyAck) {
                    self.answer_early(topic, ticket);
                }
                Ok(())
            }
            Err(cause) => {
                self.window.give_back(bytes);
                budget.give_back(bytes, 1);
                Err(SubmitError::Transient(cause))
            }
        }
    }

    fn answer_early(&self, topic: &Topic, ticket: Ticket) {
        let receipt = Receipt { topic: topic.name(), partition: 0, offset: None, timestamp_millis: 0 };
        let mut wake = Vec::new();
        let reported = self.lanes.complete([(ticket, Outcome::Persisted(receipt))].into_iter(), &mut wake);
        self.window.give_back(reported.bytes);
        wake.into_iter().for_each(Waker::wake);
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
    /// a report. Blocks, at most a few seconds longer than `patience`.
    #[must_use]
    pub fn end(self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        while self.store.lanes.due() > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let left = self.store.lanes.due();
        self.store.ending.store(true, Ordering::Release);
        self.reports.thread().unpark();
        self.store.look_now();
        let deadline = Instant::now() + END_PATIENCE;
        for thread in [self.reports, self.looks] {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                tracing::warn!(thread = thread.thread().name(), "a Kafka thread has not ended in time");
            } else if thread.join().is_err() {
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
        match (self.0.upgrade(), serde_json::from_slice(json)) {
            (Some(store), Ok(statistics)) => store.take_statistics(statistics),
            (_, Err(error)) => tracing::debug!(%error, "librdkafka's statistics cannot be read"),
            (None, Ok(_)) => {}
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

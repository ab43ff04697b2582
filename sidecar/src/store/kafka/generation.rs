//! One producer's life, and the report thread that lives through one after another.
//!
//! A producer that fails for good (KIP-98; librdkafka's "Fatal errors"), that no longer serves a partition
//! ([`progress`](super::progress)) or would not (a topic was made anew), or whose batches have become too large, is retired: it takes nothing more, and the
//! next one is made when its last report is there. So what a lane gave to the one is decided before the other takes
//! anything of the same lane, and order holds across producers.
//!
//! A batch that a broker refuses is fatal too (`enable.gapless.guarantee`): librdkafka would go on with the batches
//! behind it, and store what a connection sent after a message that is yet to be sent again (contract, rule 3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::linger::{Gathered, Linger, Turn};
use super::native::{Batch, Native, Reports};
use super::positions::{Positions, Standing};
use super::progress::Stall;
use super::{KafkaStore, Observer, StartError, Statistics, Topic, classify, settings};
use crate::planted::{self, Bug};
use crate::store::lane::Ticket;
use crate::store::record::Record;
use crate::store::{Outcome, Receipt, TransientCause};

/// How long a poll for reports waits; also how soon the thread sees that it should end.
const POLL: Duration = Duration::from_millis(100);
/// Events taken before connections are woken: enough to coalesce, few enough not to delay the first.
const EVENTS_PER_WAKE: usize = 64;
/// The pause before the next producer when one failed without having stored anything; doubled each time.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// One producer, from its making to its last report.
pub(super) struct Generation {
    native: Arc<Native<Observer>>,
    linger: Linger,
    batch_bytes: usize,
    /// Set once.
    retired: AtomicBool,
    /// It does not serve a partition. Set once, before it is retired.
    stalled: AtomicBool,
}

impl Generation {
    pub(super) fn native(&self) -> Arc<Native<Observer>> {
        Arc::clone(&self.native)
    }

    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Ends the taking of messages. Returns whether this call did.
    pub(super) fn retire(&self) -> bool {
        !self.retired.swap(true, Ordering::AcqRel)
    }

    /// Ends it because it does not serve a partition. Returns whether this call did.
    pub(super) fn give_up(&self) -> bool {
        self.stalled.store(true, Ordering::Release);
        self.retire()
    }

    fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    /// Hands a record to the producer.
    pub(super) fn produce(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), TransientCause> {
        self.native.produce(record, ticket).map_err(classify::cause_of)
    }

    /// Lets a record wait for others, to be handed over with them.
    pub(super) fn gather(&self, mut gathered: MutexGuard<'_, Gathered>, record: &Record<'_>, ticket: Ticket) {
        let tell = gathered.add(record, ticket);
        drop(gathered);
        if tell {
            self.native.end_poll();
        }
    }
}

/// What the report thread keeps between its rounds.
#[derive(Default)]
struct Rounds {
    reports: Reports,
    outcomes: Vec<(Ticket, Outcome)>,
    wake: Vec<Waker>,
    positions: Positions,
    /// The generation has stored something.
    fruitful: bool,
}

impl KafkaStore {
    pub(super) fn make_producer(self: &Arc<Self>, batch_bytes: usize) -> Result<Arc<Generation>, StartError> {
        let settings = settings::producer(&self.config, &self.references, batch_bytes)?;
        let names: Vec<_> = self.topics.iter().filter_map(Topic::c_name).collect();
        let native = Arc::new(Native::new(&settings, &names, Observer(Arc::downgrade(self)))?);
        let linger = Linger::new(Duration::from_millis(u64::from(self.config.kafka.linger_milliseconds)));
        let (retired, stalled) = Default::default();
        let generation = Arc::new(Generation { native, linger, batch_bytes, retired, stalled });
        self.progress.lock().begin();
        self.producers_made.fetch_add(1, Ordering::Relaxed);
        self.producer.store(Some(Arc::clone(&generation)));
        Ok(generation)
    }

    /// The report thread: generation after generation.
    pub(super) fn take_reports(self: &Arc<Self>, first: Arc<Generation>) {
        let mut rounds = Rounds::default();
        let mut generation = first;
        let mut pause = Duration::ZERO;
        loop {
            rounds.fruitful = false;
            let again = !pause.is_zero();
            self.take_reports_of(&generation, &mut rounds, again);
            self.producer.store(None);
            let failed = generation.native.fatal_error().is_some();
            drop(generation);
            pause = if !failed || rounds.fruitful {
                Duration::ZERO
            } else {
                (pause * 2).clamp(PAUSE, LONGEST_PAUSE)
            };
            generation = loop {
                if !self.wait(pause) {
                    return;
                }
                match self.make_producer(self.batch_bytes()) {
                    Ok(generation) => break generation,
                    Err(error) => tracing::error!(%error, "cannot make a new Kafka producer, trying again"),
                }
                pause = LONGEST_PAUSE.min(pause * 2).max(PAUSE);
            };
            if !again {
                tracing::info!("a new Kafka producer takes messages");
            }
        }
    }

    /// Waits that long. Returns false as soon as the store ends.
    fn wait(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            if self.ending.load(Ordering::Acquire) {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left);
        }
    }

    /// Takes reports until the generation is retired and its last report is there, or until the store ends.
    fn take_reports_of(&self, generation: &Arc<Generation>, rounds: &mut Rounds, again: bool) {
        let mut retired_since: Option<Instant> = None;
        let mut said = false;
        let mut reported = 0;
        loop {
            let mut events = 0;
            let mut timeout = self.attend(generation, reported);
            while events < EVENTS_PER_WAKE && generation.native.poll(timeout, &mut rounds.reports) {
                timeout = Duration::ZERO;
                events += 1;
            }
            // Before anybody hears of it, so that nobody who has finds this producer again.
            let fatal = generation.native.fatal_error();
            if let Some((error, reason)) = fatal.as_ref().filter(|_| !said) {
                said = true;
                generation.retire();
                self.health.failed_for_good(*error, reason, again);
            }
            reported = rounds.reports.messages.len();
            if reported > 0 {
                self.complete(rounds);
            }
            if self.ending.load(Ordering::Acquire) {
                return;
            }
            if !generation.is_retired() {
                continue;
            }
            let since = *retired_since.get_or_insert_with(|| {
                // Nobody finds it from here on; who has found it before still holds it.
                self.producer.store(None);
                Instant::now()
            });
            let held_by_nobody = Arc::strong_count(generation) == 1;
            if held_by_nobody {
                // Nothing gathers any more, and nothing may be handed over behind what is given up below.
                fence(Ordering::Acquire);
                self.hand_over(generation, &mut generation.linger.gathered());
            }
            if held_by_nobody && generation.native.outstanding() == 0 {
                return;
            }
            // What waits for a broker that does not answer has been answered as transient by then.
            let patience = Duration::from_secs(u64::from(self.config.delivery.ack_timeout_seconds));
            let too_long = since.elapsed() > patience;
            // After a fatal error librdkafka takes nothing more; else what is taken behind a purged message would be
            // stored before that is sent again.
            if fatal.is_some() || held_by_nobody && (too_long || generation.is_stalled()) {
                generation.native.purge(too_long);
            }
        }
    }

    /// Hands over what has gathered, if it is time to. Returns how long to wait for reports.
    fn attend(&self, generation: &Generation, reports: usize) -> Duration {
        match generation.linger.turn(reports, generation.is_retired()) {
            Turn::Wait => POLL,
            Turn::WaitFor(time) => time.min(POLL),
            Turn::HandOver(mut gathered) => {
                self.hand_over(generation, &mut gathered);
                drop(gathered);
                // The reports gather meanwhile.
                generation.native.send_now();
                Duration::ZERO
            }
        }
    }

    /// What has gathered, if a record of this size is to gather with it. If it finds no room there, all of it is handed
    /// over, and nothing gathers any more.
    pub(super) fn room_to_gather<'a>(
        &self,
        generation: &'a Generation,
        stored_bytes: usize,
    ) -> Option<MutexGuard<'a, Gathered>> {
        let mut gathered = generation.linger.join()?;
        if gathered.has_room_for(stored_bytes) {
            return Some(gathered);
        }
        self.hand_over(generation, &mut gathered);
        generation.linger.end(gathered);
        generation.native.end_poll();
        None
    }

    /// Hands what has gathered to the producer, in order. A record that it does not take is decided here, and with it
    /// what came behind it in its lane: before anybody else sees that the record has left (contract, rule 3).
    fn hand_over(&self, generation: &Generation, gathered: &mut Gathered) {
        let mut failed: Vec<(Ticket, Outcome)> = Vec::new();
        gathered.drain(|record, ticket| {
            let before = failed.iter().find(|(before, _)| before.shares_lane(ticket));
            let outcome = match before {
                Some((_, outcome)) => *outcome,
                None => match generation.produce(record, ticket) {
                    Ok(()) => return,
                    Err(cause) => Outcome::Transient(cause),
                },
            };
            failed.push((ticket, outcome));
        });
        if !failed.is_empty() {
            self.settle(&mut failed, &mut Vec::new(), None);
        }
    }

    /// Takes in the statistics of the producer, on the report thread.
    pub(super) fn take_statistics(&self, statistics: Statistics) {
        let stall = self.progress.lock().observe(&statistics, Instant::now());
        if let Some(Stall { topic, partition, messages }) = stall
            && let Some(generation) = self.producer.load().as_ref()
            && generation.give_up()
        {
            tracing::error!(
                topic,
                partition,
                messages,
                "the Kafka producer has no message of a partition confirmed although it need not wait for the leader; \
                 replacing it"
            );
        }
        *self.statistics.lock() = statistics;
    }

    fn complete(&self, rounds: &mut Rounds) {
        let Rounds { reports, outcomes, wake, positions, fruitful } = rounds;
        let mut messages = reports.messages.drain(..);
        let mut oldest: Option<Instant> = None;
        for batch in reports.batches.drain(..) {
            let of_batch = messages.by_ref().take(batch.len);
            match (self.topics.get(batch.topic), batch.error) {
                (Some(topic), None) => {
                    let success = self.weigh(topic, &batch, positions);
                    *fruitful |= success.is_ok();
                    oldest = Some(oldest.map_or(batch.produced, |oldest| oldest.min(batch.produced)));
                    outcomes.extend(of_batch.zip(0..).map(|(message, index)| {
                        let outcome = match success {
                            Ok(()) => Outcome::Persisted(Receipt {
                                topic: topic.name(),
                                partition: batch.partition,
                                offset: batch.base_offset.map(|base| base + index),
                                timestamp_millis: message.timestamp_millis,
                            }),
                            Err(cause) => Outcome::Transient(cause),
                        };
                        (message.ticket, outcome)
                    }));
                }
                (topic, error) => {
                    let error = error.unwrap_or(Code::Fail);
                    self.note_failure(topic, &batch, error);
                    outcomes.extend(of_batch.map(|message| {
                        let error = message.error.unwrap_or(error);
                        let outcome = match topic.filter(|_| planted::is(Bug::DroppedDeliveryError)) {
                            None => classify::outcome_of(error, message.named),
                            Some(topic) => Outcome::Persisted(Receipt {
                                topic: topic.name(),
                                partition: batch.partition,
                                offset: None,
                                timestamp_millis: message.timestamp_millis,
                            }),
                        };
                        (message.ticket, outcome)
                    }));
                }
            }
        }
        drop(messages);
        self.settle(outcomes, wake, oldest);
    }

    /// Takes outcomes to their lanes, gives back what the messages held, and wakes who waits. `oldest`: when the first of
    /// those that are stored was produced.
    fn settle(&self, outcomes: &mut Vec<(Ticket, Outcome)>, wake: &mut Vec<Waker>, oldest: Option<Instant>) {
        let reported = self.lanes.complete(outcomes.drain(..), wake);
        if let Some(oldest) = oldest {
            let now = Instant::now();
            self.window.learn(reported.persisted_bytes, now.saturating_duration_since(oldest), now);
        }
        self.window.give_back(reported.bytes);
        self.pod.announce();
        wake.drain(..).for_each(Waker::wake);
    }

    /// Whether a report of success is to be believed.
    fn weigh(&self, topic: &Topic, batch: &Batch, positions: &mut Positions) -> Result<(), TransientCause> {
        if !topic.is_checked() {
            positions.forget(batch.topic);
            return Err(TransientCause::TopicNotReady);
        }
        match positions.weigh(batch) {
            Standing::Sound => {
                topic.persisted();
                self.health.persisted(topic.name());
                Ok(())
            }
            Standing::Unknown => Err(TransientCause::BrokerError),
            Standing::Rewound => {
                positions.forget(batch.topic);
                if let Some(news) = topic.doubt() {
                    tracing::error!("{news}");
                }
                self.look_now();
                Err(TransientCause::TopicNotReady)
            }
        }
    }

    fn note_failure(&self, topic: Option<&Topic>, batch: &Batch, error: Code) {
        self.health.failed(error, topic.map(Topic::name), batch.len);
        if let Some(topic) = topic
            && !batch.named
            && classify::condemns_topic(error)
            && let Some(news) = topic.suspend(error)
        {
            tracing::warn!("{news}");
            self.look_now();
        }
    }
}

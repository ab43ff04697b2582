//! The floor P: a bare producer loop with our settings, and keys and headers as ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use penstock_crds::edge::EdgeConfig;
use penstock_sidecar::store::kafka::{BATCH_BYTES, producer_settings};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::measured::{Clock, Measured, Pace, Phase, Times};
use crate::payload::{self, Payloads};

/// Messages between two looks at the clock.
const BATCH: usize = 1_000;
/// Messages on the way at full speed. A few batches for each partition: with the whole queue full a message costs more
/// than twice as much, for its headers have long left the cache when they are freed. A floor is the cheapest way.
const DEPTH: u64 = 10_000;
/// How long the first and the last reports may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The grain of a paced run.
const TICK: Duration = Duration::from_millis(1);

/// What to produce.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The sidecar's configuration: the same settings, cluster and topic.
    #[arg(long)]
    config: PathBuf,
    /// Number of keys.
    #[arg(long)]
    keys: usize,
    /// CloudEvents headers as the sidecar writes them.
    #[arg(long)]
    headers: bool,
    /// Messages a second; as fast as the queue takes them if absent.
    #[arg(long)]
    rate: Option<u32>,
    #[command(flatten)]
    times: Times,
}

/// Counts reports, and notes latencies of a paced run.
struct Reports {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    delivered: u64,
    measuring: bool,
    latencies: Vec<u32>,
    error: Option<KafkaError>,
}

impl Reports {
    fn delivered(&self) -> u64 {
        self.inner.lock().delivered
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    /// When it was sent, in microseconds from the start.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: usize) {
        let mut inner = self.inner.lock();
        match result {
            Ok(_) => inner.delivered += 1,
            Err((error, _)) => inner.error = Some(error.clone()),
        }
        if inner.measuring {
            let now = self.started.elapsed().as_micros() as usize;
            inner.latencies.push((now - sent) as u32);
        }
    }
}

/// Produces until the time is over, and tells what the span was like.
///
/// # Panics
/// When a message is not delivered.
pub(crate) fn run(arguments: &Arguments) -> Measured {
    let text = fs::read(&arguments.config).expect("the sidecar's configuration");
    let config: EdgeConfig = serde_json::from_slice(&text).expect("the sidecar's configuration");
    let settings = producer_settings(&config, Path::new("."), BATCH_BYTES).expect("settings without secrets");
    let started = Instant::now();
    let context = Reports { started, inner: Mutex::default() };
    let producer: BaseProducer<Reports> = settings.create_with_context(context).expect("a producer");
    let mut source = Source::new(&config, arguments);
    source.meet_kafka(&producer);
    let mut clock = Clock::start(&arguments.times);
    let mut pace = arguments.rate.map(|rate| Pace::new(clock.started(), rate));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Latency is only true if reports are taken as they come. The crate's `poll` spins through the last
        // millisecond of its time, so it gets a thread and much time. At full speed the one thread is cheaper.
        if pace.is_some() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    producer.poll(Duration::from_millis(100));
                }
            });
        }
        let _stop = Stop(&over);
        while produce(&producer, &mut source, &mut clock, pace.as_mut()) != Phase::Over {}
    });
    producer.flush(PATIENCE).expect("the rest is delivered");
    let latencies = std::mem::take(&mut producer.context().inner.lock().latencies);
    clock.finish(latencies, 0)
}

/// Ends the thread that polls, also when the one that produces panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Produces what is due, or a batch where there is room for one.
fn produce(
    producer: &BaseProducer<Reports>,
    source: &mut Source,
    clock: &mut Clock,
    pace: Option<&mut Pace>,
) -> Phase {
    let now = Instant::now();
    let reports = producer.context();
    let phase = {
        let mut inner = reports.inner.lock();
        assert!(inner.error.is_none(), "not delivered: {:?}", inner.error);
        let phase = clock.phase(now, inner.delivered);
        inner.measuring = phase == Phase::Measuring && pace.is_some();
        phase
    };
    if let Some(pace) = pace {
        for _ in 0..pace.due(now) {
            let sent = pace.release(now) - reports.started;
            source.send(producer, sent.as_micros() as usize);
        }
        std::thread::park_timeout(TICK);
        return phase;
    }
    if source.count - reports.delivered() < DEPTH {
        for _ in 0..BATCH {
            source.send(producer, 0);
        }
    } else {
        std::thread::park_timeout(TICK / 4);
    }
    // A poll without waiting takes one event: all that are there are wanted.
    loop {
        let before = reports.delivered();
        producer.poll(Duration::ZERO);
        if reports.delivered() == before {
            return phase;
        }
    }
}

/// Messages in turn.
struct Source {
    topic: String,
    headers: bool,
    ce_source: String,
    keys: Vec<(String, String)>,
    payloads: Payloads,
    count: u64,
}

impl Source {
    fn new(config: &EdgeConfig, arguments: &Arguments) -> Self {
        Self {
            topic: config.topics[0].topic_name.clone(),
            headers: arguments.headers,
            ce_source: format!("/{}/{}/mqtt", config.pipeline.namespace, config.pipeline.name),
            keys: (0..arguments.keys).map(|number| (payload::key(number), payload::topic(number))).collect(),
            payloads: Payloads::new(payload::BYTES),
            count: 0,
        }
    }

    /// Has one message of each key delivered. A producer needs half a second to find its brokers and get its id, and
    /// what a paced run owes by then would be among its latencies.
    fn meet_kafka(&mut self, producer: &BaseProducer<Reports>) {
        for _ in 0..self.keys.len() {
            self.send(producer, 0);
        }
        producer.flush(PATIENCE).expect("Kafka takes the first messages");
    }

    /// Produces one message.
    fn send(&mut self, producer: &BaseProducer<Reports>, sent: usize) {
        self.count += 1;
        let (key, subject) = &self.keys[self.count as usize % self.keys.len()];
        let mut record = BaseRecord::with_opaque_to(&self.topic, sent)
            .key(key.as_str())
            .payload(self.payloads.next())
            .timestamp(penstock_sidecar::intake::unix_millis());
        if self.headers {
            let mut id = *b"019a0000-0000-7000-8000-000000000000";
            number(&mut id[24..], self.count);
            let headers = OwnedHeaders::new_with_capacity(5)
                .insert(Header { key: "ce_specversion", value: Some("1.0") })
                .insert(Header { key: "ce_id", value: Some(&id[..]) })
                .insert(Header { key: "ce_source", value: Some(self.ce_source.as_str()) })
                .insert(Header { key: "ce_type", value: Some("dev.penstock.message") })
                .insert(Header { key: "ce_subject", value: Some(subject.as_str()) });
            record = record.headers(headers);
        }
        // The queue fills where Kafka stands still for a while; in a paced run the delay counts, see `Pace::release`.
        while let Err((error, refused)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert!(error == full, "not taken: {error}");
            record = refused;
            std::thread::park_timeout(TICK);
        }
    }
}

/// Writes a number in hexadecimal: an id that is new each time and costs next to nothing to make.
fn number(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

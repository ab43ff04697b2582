//! The floor P: a bare producer loop with our settings, and keys and headers as ours.

use std::fs;
use std::path::{Path, PathBuf};
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

/// Messages between two looks at the clock and at the reports.
const BATCH: usize = 1_000;

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
    let mut clock = Clock::start(&arguments.times);
    let context = Reports { started: clock.started(), inner: Mutex::default() };
    let producer: BaseProducer<Reports> = settings.create_with_context(context).expect("a producer");
    let mut source = Source::new(&config, arguments);
    let mut pace = arguments.rate.map(|rate| Pace::new(clock.started(), rate));
    loop {
        let now = Instant::now();
        let phase = {
            let mut inner = producer.context().inner.lock();
            assert!(inner.error.is_none(), "not delivered: {:?}", inner.error);
            let phase = clock.phase(now, inner.delivered);
            inner.measuring = phase == Phase::Measuring && pace.is_some();
            phase
        };
        if phase == Phase::Over {
            break;
        }
        match &mut pace {
            Some(pace) => {
                for _ in 0..pace.due(now) {
                    let sent = pace.release(now);
                    source.send(&producer, (sent - clock.started()).as_micros() as usize);
                }
                producer.poll(Duration::from_millis(1));
            }
            None => {
                for _ in 0..BATCH {
                    source.send(&producer, 0);
                }
                producer.poll(Duration::ZERO);
            }
        }
    }
    producer.flush(Duration::from_secs(20)).expect("the rest is delivered");
    let latencies = std::mem::take(&mut producer.context().inner.lock().latencies);
    clock.finish(latencies, 0)
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
            payloads: Payloads::new(),
            count: 0,
        }
    }

    /// Produces one message, and waits for reports where the queue is full.
    fn send(&mut self, producer: &BaseProducer<Reports>, sent: usize) {
        self.count += 1;
        let (key, subject) = &self.keys[self.count as usize % self.keys.len()];
        let mut record = BaseRecord::with_opaque_to(&self.topic, sent)
            .key(key.as_str())
            .payload(&self.payloads.next()[..])
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
        while let Err((error, refused)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert!(error == full, "not taken: {error}");
            record = refused;
            producer.poll(Duration::from_millis(5));
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

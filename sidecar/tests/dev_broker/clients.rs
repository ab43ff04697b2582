//! A producer that notes what was acknowledged, and a consumer that reads everything back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

pub(crate) const TOPIC: &str = "telemetry";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: u64 = 40;
/// Messages that are sent before the first of them is acknowledged.
const AHEAD: u64 = 3_000;

/// Number of a message, to where it was stored according to its acknowledgement.
type Acknowledged = Arc<Mutex<HashMap<u64, (i32, i64)>>>;

#[derive(Default)]
struct Notes {
    acknowledged: Acknowledged,
    failed: Mutex<Vec<String>>,
}

impl ClientContext for Notes {}

impl ProducerContext for Notes {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let place = (message.partition(), message.offset());
                let twice = self.acknowledged.lock().unwrap().insert(*number, place);
                assert_eq!(twice, None, "one report per message");
            }
            Err((error, _)) => self.failed.lock().unwrap().push(format!("{number}: {error}")),
        }
    }
}

/// Sends numbered messages with our settings and keys and headers like ours; several devices, each in order.
pub(crate) struct Load {
    producer: BaseProducer<Notes>,
    sent: u64,
    payload_bytes: usize,
}

impl Load {
    pub(crate) fn new(address: SocketAddr, payload_bytes: usize) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", address.to_string())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "2")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "100")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "100")
            .set("batch.size", "100000")
            .set("partitioner", "murmur2_random")
            .set("allow.auto.create.topics", "false")
            .create_with_context(Notes::default())
            .unwrap();
        Self { producer, sent: 0, payload_bytes }
    }

    fn send_one(&mut self) {
        let number = self.sent;
        let key = key_of(number);
        let payload = format!("{number:0>width$}", width = self.payload_bytes);
        let id = number.to_string();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "ce_specversion", value: Some("1.0") })
            .insert(Header { key: "ce_id", value: Some(&id) });
        let mut record =
            BaseRecord::with_opaque_to(TOPIC, Box::new(number)).key(&key).payload(&payload).headers(headers);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    assert!(Instant::now() < deadline, "the queue stays full");
                    self.producer.poll(Duration::from_millis(10));
                    record = again;
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(100) {
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Sends messages until `count` more have been acknowledged.
    pub(crate) fn until_acknowledged(&mut self, count: usize) {
        let goal = self.acknowledged() + count;
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged() < goal {
            assert!(Instant::now() < deadline, "{} of {goal} acknowledged", self.acknowledged());
            if (self.sent - self.acknowledged() as u64) < AHEAD {
                self.send(100);
            }
            self.producer.poll(Duration::from_millis(1));
        }
    }

    pub(crate) fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.send_one();
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.producer.context().acknowledged.lock().unwrap().len()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes reports until nothing has been acknowledged for `quiet`.
    pub(crate) fn until_quiet(&self, quiet: Duration) {
        let (mut seen, mut since) = (self.acknowledged(), Instant::now());
        while since.elapsed() < quiet {
            self.producer.poll(Duration::from_millis(10));
            if self.acknowledged() != seen {
                (seen, since) = (self.acknowledged(), Instant::now());
            }
        }
    }

    /// Waits until every message is acknowledged.
    pub(crate) fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
        assert_eq!(*self.producer.context().failed.lock().unwrap(), Vec::<String>::new());
        assert_eq!(self.acknowledged() as u64, self.sent);
    }

    /// Reads the topic back: every acknowledged message is where its acknowledgement says, whole and with its headers,
    /// and each device's messages are there once and in order.
    pub(crate) fn assert_kept(&self, address: SocketAddr) {
        let acknowledged = self.producer.context().acknowledged.lock().unwrap().clone();
        let stored = read(address);
        let mut places = HashMap::new();
        let mut last_of_key: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen = HashSet::new();
        for record in &stored {
            let number: u64 = record.payload.parse().unwrap();
            assert_eq!(record.payload.len(), self.payload_bytes);
            assert_eq!(
                (record.key.as_str(), record.id.as_str()),
                (key_of(number).as_str(), number.to_string().as_str())
            );
            assert!(seen.insert(number), "{number} is stored twice");
            places.insert(number, (record.partition, record.offset));
            if let Some(before) = last_of_key.insert(record.key.clone(), number) {
                assert!(before < number, "device {}: {before} is stored before {number}", record.key);
            }
        }
        for (number, (partition, offset)) in acknowledged {
            let place = places.get(&number);
            assert!(place.is_some(), "message {number} was acknowledged and is not there");
            // -1: acknowledged as a repeat of a batch that is older than the broker remembers.
            assert!(
                offset == -1 || place == Some(&(partition, offset)),
                "{number}: {place:?} is not {offset}"
            );
        }
    }
}

fn key_of(number: u64) -> String {
    format!("device-{}", number % KEYS)
}

struct Stored {
    partition: i32,
    offset: i64,
    key: String,
    payload: String,
    id: String,
}

/// The topic, by partition and offset; offsets are without gaps.
fn read(address: SocketAddr) -> Vec<Stored> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address.to_string())
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let mut left = HashMap::new();
    let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE).unwrap();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition.id(), PATIENCE).unwrap();
        assert_eq!(low, 0);
        if high > 0 {
            list.add_partition_offset(TOPIC, partition.id(), Offset::Beginning).unwrap();
            left.insert(partition.id(), high);
        }
    }
    consumer.assign(&list).unwrap();
    let mut next: HashMap<i32, i64> = HashMap::new();
    let mut stored = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "not read to the end: {left:?}, at {next:?}");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let expected = next.entry(message.partition()).or_default();
        assert_eq!(message.offset(), *expected, "offsets without gaps");
        *expected += 1;
        if left.get(&message.partition()) == Some(expected) {
            left.remove(&message.partition());
        }
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        stored.push(Stored {
            partition: message.partition(),
            offset: message.offset(),
            key: text(message.key()),
            payload: text(message.payload()),
            id: text(message.headers().unwrap().get(1).value),
        });
    }
    stored.sort_by_key(|record| (record.partition, record.offset));
    stored
}

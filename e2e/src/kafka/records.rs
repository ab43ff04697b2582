//! Reading a topic back, from its beginning to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::Kafka;

const PATIENCE: Duration = Duration::from_secs(60);

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub payload: Vec<u8>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Record timestamp, Unix milliseconds.
    pub timestamp: i64,
}

impl Record {
    /// The first header of this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The key as text.
    pub fn key(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The value as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap_or("(not text)")
    }
}

impl Kafka {
    /// Every record of a topic, partition by partition in the order of offsets.
    #[track_caller]
    pub fn read(&self, topic: &str) -> Vec<Record> {
        self.site.place.inside(|| read(self.admin_bootstrap(), topic))
    }

    /// How many records are in a topic, or were.
    #[track_caller]
    pub fn appended(&self, topic: &str) -> i64 {
        let ends = self
            .site
            .place
            .inside(|| ends(&consumer(self.admin_bootstrap()), topic, Instant::now() + PATIENCE));
        ends.into_iter().map(|(_, _, high)| high).sum()
    }
}

/// Every record of a topic of the cluster at `bootstrap`, by partition and offset.
#[track_caller]
pub fn read(bootstrap: &str, topic: &str) -> Vec<Record> {
    let deadline = Instant::now() + PATIENCE;
    let consumer = consumer(bootstrap);
    let ends = ends(&consumer, topic, deadline);
    let mut list = TopicPartitionList::new();
    for &(partition, low, high) in &ends {
        if low < high {
            list.add_partition_offset(topic, partition, Offset::Offset(low)).expect("a valid offset");
        }
    }
    let mut missing = list.count();
    let mut records = Vec::new();
    let name: Arc<str> = topic.into();
    consumer.assign(&list).expect("an assignment");
    while missing > 0 {
        assert!(
            Instant::now() < deadline,
            "{topic}: {missing} partitions not read to their end in {PATIENCE:?}"
        );
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let record = record(&name, &message);
            let end = ends.iter().find(|(partition, ..)| *partition == record.partition);
            let &(_, _, high) = end.expect("a partition that was assigned");
            if record.offset + 1 == high {
                missing -= 1;
            }
            if record.offset < high {
                records.push(record);
            }
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "penstock-e2e-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .set("allow.auto.create.topics", "false")
        .set("fetch.wait.max.ms", "50")
        .set("reconnect.backoff.max.ms", "250")
        .create()
        .expect("a consumer")
}

/// [`end_offsets`], once Kafka answers.
#[track_caller]
fn ends(consumer: &BaseConsumer, topic: &str, deadline: Instant) -> Vec<(i32, i64, i64)> {
    loop {
        match end_offsets(consumer, topic) {
            Ok(ends) => return ends,
            Err(error) => assert!(Instant::now() < deadline, "cannot find the ends of {topic}: {error}"),
        }
    }
}

/// Partition, first offset, end offset.
fn end_offsets(consumer: &BaseConsumer, topic: &str) -> rdkafka::error::KafkaResult<Vec<(i32, i64, i64)>> {
    const REQUEST: Duration = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
    let mut ends = Vec::new();
    for found in metadata.topics() {
        for partition in found.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), REQUEST)?;
            ends.push((partition.id(), low, high));
        }
    }
    if ends.is_empty() {
        return Err(rdkafka::error::KafkaError::MetadataFetch(
            rdkafka::types::RDKafkaErrorCode::UnknownTopic,
        ));
    }
    Ok(ends)
}

fn record(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    Record {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
        timestamp: message.timestamp().to_millis().unwrap_or_default(),
    }
}

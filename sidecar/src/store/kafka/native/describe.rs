//! Asking the brokers about the topics of this producer.

use std::ffi::CString;
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer;

use super::super::admin::{Admin, ConfigDescription, TopicDescription, code, millis_until, slice, text};
use super::{Native, Observer};

/// What the brokers say of all topics, and which of them said it.
#[derive(Debug)]
pub(in super::super) struct Descriptions {
    pub(in super::super) topics: Vec<TopicDescription>,
    /// A broker that answers; absent when the metadata name none.
    broker: Option<i32>,
}

impl<O: Observer> Native<O> {
    /// Asks the brokers about the topics. Blocks up to `timeout`, plus the time that a lost answer takes.
    ///
    /// Plain metadata are what every broker answers, so they decide. Topic ids and rights are added where the broker
    /// has them; librdkafka would ask the controller, which may be unknown while brokers are well, so the broker that
    /// has just answered is asked.
    pub(in super::super) fn describe_topics(
        &self,
        names: &[CString],
        timeout: Duration,
    ) -> Result<Descriptions, RDKafkaErrorCode> {
        let deadline = Instant::now() + timeout;
        let mut described = Descriptions { topics: Vec::with_capacity(names.len()), broker: None };
        for topic in &self.topics {
            self.metadata(*topic, deadline, &mut described)?;
        }
        let details = self.admin(described.broker).describe_topics(names, deadline).unwrap_or_default();
        for topic in &mut described.topics {
            let details = details.iter().find(|details| details.name == topic.name);
            if let Some(details) = details.filter(|details| details.error.is_none()) {
                topic.id.clone_from(&details.id);
                topic.may_write = details.may_write;
            }
        }
        Ok(described)
    }

    /// Asks the same broker for the configuration of topics. Blocks up to `timeout`.
    pub(in super::super) fn describe_configs(
        &self,
        names: &[CString],
        described: &Descriptions,
        timeout: Duration,
    ) -> Result<Vec<ConfigDescription>, RDKafkaErrorCode> {
        self.admin(described.broker).describe_configs(names, Instant::now() + timeout)
    }

    fn admin(&self, broker: Option<i32>) -> Admin<'_> {
        Admin::of(self.producer.client()).at(broker)
    }

    /// Adds what the metadata say of one topic.
    fn metadata(
        &self,
        topic: *mut sys::rd_kafka_topic_t,
        deadline: Instant,
        described: &mut Descriptions,
    ) -> Result<(), RDKafkaErrorCode> {
        let mut metadata = ptr::null();
        // SAFETY: client and handle are alive; the answer is read and destroyed here. The topic is always named: for
        // "all local topics" librdkafka 2.12 asks with allow_auto_topic_creation, whatever its configuration says
        // (rd_kafka_metadata in rdkafka_metadata.c), and would bring a deleted topic back.
        unsafe {
            let error =
                sys::rd_kafka_metadata(self.client(), 0, topic, &mut metadata, millis_until(deadline));
            if let Some(error) = code(error) {
                return Err(error);
            }
            let answer = &*metadata;
            let brokers = slice(answer.brokers, usize::try_from(answer.broker_cnt).unwrap_or(0));
            let answered = brokers.iter().find(|broker| broker.id == answer.orig_broker_id);
            if let Some(broker) = answered.or(brokers.first()) {
                described.broker = Some(broker.id);
            }
            let topics = slice(answer.topics, usize::try_from(answer.topic_cnt).unwrap_or(0));
            described.topics.extend(topics.iter().map(|topic| read(topic)));
            sys::rd_kafka_metadata_destroy(metadata);
        }
        Ok(())
    }
}

/// # Safety
/// `topic` must be a live part of the metadata.
unsafe fn read(topic: &sys::rd_kafka_metadata_topic) -> TopicDescription {
    // SAFETY: the caller's promise holds for all parts of the topic.
    unsafe {
        let partitions = slice(topic.partitions, usize::try_from(topic.partition_cnt).unwrap_or(0));
        TopicDescription {
            name: text(topic.topic).into_owned(),
            error: code(topic.err),
            id: None,
            partitions: topic.partition_cnt,
            replication_factor: partitions.iter().map(|partition| partition.replica_cnt).min().unwrap_or(0),
            may_write: None,
        }
    }
}

//! Asking the brokers about topics and their configuration.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;

use super::{Native, Observer, code, text};

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct TopicDescription {
    pub(in super::super) name: String,
    pub(in super::super) error: Option<RDKafkaErrorCode>,
    /// KIP-516, in base 64; absent from brokers without topic ids.
    pub(in super::super) id: Option<String>,
    pub(in super::super) partitions: i32,
    /// The smallest number of replicas of a partition.
    pub(in super::super) replication_factor: i32,
    /// Whether we may write to it; absent when the broker does not say (KIP-430).
    pub(in super::super) may_write: Option<bool>,
}

/// A topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ConfigDescription {
    pub(in super::super) name: String,
    pub(in super::super) entries: Result<Vec<(String, String)>, RDKafkaErrorCode>,
}

/// What the brokers say of all topics, and which of them said it.
#[derive(Debug)]
pub(in super::super) struct Descriptions {
    pub(in super::super) topics: Vec<TopicDescription>,
    /// A broker that answers; absent when the metadata name none.
    broker: Option<i32>,
}

/// What only the admin API tells of a topic.
struct Details {
    name: String,
    id: Option<String>,
    may_write: Option<bool>,
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
        let details = self.details(names, deadline, described.broker).unwrap_or_default();
        for topic in &mut described.topics {
            if let Some(details) = details.iter().find(|details| details.name == topic.name) {
                topic.id.clone_from(&details.id);
                topic.may_write = details.may_write;
            }
        }
        Ok(described)
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
            described.topics.extend(topics.iter().map(|topic| TopicDescription::read(topic)));
            sys::rd_kafka_metadata_destroy(metadata);
        }
        Ok(())
    }

    fn details(
        &self,
        names: &[CString],
        deadline: Instant,
        broker: Option<i32>,
    ) -> Result<Vec<Details>, RDKafkaErrorCode> {
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the collection copies the names; it, the options and the event are destroyed here; the result and
        // its parts are read before the event is destroyed.
        unsafe {
            let collection =
                sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                deadline,
                broker,
                |options, queue| {
                    let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                    if !refused.is_null() {
                        sys::rd_kafka_error_destroy(refused);
                    }
                    sys::rd_kafka_DescribeTopics(self.client(), collection, options, queue);
                },
                |event| {
                    let result = sys::rd_kafka_event_DescribeTopics_result(event);
                    let mut count = 0;
                    let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                    slice(topics, count).iter().map(|topic| Details::read(*topic)).collect()
                },
            );
            sys::rd_kafka_TopicCollection_destroy(collection);
            answer
        }
    }

    /// Asks a broker for the configuration of topics: for each either its entries or the error. Blocks up to
    /// `timeout`.
    pub(in super::super) fn describe_configs(
        &self,
        names: &[CString],
        described: &Descriptions,
        timeout: Duration,
    ) -> Result<Vec<ConfigDescription>, RDKafkaErrorCode> {
        // SAFETY: the resources copy the names; they, the options and the event are destroyed here; the result and
        // its parts are read before the event is destroyed.
        unsafe {
            let mut resources: Vec<_> = names
                .iter()
                .map(|name| {
                    sys::rd_kafka_ConfigResource_new(
                        sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                        name.as_ptr(),
                    )
                })
                .collect();
            let (list, count) = (resources.as_mut_ptr(), resources.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
                Instant::now() + timeout,
                described.broker,
                |options, queue| sys::rd_kafka_DescribeConfigs(self.client(), list, count, options, queue),
                |event| {
                    let result = sys::rd_kafka_event_DescribeConfigs_result(event);
                    let mut count = 0;
                    let answers = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
                    slice(answers, count).iter().map(|resource| ConfigDescription::read(*resource)).collect()
                },
            );
            sys::rd_kafka_ConfigResource_destroy_array(list, count);
            answer
        }
    }

    /// # Safety
    /// `request` must start an operation of the kind `operation` that answers on the queue it is given; `read` must
    /// return nothing that borrows from the event.
    unsafe fn ask<T>(
        &self,
        operation: sys::rd_kafka_admin_op_t,
        deadline: Instant,
        broker: Option<i32>,
        request: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
        read: impl FnOnce(*mut sys::rd_kafka_event_t) -> T,
    ) -> Result<T, RDKafkaErrorCode> {
        let millis = millis_until(deadline);
        // SAFETY: queue, options and event are made and destroyed here. A late answer goes to a queue that librdkafka
        // keeps until then. A setting that librdkafka refuses is left at its default.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.client());
            let options = sys::rd_kafka_AdminOptions_new(self.client(), operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
            if let Some(broker) = broker {
                sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            }
            request(options, queue);
            let event = sys::rd_kafka_queue_poll(queue, millis);
            let answer = if event.is_null() {
                Err(RDKafkaErrorCode::OperationTimedOut)
            } else {
                let answer = match code(sys::rd_kafka_event_error(event)) {
                    None => Ok(read(event)),
                    Some(error) => Err(error),
                };
                sys::rd_kafka_event_destroy(event);
                answer
            };
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_queue_destroy(queue);
            answer
        }
    }
}

impl TopicDescription {
    /// # Safety
    /// `topic` must be a live part of the metadata.
    unsafe fn read(topic: &sys::rd_kafka_metadata_topic) -> Self {
        // SAFETY: the caller's promise holds for all parts of the topic.
        unsafe {
            let partitions = slice(topic.partitions, usize::try_from(topic.partition_cnt).unwrap_or(0));
            Self {
                name: text(topic.topic).into_owned(),
                error: code(topic.err),
                id: None,
                partitions: topic.partition_cnt,
                replication_factor: partitions
                    .iter()
                    .map(|partition| partition.replica_cnt)
                    .min()
                    .unwrap_or(0),
                may_write: None,
            }
        }
    }
}

impl Details {
    /// # Safety
    /// `topic` must be a live part of an event.
    unsafe fn read(topic: *const sys::rd_kafka_TopicDescription_t) -> Self {
        // SAFETY: the caller's promise holds for all parts of the description.
        unsafe {
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let mut count = 0;
            let operations = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut count);
            let operations = slice(operations, count);
            // Who may describe a topic may do something with it: nothing at all means that the broker does not say.
            let may_write = (!operations.is_empty()).then(|| {
                operations.iter().any(|operation| {
                    use sys::rd_kafka_AclOperation_t::{
                        RD_KAFKA_ACL_OPERATION_ALL, RD_KAFKA_ACL_OPERATION_WRITE,
                    };
                    matches!(operation, RD_KAFKA_ACL_OPERATION_ALL | RD_KAFKA_ACL_OPERATION_WRITE)
                })
            });
            Self {
                name: text(sys::rd_kafka_TopicDescription_name(topic)).into_owned(),
                id: (!id.is_null())
                    .then(|| text(sys::rd_kafka_Uuid_base64str(id)).into_owned())
                    .filter(|id| id.bytes().any(|byte| byte != b'A')),
                may_write,
            }
        }
    }
}

impl ConfigDescription {
    /// # Safety
    /// `resource` must be a live part of an event.
    unsafe fn read(resource: *const sys::rd_kafka_ConfigResource_t) -> Self {
        // SAFETY: the caller's promise holds for all parts of the resource.
        unsafe {
            let entries = match code(sys::rd_kafka_ConfigResource_error(resource)) {
                Some(error) => Err(error),
                None => {
                    let mut count = 0;
                    let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
                    Ok(slice(entries, count)
                        .iter()
                        .map(|entry| {
                            let name = text(sys::rd_kafka_ConfigEntry_name(*entry)).into_owned();
                            (name, text(sys::rd_kafka_ConfigEntry_value(*entry)).into_owned())
                        })
                        .collect())
                }
            };
            Self { name: text(sys::rd_kafka_ConfigResource_name(resource)).into_owned(), entries }
        }
    }
}

/// Milliseconds left, at least one: librdkafka takes 0 for "do not wait" and a negative number for "for ever".
fn millis_until(deadline: Instant) -> c_int {
    let left = deadline.saturating_duration_since(Instant::now());
    c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX).max(1)
}

/// # Safety
/// `pointer` must be null or point at `count` elements that outlive the answer.
unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

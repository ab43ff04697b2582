//! The calls into librdkafka that the `rdkafka` crate does not offer in the shape we need: producing with a topic
//! handle instead of a name looked up per message, taking delivery reports a batch at a time so that connections are
//! woken once per batch, and describing topics with their ids (KIP-516).
//!
//! This is the one module of the data path with `unsafe` code; every function wraps one librdkafka object or call and
//! states why it is sound. librdkafka handles are thread-safe (its INTRODUCTION.md, "Threads and callbacks").
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, Producer, ProducerContext};

use crate::store::lane::Ticket;
use crate::store::record::Record;

/// A delivery report.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) ticket: Ticket,
    pub(super) error: Option<RDKafkaErrorCode>,
    /// Index of the topic among those the handle was made with.
    pub(super) topic: usize,
    pub(super) partition: i32,
    pub(super) offset: Option<i64>,
}

/// What a client's callbacks are told; all of it on the polling thread.
pub(super) trait Observer: Send + Sync + 'static {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str);
    fn statistics(&self, json: &[u8]);
    fn error(&self, code: RDKafkaErrorCode, message: &str);
}

struct Context<O>(O);

impl<O: Observer> ClientContext for Context<O> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }
}

impl<O: Observer> ProducerContext for Context<O> {
    type DeliveryOpaque = usize;

    /// Reached only when the producer is dropped: our own loop takes all reports before that, and a message that is
    /// purged then belongs to nobody.
    fn delivery(&self, _: &DeliveryResult<'_>, _: usize) {}
}

/// A producer and its topic handles.
pub(super) struct Native<O: Observer> {
    producer: BaseProducer<Context<O>, NoCustomPartitioner>,
    queue: *mut sys::rd_kafka_queue_t,
    topics: Vec<*mut sys::rd_kafka_topic_t>,
}

// SAFETY: the pointers are librdkafka handles, which may be used from any thread.
unsafe impl<O: Observer> Send for Native<O> {}
// SAFETY: as above; all methods take `&self` and librdkafka locks inside.
unsafe impl<O: Observer> Sync for Native<O> {}

impl<O: Observer> Native<O> {
    pub(super) fn new(config: &ClientConfig, topics: &[CString], observer: O) -> KafkaResult<Self> {
        let producer = BaseProducer::from_config_and_context(config, Context(observer))?;
        let client = producer.client().native_ptr();
        // SAFETY: `client` lives as long as `producer`; a null configuration means the client's defaults.
        let handles: Vec<_> = topics
            .iter()
            .map(|name| unsafe { sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) })
            .collect();
        // SAFETY: as above.
        let queue = unsafe { sys::rd_kafka_queue_get_main(client) };
        let native = Self { producer, queue, topics: handles };
        if native.topics.iter().any(|handle| handle.is_null()) {
            return Err(KafkaError::ClientCreation("a topic name is not valid".to_owned()));
        }
        Ok(native)
    }

    fn client(&self) -> *mut sys::rd_kafka_t {
        self.producer.client().native_ptr()
    }

    /// Hands a copy of a record to the producer. Never blocks.
    pub(super) fn produce(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), RDKafkaErrorCode> {
        let topic = *self.topics.get(record.topic).ok_or(RDKafkaErrorCode::UnknownTopic)?;
        let (key, key_len) = record.key.map_or((ptr::null(), 0), |key| (key.as_ptr(), key.len()));
        // SAFETY: the list is ours until `rd_kafka_producev` succeeds, and is destroyed if it does not. Names and
        // values are copied by `rd_kafka_header_add`, key and value by RD_KAFKA_MSG_F_COPY. The argument types are
        // those that rd_kafka_producev documents for each tag.
        unsafe {
            let headers = sys::rd_kafka_headers_new(record.headers.len());
            for (name, value) in record.headers.iter() {
                sys::rd_kafka_header_add(
                    headers,
                    name.as_ptr().cast::<c_char>(),
                    name.len().cast_signed(),
                    value.as_ptr().cast::<c_void>(),
                    value.len().cast_signed(),
                );
            }
            let error = sys::rd_kafka_producev(
                self.client(),
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                topic,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY as c_int,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                record.payload.as_ptr().cast::<c_void>(),
                record.payload.len(),
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key.cast::<c_void>(),
                key_len,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
                ticket.to_bits() as usize as *mut c_void,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_millis,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            );
            match code(error) {
                None => Ok(()),
                Some(error) => {
                    sys::rd_kafka_headers_destroy(headers);
                    Err(error)
                }
            }
        }
    }

    /// Waits up to `timeout` for an event and hands on its reports. Returns false when there was none.
    pub(super) fn poll(&self, timeout: Duration, reports: &mut Vec<Report>) -> bool {
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue lives until drop. The event is destroyed below; nothing borrowed from it leaves.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, millis);
            if event.is_null() {
                return false;
            }
            self.dispatch(event, reports);
            sys::rd_kafka_event_destroy(event);
        }
        true
    }

    /// # Safety
    /// `event` must be a live event of this client.
    unsafe fn dispatch(&self, event: *mut sys::rd_kafka_event_t, reports: &mut Vec<Report>) {
        let observer = &self.producer.context().0;
        // SAFETY: each accessor is called on an event of the type it is for; strings live as long as the event.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_DR => loop {
                    let message = sys::rd_kafka_event_message_next(event);
                    if message.is_null() {
                        break;
                    }
                    reports.push(self.report(&*message));
                },
                sys::RD_KAFKA_EVENT_STATS => {
                    observer.statistics(CStr::from_ptr(sys::rd_kafka_event_stats(event)).to_bytes());
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    if let Some(error) = code(sys::rd_kafka_event_error(event)) {
                        observer.error(error, &text(sys::rd_kafka_event_error_string(event)));
                    }
                }
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
                    if sys::rd_kafka_event_log(event, &mut facility, &mut message, &mut level) == 0 {
                        observer.log(log_level(level), &text(facility), &text(message));
                    }
                }
                _ => {}
            }
        }
    }

    fn report(&self, message: &sys::rd_kafka_message_t) -> Report {
        Report {
            ticket: Ticket::from_bits(message._private as usize as u64),
            error: code(message.err),
            topic: self.topics.iter().position(|handle| *handle == message.rkt).unwrap_or(usize::MAX),
            partition: message.partition,
            offset: (message.offset >= 0).then_some(message.offset),
        }
    }

    /// Messages handed over whose report has not been taken yet.
    pub(super) fn outstanding(&self) -> usize {
        // SAFETY: the client is alive.
        usize::try_from(unsafe { sys::rd_kafka_outq_len(self.client()) }).unwrap_or(0)
    }

    /// The fatal error that ended this producer, if one did (KIP-98; librdkafka's "Fatal errors").
    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.producer.client().fatal_error()
    }

    /// Makes a fatal error, for tests.
    #[cfg(test)]
    pub(super) fn fail_fatally(&self) {
        // SAFETY: the client is alive and the reason is a literal.
        unsafe {
            sys::rd_kafka_test_fatal_error(
                self.client(),
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                c"made by a test".as_ptr(),
            );
        }
    }

    /// Asks the brokers about topics. Blocks up to `timeout`.
    pub(super) fn describe_topics(
        &self,
        names: &[CString],
        timeout: Duration,
    ) -> Result<Vec<TopicDescription>, RDKafkaErrorCode> {
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the collection copies the names; it, the options and the event are destroyed here; the result and
        // its parts are read before the event is destroyed.
        unsafe {
            let collection =
                sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                timeout,
                |options, queue| sys::rd_kafka_DescribeTopics(self.client(), collection, options, queue),
                |event| {
                    let result = sys::rd_kafka_event_DescribeTopics_result(event);
                    let mut count = 0;
                    let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                    slice(topics, count).iter().map(|topic| TopicDescription::read(*topic)).collect()
                },
            );
            sys::rd_kafka_TopicCollection_destroy(collection);
            answer
        }
    }

    /// Asks the brokers for the configuration of topics: for each either its entries or the error. Blocks up to
    /// `timeout`.
    pub(super) fn describe_configs(
        &self,
        names: &[CString],
        timeout: Duration,
    ) -> Result<Vec<ConfigDescription>, RDKafkaErrorCode> {
        // SAFETY: as in `describe_topics`.
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
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
                timeout,
                |options, queue| {
                    sys::rd_kafka_DescribeConfigs(
                        self.client(),
                        resources.as_mut_ptr(),
                        resources.len(),
                        options,
                        queue,
                    );
                },
                |event| {
                    let result = sys::rd_kafka_event_DescribeConfigs_result(event);
                    let mut count = 0;
                    let answers = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
                    slice(answers, count).iter().map(|resource| ConfigDescription::read(*resource)).collect()
                },
            );
            sys::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
            answer
        }
    }

    /// # Safety
    /// `request` must start an operation of the kind `operation` that answers on the queue it is given; `read` must
    /// return nothing that borrows from the event.
    unsafe fn ask<T>(
        &self,
        operation: sys::rd_kafka_admin_op_t,
        timeout: Duration,
        request: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
        read: impl FnOnce(*mut sys::rd_kafka_event_t) -> T,
    ) -> Result<T, RDKafkaErrorCode> {
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: queue, options and event are made and destroyed here. A late answer goes to a queue that librdkafka
        // keeps until then.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.client());
            let options = sys::rd_kafka_AdminOptions_new(self.client(), operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
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

impl<O: Observer> Drop for Native<O> {
    fn drop(&mut self) {
        // SAFETY: each handle was made in `new` and is used no more; the client goes after this, with `producer`.
        unsafe {
            for topic in &self.topics {
                if !topic.is_null() {
                    sys::rd_kafka_topic_destroy(*topic);
                }
            }
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicDescription {
    pub(super) name: String,
    pub(super) error: Option<RDKafkaErrorCode>,
    /// KIP-516, in base 64; absent from brokers without topic ids.
    pub(super) id: Option<String>,
    pub(super) partitions: i32,
    /// The smallest number of replicas of a partition.
    pub(super) replication_factor: i32,
}

impl TopicDescription {
    /// # Safety
    /// `topic` must be a live part of an event.
    unsafe fn read(topic: *const sys::rd_kafka_TopicDescription_t) -> Self {
        // SAFETY: the caller's promise holds for all parts of the description.
        unsafe {
            let error = sys::rd_kafka_TopicDescription_error(topic);
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let mut count = 0;
            let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
            let replication_factor = slice(partitions, count)
                .iter()
                .map(|partition| {
                    let mut replicas = 0;
                    sys::rd_kafka_TopicPartitionInfo_replicas(*partition, &mut replicas);
                    i32::try_from(replicas).unwrap_or(i32::MAX)
                })
                .min()
                .unwrap_or(0);
            Self {
                name: text(sys::rd_kafka_TopicDescription_name(topic)).into_owned(),
                error: if error.is_null() { None } else { code(sys::rd_kafka_error_code(error)) },
                id: (!id.is_null())
                    .then(|| text(sys::rd_kafka_Uuid_base64str(id)).into_owned())
                    .filter(|id| id.bytes().any(|byte| byte != b'A')),
                partitions: i32::try_from(count).unwrap_or(i32::MAX),
                replication_factor,
            }
        }
    }
}

/// A topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigDescription {
    pub(super) name: String,
    pub(super) entries: Result<Vec<(String, String)>, RDKafkaErrorCode>,
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

fn code(error: sys::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    match error {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
        error => Some(error.into()),
    }
}

/// # Safety
/// `pointer` must be null or a string that outlives the answer.
unsafe fn text<'a>(pointer: *const c_char) -> std::borrow::Cow<'a, str> {
    if pointer.is_null() {
        return std::borrow::Cow::Borrowed("");
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy()
}

/// # Safety
/// `pointer` must be null or point at `count` elements that outlive the answer.
unsafe fn slice<'a, T>(pointer: *mut T, count: usize) -> &'a [T] {
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

fn log_level(level: c_int) -> RDKafkaLogLevel {
    match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

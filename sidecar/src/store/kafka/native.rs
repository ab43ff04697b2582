//! The calls into librdkafka that the `rdkafka` crate does not offer in the shape we need: producing with a topic
//! handle instead of a name looked up per message, and taking delivery reports a batch at a time so that connections are
//! woken once per batch.
//!
//! With `admin` beside it, this is the one module of the data path with `unsafe` code; every function wraps one
//! librdkafka object or call and states why it is sound. librdkafka handles are thread-safe (its INTRODUCTION.md,
//! "Threads and callbacks").
#![allow(unsafe_code)]

mod describe;
mod named;
mod reports;
mod tokens;

pub(super) use describe::Descriptions;
pub(super) use reports::{Batch, Reports};

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, Producer, ProducerContext};

use self::tokens::Tokens;
use super::admin::{code, text};
use crate::store::lane::Ticket;
use crate::store::record::Record;

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
    tokens: Tokens,
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
        let native = Self { producer, queue, topics: handles, tokens: Tokens::default() };
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

    /// Waits up to `timeout`, in whole milliseconds, for an event and hands on its reports. Returns false when there was
    /// none, and when it was [told](Self::end_poll) to.
    pub(super) fn poll(&self, timeout: Duration, reports: &mut Reports) -> bool {
        let millis = c_int::try_from(timeout.as_micros().div_ceil(1_000)).unwrap_or(c_int::MAX);
        // SAFETY: client and queue live until drop. The event is destroyed below; nothing borrowed from it leaves.
        unsafe {
            self.tokens.hand_over(self.client());
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
    unsafe fn dispatch(&self, event: *mut sys::rd_kafka_event_t, reports: &mut Reports) {
        let observer = &self.producer.context().0;
        // SAFETY: each accessor is called on an event of the type it is for; strings live as long as the event.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_DR => reports.take(event, &self.topics),
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
                sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => {
                    self.tokens.fetch(text(sys::rd_kafka_event_config_string(event)).into_owned());
                }
                _ => {}
            }
        }
    }

    /// Ends a wait for events, or the next one.
    pub(super) fn end_poll(&self) {
        // SAFETY: the queue lives until drop.
        unsafe { sys::rd_kafka_queue_yield(self.queue) }
    }

    /// Has librdkafka send what it holds, whatever the linger, and waits a millisecond: it does so as long as somebody
    /// waits for it to be done, and does not look more often.
    pub(super) fn send_now(&self) {
        // SAFETY: the client is alive. That not all is confirmed within the time is no error here.
        unsafe {
            sys::rd_kafka_flush(self.client(), 1);
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

    /// Gives up messages that wait to be sent, and those on their way too if `in_flight`; their reports say so. After a
    /// fatal error librdkafka does the first once, but a request that fails later puts its messages back into the
    /// queue, where nobody would look for them again.
    pub(super) fn purge(&self, in_flight: bool) {
        let mut flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
        if in_flight {
            flags |= sys::RD_KAFKA_PURGE_F_INFLIGHT;
        }
        // SAFETY: the client is alive. The only error is that of flags that are not known.
        unsafe {
            sys::rd_kafka_purge(self.client(), flags);
        }
    }

    /// Ends the sending of messages to a partition, for tests. librdkafka takes them all the same.
    #[cfg(test)]
    pub(super) fn pause(&self, topic: &CStr, partition: i32) {
        // SAFETY: the client is alive, and the list is made and destroyed here.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(1);
            sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
            sys::rd_kafka_pause_partitions(self.client(), list);
            sys::rd_kafka_topic_partition_list_destroy(list);
        }
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

//! The admin API of Kafka, on any client: what the `rdkafka` crate does not offer, or not in the shape we need. Topic ids
//! (KIP-516) and the cluster's id; changing single settings of a topic (KIP-339), where `rdkafka` can only replace all of
//! them; an answer awaited with an eye on the client's own errors, so that a refused login does not look like silence.
//!
//! Sidecar and operator share it. Nothing here makes a broker create a topic that it is merely asked about: librdkafka
//! describes topics with `allow_auto_topic_creation` off (`rd_kafka_admin_MetadataRequest` in rdkafka_request.c).
//!
//! Like `native`, this module has `unsafe` code; every function wraps one librdkafka call and states why it is sound.
//! librdkafka handles are thread-safe (its INTRODUCTION.md, "Threads and callbacks").
#![allow(unsafe_code)]

mod change;
mod describe;

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

pub use change::{NewTopic, Refusal};
pub use describe::{ConfigDescription, TopicDescription};

/// How long an answer is awaited before the watch is asked again.
const SLICE: Duration = Duration::from_millis(50);

/// A client, to ask for administration. Its calls block until the answer is there or their deadline has passed.
#[derive(Clone, Copy)]
pub struct Admin<'c> {
    client: *mut sys::rd_kafka_t,
    broker: Option<i32>,
    watch: Option<&'c dyn Fn() -> Option<RDKafkaErrorCode>>,
    lives: PhantomData<&'c ()>,
}

impl<'c> Admin<'c> {
    /// Asks the controller, or in KRaft whichever broker plays its part.
    #[must_use]
    pub fn of<C: ClientContext>(client: &'c Client<C>) -> Self {
        Self { client: client.native_ptr(), broker: None, watch: None, lives: PhantomData }
    }

    /// Asks this broker instead, if there is one. For describing only: changes are the controller's.
    #[must_use]
    pub fn at(self, broker: Option<i32>) -> Self {
        Self { broker, ..self }
    }

    /// Asks `watch` several times a second while an answer is awaited; an error that it returns ends the call.
    #[must_use]
    pub fn watched(self, watch: &'c dyn Fn() -> Option<RDKafkaErrorCode>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// # Safety
    /// `request` must start an operation of the kind `operation` that answers on the queue it is given; `read` must
    /// return nothing that borrows from the event.
    unsafe fn ask<T>(
        &self,
        operation: sys::rd_kafka_admin_op_t,
        deadline: Instant,
        request: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
        read: impl FnOnce(*mut sys::rd_kafka_event_t) -> T,
    ) -> Result<T, RDKafkaErrorCode> {
        // SAFETY: queue, options and event are made and destroyed here. A late answer goes to a queue that librdkafka
        // keeps until then. A setting that librdkafka refuses is left at its default.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.client);
            let options = sys::rd_kafka_AdminOptions_new(self.client, operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis_until(deadline),
                ptr::null_mut(),
                0,
            );
            if let Some(broker) = self.broker {
                sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            }
            request(options, queue);
            let answer = self.await_event(queue, deadline).and_then(|event| {
                let answer = match code(sys::rd_kafka_event_error(event)) {
                    None => Ok(read(event)),
                    Some(error) => Err(error),
                };
                sys::rd_kafka_event_destroy(event);
                answer
            });
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_queue_destroy(queue);
            answer
        }
    }

    /// # Safety
    /// `queue` must be alive.
    unsafe fn await_event(
        &self,
        queue: *mut sys::rd_kafka_queue_t,
        deadline: Instant,
    ) -> Result<*mut sys::rd_kafka_event_t, RDKafkaErrorCode> {
        loop {
            let left = millis_until(deadline);
            let slice = if self.watch.is_some() { left.min(SLICE.as_millis() as c_int) } else { left };
            // SAFETY: the caller's promise.
            let event = unsafe { sys::rd_kafka_queue_poll(queue, slice) };
            if !event.is_null() {
                return Ok(event);
            }
            if let Some(error) = self.watch.and_then(|watch| watch()) {
                return Err(error);
            }
            if Instant::now() >= deadline {
                return Err(RDKafkaErrorCode::OperationTimedOut);
            }
        }
    }
}

/// Milliseconds left, at least one: librdkafka takes 0 for "do not wait" and a negative number for "for ever".
pub(super) fn millis_until(deadline: Instant) -> c_int {
    let left = deadline.saturating_duration_since(Instant::now());
    c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX).max(1)
}

pub(super) fn code(error: sys::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    match error {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
        error => Some(error.into()),
    }
}

/// # Safety
/// `pointer` must be null or a string that outlives the answer.
pub(super) unsafe fn text<'a>(pointer: *const c_char) -> Cow<'a, str> {
    if pointer.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy()
}

/// # Safety
/// `pointer` must be null or point at `count` elements that outlive the answer.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

//! Delivery reports, a batch at a time: what a broker says, it says of a batch.

use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;

use super::code;
use super::named::Names;
use crate::store::lane::Ticket;

/// librdkafka's `RD_KAFKA_OFFSET_INVALID`: no broker said anything of an offset.
const OFFSET_INVALID: i64 = -1_001;

/// Delivery reports in the order of their coming, in room that is used again.
#[derive(Debug, Default)]
pub(in super::super) struct Reports {
    pub(in super::super) batches: Vec<Batch>,
    /// The messages of the batches, one after another.
    pub(in super::super) messages: Vec<Message>,
    names: Names,
}

/// Messages that share a topic, a partition and a verdict.
#[derive(Debug)]
pub(in super::super) struct Batch {
    /// Index of the topic among those the handle was made with.
    pub(in super::super) topic: usize,
    pub(in super::super) partition: i32,
    /// When the first message was handed to the producer.
    pub(in super::super) produced: Instant,
    /// Offset of the first message, if the broker told it.
    pub(in super::super) base_offset: Option<i64>,
    /// No broker confirmed this batch: librdkafka concludes from a later one that it was stored.
    pub(in super::super) implied: bool,
    /// Why the batch failed, if it did.
    pub(in super::super) error: Option<RDKafkaErrorCode>,
    /// The broker named records at fault.
    pub(in super::super) named: bool,
    pub(in super::super) len: usize,
}

/// The report of one message.
#[derive(Debug)]
pub(in super::super) struct Message {
    pub(in super::super) ticket: Ticket,
    pub(in super::super) error: Option<RDKafkaErrorCode>,
    /// The record's timestamp in Unix milliseconds: the broker's where the topic has LogAppendTime.
    pub(in super::super) timestamp_millis: i64,
    /// The error is the broker's verdict on this very record.
    pub(in super::super) named: bool,
}

impl Reports {
    /// Takes the reports out of an event; each event is one batch (`rd_kafka_dr_msgq0`).
    ///
    /// # Safety
    /// `event` must be a live delivery report event.
    pub(super) unsafe fn take(
        &mut self,
        event: *mut sys::rd_kafka_event_t,
        topics: &[*mut sys::rd_kafka_topic_t],
    ) {
        let start = self.messages.len();
        let mut batch: Option<Batch> = None;
        // SAFETY: the caller's promise; a message lives as long as its event.
        unsafe {
            let batch_error = code(sys::rd_kafka_event_error(event));
            let may_name = batch_error == Some(RDKafkaErrorCode::InvalidRecord);
            loop {
                let message = sys::rd_kafka_event_message_next(event);
                if message.is_null() {
                    break;
                }
                let error = code((*message).err);
                if may_name {
                    self.names.note(error, sys::rd_kafka_message_produce_errstr(message).addr());
                }
                let ticket = Ticket::from_bits((*message)._private as usize as u64);
                let timestamp_millis = sys::rd_kafka_message_timestamp(message, std::ptr::null_mut());
                self.messages.push(Message { ticket, error, timestamp_millis, named: false });
                let batch = batch.get_or_insert_with(|| Batch::begin(&*message, topics));
                batch.error = batch_error;
                batch.len += 1;
            }
        }
        if let Some(mut batch) = batch {
            for (message, named) in self.messages.iter_mut().skip(start).zip(self.names.judge()) {
                message.named = named;
            }
            batch.named = self.names.end();
            self.batches.push(batch);
        }
    }
}

impl Batch {
    /// # Safety
    /// `message` must be the first message of a live delivery report event.
    unsafe fn begin(message: &sys::rd_kafka_message_t, topics: &[*mut sys::rd_kafka_topic_t]) -> Self {
        // SAFETY: the caller's promise.
        let age = unsafe { sys::rd_kafka_message_latency(message) };
        let now = Instant::now();
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        Self {
            topic: topics.iter().position(|handle| *handle == message.rkt).unwrap_or(usize::MAX),
            partition: message.partition,
            produced: now.checked_sub(age).unwrap_or(now),
            // librdkafka counts up from whatever the first offset is, also from -1, which a broker says of a batch
            // that it has already: only the first one tells whether the others are known.
            base_offset: (message.offset >= 0).then_some(message.offset),
            implied: code(message.err).is_none() && message.offset == OFFSET_INVALID,
            error: None,
            named: false,
            len: 0,
        }
    }
}

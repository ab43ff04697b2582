//! What the store promises when brokers fail, on the mock cluster.

mod delivery;
mod failure;
mod linger;
mod named;
mod refusal;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::mock::{Mock, wait_for_front};
use super::{KafkaStore, SubmitError};
use crate::budget::EndpointBudget;
use crate::ledger::EndpointLedger;
use crate::store::lane::Return;
use crate::store::{Headers, Lane, LaneKey, MessageId, Outcome, Receipt, Record};

/// A connection as the store sees it.
struct Connection {
    store: Arc<KafkaStore>,
    ledger: Arc<EndpointLedger>,
    budget: Arc<EndpointBudget>,
    key: LaneKey,
    lane: Arc<Lane>,
}

impl Connection {
    fn open(mock: &Mock) -> Self {
        Self::with_budget(mock, 64 << 20, 100_000)
    }

    fn with_budget(mock: &Mock, bytes: u64, messages: u64) -> Self {
        let budget = EndpointBudget::new(Arc::clone(&mock.pod), bytes, messages);
        let ledger = EndpointLedger::new("test");
        let (key, lane) = mock.store.lanes().open(&budget, &ledger.account(0));
        Self { store: Arc::clone(&mock.store), ledger, budget, key, lane }
    }

    /// Submits a message whose tag is also its payload, to the topic `telemetry`, under one key: one partition.
    fn submit(&self, tag: u16) -> Result<(), SubmitError> {
        self.submit_to(0, tag, &tag.to_be_bytes())
    }

    fn submit_to(&self, topic: usize, tag: u16, payload: &[u8]) -> Result<(), SubmitError> {
        self.submit_keyed(topic, Some(b"p/d"), tag, payload)
    }

    fn submit_keyed(
        &self,
        topic: usize,
        key: Option<&[u8]>,
        tag: u16,
        payload: &[u8],
    ) -> Result<(), SubmitError> {
        self.with_record(topic, key, tag, payload, |record, back| {
            self.store.submit(self.key, &self.lane, &self.budget, record, back)
        })
    }

    fn with_record<T>(
        &self,
        topic: usize,
        key: Option<&[u8]>,
        tag: u16,
        payload: &[u8],
        with: impl FnOnce(&Record<'_>, Return) -> T,
    ) -> T {
        let mut headers = Headers::default();
        headers.push("ce_id", b"1");
        let timestamp_millis = crate::intake::unix_millis();
        let id = MessageId::Sender("1".into());
        let back = Return {
            id,
            tag,
            ticket: 0,
            refusal: 0,
            dead_letter: false,
            duplicate: false,
            arrived: Instant::now(),
        };
        with(&Record { topic, key, payload, headers: headers.list(), timestamp_millis }, back)
    }

    /// Submits messages that leave in one batch: while the broker is away they gather.
    fn submit_batch(&self, mock: &Mock, mut tags: std::ops::RangeInclusive<u16>) {
        mock.cluster.broker_down(1).unwrap();
        tags.try_for_each(|tag| self.submit(tag)).unwrap();
        mock.cluster.broker_up(1).unwrap();
    }

    /// Waits for the next outcome; also the tag that it is for.
    fn next(&self) -> (u16, Outcome) {
        wait_for_front(&self.lane);
        let mut next = None;
        self.lane.drain(|slot, outcome| {
            next = Some((slot.back.tag, outcome));
            ControlFlow::Break(())
        });
        next.expect("the front slot is finished")
    }

    fn receipt(&self, tag: u16) -> Receipt {
        match self.next() {
            (of, Outcome::Persisted(receipt)) if of == tag => receipt,
            other => panic!("not a receipt for {tag}: {other:?}"),
        }
    }
}

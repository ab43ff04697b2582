//! Pods of one pipeline, side by side: sidecars on one topic, whose sessions are in one place.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::device::{self, EXPIRY_SECONDS};
use crate::kafka::Record;
use crate::{Kafka, Pipeline, Redis, Sidecar, ports};

/// The pods, and where their messages go.
pub struct Pods<'k> {
    /// Where records go.
    pub kafka: &'k Kafka,
    /// The topic.
    pub topic: String,
    /// The pods.
    pub all: Vec<Sidecar>,
}

impl<'k> Pods<'k> {
    /// One pod that takes QoS 2 and keeps no session beyond its connection.
    #[track_caller]
    pub fn one(kafka: &'k Kafka, change: impl FnOnce(Pipeline) -> Pipeline) -> Self {
        Self::start(kafka, 1, &[], change)
    }

    /// Two pods whose sessions are kept in Redis.
    #[track_caller]
    pub fn two(kafka: &'k Kafka, redis: &Redis, change: impl FnOnce(Pipeline) -> Pipeline) -> Self {
        let keep = |pipeline: Pipeline| {
            pipeline
                .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", EXPIRY_SECONDS)
                .set("/spec/sessions", redis.spec())
        };
        Self::start(kafka, 2, &redis.reference_files(), |pipeline| change(keep(pipeline)))
    }

    /// Any number of pods on the pipeline that `change` makes, with these files below their folders of references.
    #[track_caller]
    pub fn start(
        kafka: &'k Kafka,
        count: usize,
        references: &[(&str, String)],
        change: impl FnOnce(Pipeline) -> Pipeline,
    ) -> Self {
        let topic = kafka.create_topic("pods", 6);
        let pipeline =
            Pipeline::telemetry(kafka, &topic).set("/spec/endpoints/0/mqtt/maximumQoS", "ExactlyOnce");
        let pipeline = change(pipeline);
        let start = |_| {
            let mut own = pipeline.clone();
            let endpoints = pipeline.value()["spec"]["endpoints"].as_array().expect("endpoints").len();
            for index in 0..endpoints {
                own = own.set(&format!("/spec/endpoints/{index}/port"), ports::free());
            }
            let builder = references
                .iter()
                .fold(Sidecar::run(&own), |builder, (path, content)| builder.reference(path, content));
            builder.start()
        };
        Self { kafka, topic, all: (0..count).map(start).collect() }
    }

    /// The records of a client's own key, in the order of their offsets.
    #[track_caller]
    pub fn stored(&self, client_id: &str) -> Vec<Record> {
        let key = device::key(client_id);
        let mut records = self.kafka.read(&self.topic);
        records.retain(|record| record.key() == Some(&key));
        records
    }

    /// The ids of these records.
    #[track_caller]
    pub fn ids(&self, client_id: &str) -> Vec<String> {
        let id = |record: &Record| record.header("ce_id").expect("an id on each record").to_owned();
        self.stored(client_id).iter().map(id).collect()
    }

    /// Checks the ledger of every pod.
    #[track_caller]
    pub fn assert_ledgers_balance(&self) {
        for pod in &self.all {
            pod.assert_ledger_balances();
        }
    }
}

impl std::ops::Index<usize> for Pods<'_> {
    type Output = Sidecar;

    fn index(&self, index: usize) -> &Sidecar {
        &self.all[index]
    }
}

impl std::ops::IndexMut<usize> for Pods<'_> {
    fn index_mut(&mut self, index: usize) -> &mut Sidecar {
        &mut self.all[index]
    }
}

/// A client identifier that no other test of this process has.
pub fn client_id(purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{purpose}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

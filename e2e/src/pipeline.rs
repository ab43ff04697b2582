//! Manifests for tests: a good pipeline, changed where a test needs it. JSON is YAML, and easy to change.

use std::fmt;

use serde_json::{Value, json};

use crate::{Kafka, ports};

/// An IngestPipeline manifest.
#[derive(Clone, Debug)]
pub struct Pipeline(Value);

impl Pipeline {
    /// One topic, the endpoints `mqtt` and `rest` on free ports, and the route `v1/{project}/{device}/telemetry` from
    /// both, with the key `{project}/{device}`. The ack timeout is 5 s and the drain short.
    pub fn telemetry(kafka: &Kafka, topic: &str) -> Self {
        Self::on(&kafka.bootstrap(), topic)
    }

    /// As [`Pipeline::telemetry`], on any bootstrap servers.
    pub fn on(bootstrap: &str, topic: &str) -> Self {
        let servers: Vec<_> = bootstrap.split(',').collect();
        Self(json!({
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "IngestPipeline",
            "metadata": {"name": "telemetry", "namespace": "e2e"},
            "spec": {
                "kafka": {"bootstrapServers": servers},
                "topics": [{"name": "telemetry", "topicName": topic}],
                "endpoints": [
                    {"name": "mqtt", "port": ports::free(), "mqtt": {"maximumQoS": "AtLeastOnce"}},
                    {"name": "rest", "port": ports::free(), "http": {}},
                ],
                "routes": [{
                    "name": "telemetry",
                    "from": [
                        {"endpoint": "mqtt", "topicFilter": "v1/{project}/{device}/telemetry"},
                        {"endpoint": "rest", "path": "/v1/{project}/{device}/telemetry"},
                    ],
                    "to": {"topic": "telemetry"},
                    "key": "{project}/{device}",
                }],
                "delivery": {"ackTimeoutSeconds": 5},
                "edge": {"drain": {"acceptSeconds": 1, "clientSeconds": 1}},
            },
        }))
    }

    /// Sets what a JSON pointer names; missing objects on the way are made.
    ///
    /// # Panics
    /// When the way leads through something that is not an object or list.
    #[must_use]
    #[track_caller]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.0;
        for name in pointer.split('/').skip(1) {
            place = match place {
                Value::Array(list) => {
                    let index: usize = name.parse().expect("an index into a list");
                    list.get_mut(index).unwrap_or_else(|| panic!("{pointer} leaves the list"))
                }
                Value::Object(map) => map.entry(name).or_insert_with(|| json!({})),
                other => panic!("{pointer} leads through {other}"),
            };
        }
        *place = value.into();
        self
    }

    /// Adds an element to a list.
    #[must_use]
    #[track_caller]
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        self.0.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list").push(value);
        self
    }

    /// `delivery.ackTimeoutSeconds`.
    #[must_use]
    pub fn ack_timeout(self, seconds: u32) -> Self {
        self.set("/spec/delivery/ackTimeoutSeconds", seconds)
    }

    /// A dead-letter topic.
    #[must_use]
    pub fn dead_letter(self, topic: &str) -> Self {
        self.push("/spec/topics", json!({"name": "dead-letters", "topicName": topic}))
            .set("/spec/delivery/deadLetter/topic", "dead-letters")
    }

    /// The manifest as a value.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

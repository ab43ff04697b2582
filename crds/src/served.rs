//! What the resource has and this version does not serve. A pipeline that asks for it is refused, never served without.
//! This is the one place for such rules; each goes away with the version that serves its field.
//!
//! A field stands here if serving without it would change what a sender is promised, or who may send. What only the
//! operator acts upon is in [`crate::standalone`].

use crate::edge::Compression;
use crate::pipeline::{EndpointSpec, IngestPipeline, Protocol, Qos, Store};
use crate::problem::Problem;

/// A field that is not served yet.
pub struct Unserved {
    /// The field, with `[]` for any element.
    pub field: &'static str,
    /// What is not served.
    pub what: &'static str,
    /// What to do meanwhile.
    pub advice: &'static str,
    /// The paths at which a pipeline asks for it.
    asked: fn(&IngestPipeline) -> Vec<String>,
}

/// All of them.
pub const UNSERVED: &[Unserved] = &[
    Unserved {
        field: "spec.endpoints[].udp",
        what: "udp endpoints are",
        advice: "use an http or mqtt endpoint",
        asked: |pipeline| {
            endpoints(pipeline, "udp", |endpoint| matches!(endpoint.protocol, Protocol::Udp(_)))
        },
    },
    Unserved {
        field: "spec.endpoints[].coap",
        what: "coap endpoints are",
        advice: "use an http or mqtt endpoint",
        asked: |pipeline| {
            endpoints(pipeline, "coap", |endpoint| matches!(endpoint.protocol, Protocol::Coap(_)))
        },
    },
    Unserved {
        field: "spec.delivery.qos",
        what: "delivery.qos ExactlyOnce is",
        advice: "use AtLeastOnce",
        asked: |pipeline| {
            let qos = pipeline.spec.delivery.as_ref().and_then(|delivery| delivery.qos);
            once(qos == Some(Qos::ExactlyOnce), "spec.delivery.qos")
        },
    },
    Unserved {
        field: "spec.delivery.ackAfter",
        what: "the object store (Archive) is",
        advice: "use ackAfter: [Kafka]",
        asked: |pipeline| {
            let stores = pipeline.spec.delivery.as_ref().and_then(|delivery| delivery.ack_after.as_ref());
            once(stores.is_some_and(|stores| stores.contains(&Store::Archive)), "spec.delivery.ackAfter")
        },
    },
    Unserved {
        field: "spec.kafka.producer.compression",
        what: "Zstd, which librdkafka is built without, is",
        advice: "use Lz4",
        asked: |pipeline| {
            let producer = pipeline.spec.kafka.producer.as_ref();
            let compression = producer.and_then(|producer| producer.compression);
            once(compression == Some(Compression::Zstd), "spec.kafka.producer.compression")
        },
    },
];

/// What of a pipeline is not served.
#[must_use]
pub fn unserved(pipeline: &IngestPipeline) -> Vec<Problem> {
    let problem = |rule: &Unserved, path| {
        Problem::new(path, format!("{} not served by this version", rule.what), rule.advice)
    };
    UNSERVED
        .iter()
        .flat_map(|rule| (rule.asked)(pipeline).into_iter().map(move |path| problem(rule, path)))
        .collect()
}

fn endpoints(pipeline: &IngestPipeline, field: &str, asks: impl Fn(&EndpointSpec) -> bool) -> Vec<String> {
    let asking = pipeline.spec.endpoints.iter().enumerate().filter(|(_, endpoint)| asks(endpoint));
    asking.map(|(index, _)| format!("spec.endpoints[{index}].{field}")).collect()
}

fn once(asks: bool, path: &str) -> Vec<String> {
    if asks { vec![path.to_owned()] } else { Vec::new() }
}

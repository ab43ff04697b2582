//! OpenMetrics, made at each scrape from the same books as the ledger: nothing is counted twice, and the ledger's
//! equation holds within a scrape. Names and labels are an interface; `docs/reference/metrics.md` lists them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::auth::Gate;
use crate::edge::Edge;
use crate::endpoint::Endpoint;
use crate::ledger::{Columns, LATENCY_BOUNDS_MICROS, Latency};
use crate::session::store::SessionStore;

type Labels<'a> = [(&'static str, &'a str)];

/// The metrics of one sidecar.
pub struct Metrics(Registry);

impl Metrics {
    /// Metrics of `edge`.
    #[must_use]
    pub fn new(edge: Arc<Edge>) -> Self {
        let mut registry = Registry::with_prefix("penstock");
        registry.register_collector(Box::new(Scrape(edge)));
        Self(registry)
    }

    /// The OpenMetrics text of now.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16_384);
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }
}

struct Scrape(Arc<Edge>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        messages(&self.0, &mut families)?;
        room(&self.0, &mut families)?;
        doors(&self.0, &mut families)?;
        gates(&self.0, &mut families)?;
        sessions(&self.0, &mut families)?;
        kafka(&self.0, &mut families)?;
        #[cfg(feature = "counted-allocations")]
        allocations(&mut families)?;
        Ok(())
    }
}

/// Writes one family after the other.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (&'a Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            match labels {
                [] => family.encode_counter::<NoLabelSet, u64, f64>(&value, None)?,
                labels => {
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?
                }
            }
        }
        Ok(())
    }

    fn gauge<'a, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (&'a Labels<'a>, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            match labels {
                [] => family.encode_gauge(&value)?,
                labels => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn latency(&mut self, name: &str, help: &str, samples: &[(&str, Latency)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (endpoint, latency) in samples {
            let bounds = LATENCY_BOUNDS_MICROS.iter().map(|micros| seconds(*micros)).chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(latency.buckets).collect();
            let count = latency.buckets.iter().sum();
            let labels = [("endpoint", *endpoint)];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                seconds(latency.sum_micros),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric in seconds needs no more than 52 bits of microseconds"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// The ledger, each endpoint read once.
fn messages(edge: &Edge, families: &mut Families<'_>) -> fmt::Result {
    let books: Vec<(&str, (Columns, Latency))> =
        edge.ledger().endpoints().iter().map(|endpoint| (endpoint.name(), endpoint.snapshot())).collect();
    let labels: Vec<_> = books.iter().map(|(name, _)| [("endpoint", *name)]).collect();
    let column = |of: fn(&Columns) -> u64| {
        labels.iter().zip(&books).map(move |(labels, (_, (columns, _)))| (&labels[..], of(columns)))
    };
    families.counter("messages_received", "Messages that arrived", column(|c| c.received))?;
    families.counter(
        "messages_acknowledged",
        "Persisted, and the sender told so",
        column(|c| c.acknowledged),
    )?;
    families.counter("messages_refused", "Answered with a reason, negative", column(|c| c.refused))?;
    families.counter(
        "messages_dead_lettered",
        "Persisted in the dead-letter topic, then acknowledged",
        column(|c| c.dead_lettered),
    )?;
    families.counter("messages_duplicate", "Known as already persisted", column(|c| c.duplicate))?;
    families.counter("messages_abandoned", "Connection ended before the answer", column(|c| c.abandoned))?;
    families.counter("messages_dropped", "QoS 0 messages given up", column(|c| c.dropped))?;
    families.gauge("messages_in_flight", "Messages that wait for their answer", column(|c| c.in_flight))?;
    families.counter(
        "late_reports",
        "Delivery reports that came after their message was answered as transient or abandoned",
        column(|c| c.late_reports),
    )?;
    let latencies: Vec<_> = books.iter().map(|(name, (_, latency))| (*name, latency.clone())).collect();
    families.latency(
        "ack_latency_seconds",
        "From the arrival of a message to the writing of its positive answer",
        &latencies,
    )
}

/// Connections and budgets.
fn room(edge: &Edge, families: &mut Families<'_>) -> fmt::Result {
    let labels: Vec<_> = edge.endpoints().iter().map(|endpoint| [("endpoint", endpoint.name())]).collect();
    let each = |of: fn(&Endpoint) -> u64| {
        labels.iter().zip(edge.endpoints()).map(move |(labels, endpoint)| (&labels[..], of(endpoint)))
    };
    families.gauge("connections", "Open connections", each(|e| e.connections().len() as u64))?;
    families.gauge(
        "endpoint_held_bytes",
        "Bytes of the endpoint's budget that are taken",
        each(|e| e.intake().budget().used_bytes()),
    )?;
    families.gauge(
        "endpoint_held_messages",
        "Messages that the producer holds, also those answered as transient whose report is due",
        each(|e| e.intake().budget().used_messages()),
    )?;
    let pod = edge.pod();
    families.gauge(
        "pod_held_bytes",
        "Bytes of the pod's budget that are taken",
        [(&[][..], pod.used_bytes())],
    )?;
    families.gauge("pod_limit_bytes", "The pod's budget", [(&[][..], pod.limit_bytes())])?;
    families.gauge("draining", "1 while the pod is ending", [(&[][..], u64::from(edge.is_draining()))])?;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    families.gauge("build", "1, labelled with the version", [(&version[..], 1_u64)])
}

/// What connections go through before they are served.
fn doors(edge: &Edge, families: &mut Families<'_>) -> fmt::Result {
    let secured: Vec<_> = edge
        .endpoints()
        .iter()
        .filter_map(|endpoint| Some((endpoint.door(), endpoint.door().credentials()?)))
        .map(|(door, credentials)| ([("endpoint", door.endpoint())], door, credentials))
        .collect();
    families.gauge(
        "endpoint_certificate_expiry_timestamp_seconds",
        "Unix time at which the endpoint's certificate expires",
        secured.iter().map(|(labels, _, credentials)| (&labels[..], credentials.not_after())),
    )?;
    families.gauge(
        "endpoint_certificate_current",
        "1 while certificate, key and CA in use are what the mounted files hold; 0 when those cannot be used",
        secured.iter().map(|(labels, _, credentials)| (&labels[..], u64::from(credentials.failing() == 0))),
    )?;
    let handshakes: Vec<_> = secured
        .iter()
        .flat_map(|(_, door, _)| {
            let (full, resumed) = door.opened();
            [("full", full), ("resumed", resumed)]
                .map(|(kind, count)| ([("endpoint", door.endpoint()), ("kind", kind)], count))
        })
        .collect();
    families.counter(
        "tls_handshakes",
        "TLS handshakes that went through",
        handshakes.iter().map(|(labels, count)| (&labels[..], *count)),
    )?;
    let failed: Vec<_> = edge
        .endpoints()
        .iter()
        .map(Endpoint::door)
        .filter(|door| !door.is_plain())
        .flat_map(|door| {
            door.failed().map(move |(reason, count)| {
                ([("endpoint", door.endpoint()), ("reason", reason.as_str())], count)
            })
        })
        .collect();
    families.counter(
        "openings_failed",
        "Connections that ended before their protocol began",
        failed.iter().map(|(labels, count)| (&labels[..], *count)),
    )
}

/// Sessions that outlive connections, and QoS 2.
fn sessions(edge: &Edge, families: &mut Families<'_>) -> fmt::Result {
    let mqtt = edge.endpoints().iter().filter_map(|endpoint| Some((endpoint.name(), endpoint.mqtt()?)));
    let mqtt: Vec<_> = mqtt.map(|(name, endpoint)| ([("endpoint", name)], endpoint)).collect();
    families.counter(
        "qos2_replaced",
        "Packet identifiers that were given to another message before they were released",
        mqtt.iter().map(|(labels, endpoint)| (&labels[..], endpoint.replaced())),
    )?;
    families.gauge(
        "sessions",
        "Connected clients whose sessions are kept",
        mqtt.iter().map(|(labels, endpoint)| (&labels[..], endpoint.kept_sessions() as u64)),
    )?;
    let traffic = edge.sessions().and_then(SessionStore::traffic);
    families.counter(
        "session_store_commands",
        "Commands to Redis for sessions",
        traffic.iter().map(|traffic| (&[][..], traffic.commands as u64)),
    )?;
    families.counter(
        "session_store_round_trips",
        "Round trips to Redis in which they went",
        traffic.iter().map(|traffic| (&[][..], traffic.round_trips as u64)),
    )?;
    families.gauge(
        "session_store_connected",
        "1 while there is a connection to Redis for every session",
        traffic.iter().map(|traffic| (&[][..], u64::from(traffic.connected))),
    )
}

/// Who is let in. Endpoints without authentication have no samples.
fn gates(edge: &Edge, families: &mut Families<'_>) -> fmt::Result {
    let gates: Vec<_> = edge.endpoints().iter().filter_map(|endpoint| endpoint.intake().gate()).collect();
    let outcomes: Vec<_> = gates
        .iter()
        .flat_map(|gate| {
            let one = |(outcome, count)| ([("endpoint", gate.endpoint()), ("outcome", outcome)], count);
            gate.counts().map(one)
        })
        .collect();
    families.counter(
        "authentications",
        "Attempts to be let in, by how they ended",
        outcomes.iter().map(|(labels, count)| (&labels[..], *count)),
    )?;
    let labels: Vec<_> = gates.iter().map(|gate| [("endpoint", gate.endpoint())]).collect();
    let each =
        |of: fn(&Gate) -> u64| labels.iter().zip(&gates).map(move |(labels, gate)| (&labels[..], of(gate)));
    families.gauge(
        "credentials_broken",
        "1 while the file of credentials cannot be used; those read before hold on",
        each(|gate| u64::from(gate.is_broken())),
    )?;
    families.gauge(
        "credentials_remembered",
        "Proofs that were found right lately and need not be verified again",
        each(|gate| gate.remembered() as u64),
    )?;
    let waiting = gates.iter().map(|gate| gate.waiting() as u64).max().unwrap_or(0);
    families.gauge(
        "verifications_waiting",
        "Passwords that wait for their slow hash, of all endpoints",
        [(&[][..], waiting)],
    )
}

/// What a build for measurements counts.
#[cfg(feature = "counted-allocations")]
fn allocations(families: &mut Families<'_>) -> fmt::Result {
    let counts = crate::allocations::counts();
    let labels = ["rust", "c"].map(|language| [("language", language)]);
    let samples = labels.iter().zip(counts).map(|(labels, count)| (&labels[..], count));
    families.counter("allocations", "Allocations by the language of the code", samples)
}

/// Topics, producer and brokers.
fn kafka(edge: &Edge, families: &mut Families<'_>) -> fmt::Result {
    let store = edge.store();
    let topics: Vec<_> = store.topics().iter().map(|topic| [("topic", topic.name())]).collect();
    let open = topics.iter().zip(store.topics());
    families.gauge(
        "topic_open",
        "1 while the topic is as declared and takes messages",
        open.map(|(labels, topic)| (&labels[..], u64::from(topic.admit().is_ok()))),
    )?;
    families.counter(
        "kafka_failures",
        "Delivery reports and look-ups that failed",
        [(&[][..], store.health().failures())],
    )?;
    families.counter(
        "producers_made",
        "Producers since the start; more than 1 after a fatal error, or when one stood still",
        [(&[][..], store.producers_made() as u64)],
    )?;
    families.gauge(
        "producer_window_bytes",
        "Bytes that may be under way to Kafka: what it confirms within half the ack timeout",
        [(&[][..], store.window_bytes())],
    )?;
    let statistics = store.statistics();
    families.gauge(
        "producer_queue_messages",
        "Messages in the producer's queues",
        [(&[][..], statistics.messages)],
    )?;
    families.gauge(
        "producer_queue_bytes",
        "Bytes in the producer's queues",
        [(&[][..], statistics.bytes)],
    )?;
    let brokers: Vec<_> = statistics.brokers.values().filter(|broker| broker.node_id >= 0).collect();
    let ids: Vec<_> = brokers.iter().map(|broker| broker.node_id.to_string()).collect();
    let labels: Vec<_> = ids.iter().map(|id| [("broker", id.as_str())]).collect();
    let each = || labels.iter().map(|labels| &labels[..]).zip(brokers.iter());
    families.gauge(
        "broker_up",
        "1 while the producer is connected to the broker",
        each().map(|(labels, broker)| (labels, u64::from(broker.state == "UP"))),
    )?;
    families.gauge(
        "broker_requests_waiting",
        "Requests that wait for the broker's answer",
        each().map(|(labels, broker)| (labels, broker.requests_waiting)),
    )?;
    families.counter(
        "broker_request_errors",
        "Requests that failed or got no answer in time",
        each().map(|(labels, broker)| (labels, broker.request_errors + broker.request_timeouts)),
    )?;
    families.gauge(
        "broker_round_trip_p99_seconds",
        "99th percentile of the broker's answer time over the last statistics interval",
        each().map(|(labels, broker)| (labels, seconds(broker.rtt.p99))),
    )?;
    families.gauge(
        "broker_throttle_seconds",
        "How long the broker asked the producer to pause, mean of the last statistics interval",
        each().map(|(labels, broker)| (labels, seconds(broker.throttle.avg * 1_000))),
    )
}

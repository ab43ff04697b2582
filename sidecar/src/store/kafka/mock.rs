//! A store on librdkafka's mock cluster, for the tests of this crate: every class of Kafka's errors on demand, in
//! one process.
//!
//! The mock speaks the protocol of real brokers as far as producing and describing topics go; it knows no
//! DescribeConfigs, so `min.insync.replicas` and `max.message.bytes` are unknown here as on brokers that do not tell.

mod cluster;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use penstock_crds::edge::{
    Compression, DeliveryConfig, DrainConfig, EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig,
    KafkaConfig, LimitsConfig, MqttConfig, PipelineName, ProtocolConfig, RouteConfig, SessionsConfig,
    SourceConfig, TopicConfig,
};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

pub(crate) use cluster::Cluster;

use super::{KafkaStore, Threads, Topic};
use crate::budget::PodBudget;
use crate::store::Lane;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Partitions of each topic of the mock.
pub(crate) const PARTITIONS: i32 = 4;

/// A mock cluster and a store that has seen its topics.
pub(crate) struct Mock {
    pub(crate) cluster: Cluster,
    pub(crate) config: Arc<EdgeConfig>,
    pub(crate) pod: Arc<PodBudget>,
    pub(crate) store: Arc<KafkaStore>,
    threads: Option<Threads>,
}

impl Mock {
    /// One broker, and the configuration of [`edge_config`].
    pub(crate) fn start() -> Self {
        Self::with(1, |_| {})
    }

    /// `brokers` brokers with the topics of the configuration, which `alter` may change; each topic's replicas are on
    /// all brokers.
    pub(crate) fn with(brokers: i32, alter: impl FnOnce(&mut EdgeConfig)) -> Self {
        Self::on(Cluster::start(brokers), brokers, alter)
    }

    /// The same on a cluster of `brokers` brokers.
    pub(crate) fn on(cluster: Cluster, brokers: i32, alter: impl FnOnce(&mut EdgeConfig)) -> Self {
        let mock = Self::unseen_on(cluster, alter);
        mock.create_topics(brokers);
        mock.wait_until_open();
        mock
    }

    /// `brokers` brokers without topics.
    pub(crate) fn unseen(brokers: i32, alter: impl FnOnce(&mut EdgeConfig)) -> Self {
        Self::unseen_on(Cluster::start(brokers), alter)
    }

    fn unseen_on(cluster: Cluster, alter: impl FnOnce(&mut EdgeConfig)) -> Self {
        let mut config = edge_config(&cluster.bootstrap_servers());
        alter(&mut config);
        let config = Arc::new(config);
        let pod = PodBudget::new(config.max_in_flight_bytes);
        let (store, threads) =
            KafkaStore::start(Arc::clone(&config), Path::new("."), Arc::clone(&pod)).unwrap();
        Self { cluster, config, pod, store, threads: Some(threads) }
    }

    pub(crate) fn create_topics(&self, replicas: i32) {
        for topic in &self.config.topics {
            self.cluster.create_topic(&topic.topic_name, PARTITIONS, replicas).unwrap();
        }
    }

    /// Waits until messages are taken for all topics.
    pub(crate) fn wait_until_open(&self) {
        let obstacles = || self.store.topics().iter().filter_map(Topic::obstacle).collect::<Vec<_>>();
        wait_until(|| obstacles().is_empty(), || format!("topics take messages: {:?}", obstacles()));
        wait_until(|| self.store.health().was_seen(), || "that is noticed");
    }

    /// The errors with which the brokers answer the next produce requests.
    pub(crate) fn produce_errors(&self, errors: &[RDKafkaRespErr]) {
        self.cluster.request_errors(RDKafkaApiKey::Produce, errors);
    }

    /// How many requests of this kind the brokers have had.
    pub(crate) fn requests(&self, kind: RDKafkaApiKey) -> usize {
        self.cluster.requests(kind)
    }

    /// Makes the producer fail for good, as a desynchronised sequence does.
    pub(crate) fn fail_fatally(&self) {
        self.store.producer.load().as_ref().unwrap().native().fail_fatally();
    }

    /// Makes the producer stand still at a partition of `telemetry`, and the store notice it after a second or two of
    /// statistics.
    pub(crate) fn stall(&self, partition: i32) {
        self.store.progress.lock().patience = Duration::from_secs(1);
        self.store.producer.load().as_ref().unwrap().native().pause(c"telemetry", partition);
    }

    /// How many messages librdkafka has.
    pub(crate) fn outstanding(&self) -> usize {
        self.store.producer.load().as_ref().map_or(0, |generation| generation.native().outstanding())
    }

    /// Ends the store's threads; see [`Threads::end`].
    pub(crate) fn end(&mut self, patience: Duration) -> usize {
        self.threads.take().map_or(0, |threads| threads.end(patience))
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// A pipeline with an MQTT endpoint `mqtt` and an HTTP endpoint `rest`, both on any free port; topics `telemetry` and
/// `dead-letters`; and one route from `v1/{project}/{device}/telemetry` of either endpoint.
pub(crate) fn edge_config(bootstrap_servers: &str) -> EdgeConfig {
    let limits = LimitsConfig {
        max_connections: 1_000,
        max_message_bytes: 262_144,
        max_in_flight_bytes: 64 << 20,
        max_in_flight_messages: 100_000,
        max_in_flight_bytes_per_connection: 1 << 20,
        max_connections_per_second: None,
    };
    let endpoint = |name: &str, protocol| EndpointConfig {
        name: name.to_owned(),
        port: 0,
        loopback: true,
        protocol,
        limits: limits.clone(),
        tls: None,
        proxy_protocol: None,
        authentication: None,
    };
    let topic = |name: &str| TopicConfig {
        name: name.to_owned(),
        topic_name: name.to_owned(),
        partitions: Some(PARTITIONS),
        replication_factor: None,
        min_in_sync_replicas: None,
    };
    let source = |endpoint: &str, pattern: &str| SourceConfig {
        endpoint: endpoint.to_owned(),
        pattern: pattern.to_owned(),
    };
    EdgeConfig {
        version: EDGE_CONFIG_VERSION,
        pipeline: PipelineName { namespace: "test".to_owned(), name: "telemetry".to_owned() },
        kafka: KafkaConfig {
            bootstrap_servers: bootstrap_servers.split(',').map(str::to_owned).collect(),
            tls: None,
            authentication: None,
            linger_milliseconds: 5,
            compression: Compression::None,
        },
        topics: vec![topic("telemetry"), topic("dead-letters")],
        endpoints: vec![
            endpoint(
                "mqtt",
                ProtocolConfig::Mqtt(MqttConfig {
                    maximum_qos: 1,
                    receive_maximum: 1_024,
                    topic_alias_maximum: 32,
                    maximum_keep_alive_seconds: None,
                    session_expiry_seconds: 0,
                    will_grace_seconds: 30,
                    web_socket_path: None,
                }),
            ),
            endpoint("rest", ProtocolConfig::Http(HttpConfig { base_path: String::new() })),
        ],
        routes: vec![RouteConfig {
            name: "telemetry".to_owned(),
            from: vec![
                source("mqtt", "v1/{project}/{device}/telemetry"),
                source("rest", "/v1/{project}/{device}/telemetry"),
            ],
            topic: "telemetry".to_owned(),
            key: Some("{project}/{device}".to_owned()),
            allow: BTreeMap::new(),
            event_time_pointer: None,
            json_schema: None,
        }],
        delivery: DeliveryConfig {
            ack_timeout_seconds: 10,
            dead_letter_topic: Some("dead-letters".to_owned()),
        },
        sessions: SessionsConfig::Memory,
        drain: DrainConfig { accept_seconds: 0, client_seconds: 0, adapter_stop_seconds: None },
        max_in_flight_bytes: 256 << 20,
        admin_port: 0,
    }
}

/// Waits for a condition that announces itself nowhere.
pub(crate) fn wait_until<W: std::fmt::Display>(mut is_so: impl FnMut() -> bool, what: impl Fn() -> W) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", what());
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Waits until the lane's front slot has its outcome.
pub(crate) fn wait_for_front(lane: &Lane) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + PATIENCE;
    while lane.poll_front(&Context::from_waker(&waker)).is_pending() {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no outcome within {PATIENCE:?}");
        std::thread::park_timeout(left);
    }
}

//! The parts of a campaign: three brokers and a controller of their own, Redis with replica and Sentinels, three edges
//! behind balancers, and roads from the edges to everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::certificates::{Certificates, HTTPS, MQTTS, Pair, SECRET};
use crate::kafka::{Record, TopicSpec};
use crate::load::wire::Version;
use crate::load::{Load, Loads, Plan};
use crate::{Balancer, Kafka, Pipeline, Redis, Sidecar, folder, ports};

/// Brokers.
pub const BROKERS: usize = 3;
/// Edge pods.
pub const EDGES: usize = 3;
/// Partitions of the topic of a round.
pub const PARTITIONS: usize = 6;
/// What the edges promise their senders.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later an answer may come.
const GRACE: Duration = Duration::from_secs(1);
const SESSION_EXPIRY_SECONDS: u32 = 3_600;
/// The disk of a broker, which is in memory: for what some rounds write until their topics are gone.
const DISK_BYTES: u64 = 3 << 30;
/// How many loads share the rate.
const LOADS: u32 = 12;
/// Where strangers publish.
const STRANGERS: &str = "strangers";
/// What a producer waits for, in turn: what a new configuration changes.
const LINGER_MILLISECONDS: [i32; 2] = [5, 2];

/// What runs for the whole campaign.
pub struct Site {
    /// Three brokers, one controller.
    pub kafka: Kafka,
    /// One primary, one replica, three Sentinels.
    pub redis: Redis,
    /// The road of MQTT clients.
    pub mqtt: Balancer,
    /// The road of MQTT clients over TLS.
    pub mqtts: Balancer,
    /// The road of HTTP clients.
    pub http: Balancer,
    /// The road of HTTP clients over TLS.
    pub https: Balancer,
    /// The roads of the edges to each broker.
    pub to_brokers: Vec<Arc<Balancer>>,
    /// The roads of the edges to each server of Redis.
    pub to_redis: Vec<Arc<Balancer>>,
    /// What the edges prove themselves with.
    pub certificates: Certificates,
    /// The edges of the present round.
    pub edges: Vec<Sidecar>,
    pipelines: Vec<Pipeline>,
    /// What each edge's clock is off by.
    clocks: TempDir,
    configuration: usize,
    /// The topic of the present round.
    pub topic: String,
    /// What was in it before it was deleted and made again.
    pub former: Vec<Record>,
}

impl Site {
    /// Starts everything but the edges.
    pub fn start() -> Self {
        let roads = |count| (0..count).map(|_| Arc::new(Balancer::start())).collect::<Vec<_>>();
        let (to_brokers, to_redis) = (roads(BROKERS), roads(2));
        let kafka = Kafka::three()
            .min_isr(2)
            .roads(&to_brokers)
            .small_disks(DISK_BYTES)
            .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .set("allow.everyone.if.no.acl.found", true)
            .start();
        // With an ACL on one topic, what no ACL allows there would be denied.
        kafka.allow("*", &["All"], "*");
        kafka.create(&TopicSpec::new(STRANGERS, PARTITIONS).set("min.insync.replicas", 2));
        let redis = Redis::sentinels().roads(&to_redis).start();
        Self {
            kafka,
            redis,
            mqtt: Balancer::start(),
            mqtts: Balancer::start(),
            http: Balancer::start(),
            https: Balancer::start(),
            to_brokers,
            to_redis,
            certificates: Certificates::fresh(),
            edges: Vec::new(),
            pipelines: Vec::new(),
            clocks: folder::fresh("clocks-"),
            configuration: 0,
            topic: String::new(),
            former: Vec::new(),
        }
    }

    /// New edges on a new topic: what a round does to its topic, the next one does not see.
    pub fn begin_round(&mut self) {
        self.edges.clear();
        if !self.topic.is_empty() {
            self.kafka.delete_topic(&self.topic);
        }
        self.topic = self.kafka.fresh_name("campaign");
        self.former.clear();
        self.create_topic();
        self.pipelines = (0..EDGES).map(|_| self.pipeline()).collect();
        self.edges = (0..EDGES).map(|index| self.edge(index)).collect();
        let listeners = |name: &str| self.edges.iter().map(|edge| edge.listener(name)).collect();
        self.mqtt.serve(self.edges.iter().map(Sidecar::mqtt).collect());
        self.mqtts.serve(listeners(MQTTS));
        self.http.serve(self.edges.iter().map(Sidecar::http).collect());
        self.https.serve(listeners(HTTPS));
    }

    /// Makes the topic of the round.
    pub fn create_topic(&self) {
        self.kafka.create(&TopicSpec::new(&self.topic, PARTITIONS).set("min.insync.replicas", 2));
    }

    /// Takes everything that was stored in the topic of the round.
    pub fn take_records(&mut self) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.former);
        records.extend(self.kafka.read(&self.topic));
        records
    }

    fn pipeline(&self) -> Pipeline {
        Pipeline::telemetry(&self.kafka, &self.topic)
            .ack_timeout(ACK_TIMEOUT.as_secs() as u32)
            .set("/spec/endpoints/0/mqtt/maximumQoS", "ExactlyOnce")
            .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", SESSION_EXPIRY_SECONDS)
            .set("/spec/sessions", self.redis.spec())
            .push(
                "/spec/endpoints",
                json!({
                    "name": MQTTS,
                    "port": ports::free(),
                    "mqtt": {"maximumQoS": "ExactlyOnce", "sessionExpirySeconds": SESSION_EXPIRY_SECONDS},
                    "tls": {"certificateSecret": {"name": SECRET}},
                }),
            )
            .push(
                "/spec/endpoints",
                json!({
                    "name": HTTPS,
                    "port": ports::free(),
                    "http": {},
                    "tls": {"certificateSecret": {"name": SECRET}},
                }),
            )
            .push(
                "/spec/routes/0/from",
                json!({"endpoint": MQTTS, "topicFilter": "v1/{project}/{device}/telemetry"}),
            )
            .push(
                "/spec/routes/0/from",
                json!({"endpoint": HTTPS, "path": "/v1/{project}/{device}/telemetry"}),
            )
            .push("/spec/topics", json!({"name": STRANGERS, "topicName": STRANGERS}))
            .push(
                "/spec/routes",
                json!({
                    "name": STRANGERS,
                    "from": [
                        {"endpoint": "mqtt", "topicFilter": "strangers/{name}"},
                        {"endpoint": "rest", "path": "/strangers/{name}"},
                    ],
                    "to": {"topic": STRANGERS},
                    "key": "{name}",
                }),
            )
    }

    fn edge(&self, index: usize) -> Sidecar {
        self.set_clock(index, 0);
        Sidecar::run(&self.pipelines[index])
            .secret(SECRET, &self.certificates.current().files())
            .environment("LD_PRELOAD", faketime().display())
            .environment("FAKETIME_TIMESTAMP_FILE", self.clock(index).display())
            .environment("FAKETIME_CACHE_DURATION", 1)
            .environment("DONT_FAKE_MONOTONIC", 1)
            .environment("NO_FAKE_STAT", 1)
            .start()
    }

    fn clock(&self, index: usize) -> PathBuf {
        self.clocks.path().join(index.to_string())
    }

    /// Sets the wall clock of an edge so many seconds off; it notices within a second.
    pub fn set_clock(&self, index: usize, seconds: i64) {
        let new = self.clocks.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("a file for the clock");
        std::fs::rename(new, self.clock(index)).expect("a file for the clock");
    }

    /// Has every edge find this certificate and key where it looks for them.
    pub fn mount(&self, pair: &Pair) {
        self.edges.iter().for_each(|edge| edge.change_secret(SECRET, &pair.files()));
    }

    /// How many edges show this certificate to who comes now.
    pub fn showing(&self, pair: &Pair) -> usize {
        self.edges.iter().filter(|edge| self.certificates.is_shown(pair, edge)).count()
    }

    /// Gives every edge another configuration for its next start.
    pub fn change_configuration(&mut self) {
        self.configuration += 1;
        let linger = LINGER_MILLISECONDS[self.configuration % LINGER_MILLISECONDS.len()];
        for (edge, pipeline) in self.edges.iter().zip(&self.pipelines) {
            edge.change_manifest(&pipeline.clone().set("/spec/kafka/producer/lingerMilliseconds", linger));
        }
    }

    /// Clients of both MQTT versions at QoS 1 and 2, with clean and with kept sessions, and of both HTTP
    /// versions, plain and over TLS, with several keys and payload sizes: with [`Site::unanswered_load`] `per_second` messages in all.
    pub fn loads(&self, per_second: u32) -> Loads {
        let mqtt = |version| Plan::mqtt(self.mqtt.address(), version).through(&self.mqtt);
        let identity = self.certificates.identity();
        let mqtts =
            |version| Plan::mqtt(self.mqtts.address(), version).through(&self.mqtts).secure(&identity);
        let (http, https) = (self.http.address(), self.https.address());
        let plans = [
            mqtt(Version::V311).project("clean-3").payload_bytes(100),
            mqtt(Version::V5).project("clean-5").payload_bytes(1_024),
            mqtt(Version::V5).keep_session(SESSION_EXPIRY_SECONDS).project("kept").payload_bytes(16),
            mqtt(Version::V311).qos(2).project("twice-3").payload_bytes(100),
            mqtt(Version::V5).qos(2).project("twice-5").payload_bytes(400),
            mqtts(Version::V311).project("secure-3").payload_bytes(100),
            mqtts(Version::V5).qos(2).project("secure-5").payload_bytes(200),
            Plan::http(http).through(&self.http).project("http-1").payload_bytes(100),
            Plan::http2(http).through(&self.http).project("http-2").payload_bytes(4_096),
            Plan::http(https).through(&self.https).secure(&identity).project("https-1").payload_bytes(300),
            Plan::http2(https).through(&self.https).secure(&identity).project("https-2").payload_bytes(2_000),
        ];
        let rate = per_second / LOADS;
        let longest = ACK_TIMEOUT + GRACE;
        Loads::new(plans.map(|plan| plan.clients(6).devices(4).rate(rate).answer_within(longest).start()))
    }

    /// Clients at QoS 0, beside those of [`Site::loads`]: nobody tells them anything.
    pub fn unanswered_load(&self, per_second: u32) -> Load {
        let plan = Plan::mqtt(self.mqtt.address(), Version::V5).through(&self.mqtt).qos(0).project("zero");
        plan.clients(6).devices(4).payload_bytes(100).rate(per_second / LOADS).start()
    }

    /// All ways to the edges.
    pub fn roads(&self) -> Vec<&Balancer> {
        vec![&self.mqtt, &self.mqtts, &self.http, &self.https]
    }

    /// The ways of the edges to brokers.
    pub fn roads_to_brokers(&self) -> Vec<&Balancer> {
        self.to_brokers.iter().map(AsRef::as_ref).collect()
    }

    /// The ways of the edges to Redis.
    pub fn roads_to_redis(&self) -> Vec<&Balancer> {
        self.to_redis.iter().map(AsRef::as_ref).collect()
    }

    /// How often Kafka failed the edges, each since its start.
    pub fn kafka_failures(&self) -> u64 {
        self.edges.iter().map(|edge| edge.metric_sum("penstock_kafka_failures_total") as u64).sum()
    }

    /// What the edges still hold although nobody is connected: nothing, if nothing leaks.
    pub fn held(&self) -> Vec<String> {
        const GAUGES: [&str; 4] = [
            "penstock_messages_in_flight",
            "penstock_connections",
            "penstock_endpoint_held_bytes",
            "penstock_endpoint_held_messages",
        ];
        let mut held = Vec::new();
        for (edge, sidecar) in self.edges.iter().enumerate() {
            for gauge in GAUGES {
                let value = sidecar.metric_sum(gauge);
                if value != 0.0 {
                    held.push(format!("edge {edge}: {gauge} is {value}"));
                }
            }
        }
        held
    }
}

/// The library that gives a process another wall clock.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a folder of libraries").flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|file| Path::exists(file)).expect("faketime is not installed: run `make parts`")
}

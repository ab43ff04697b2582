//! The parts of a campaign: three brokers and a controller of their own, Redis with replica and Sentinels, three edges
//! behind balancers.

use std::time::Duration;

use super::balancer::Balancer;
use crate::kafka::TopicSpec;
use crate::load::wire::Version;
use crate::load::{Loads, Plan};
use crate::{Kafka, Pipeline, Redis, Sidecar};

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

/// What runs for the whole campaign.
pub struct Site {
    /// Three brokers, one controller.
    pub kafka: Kafka,
    /// One primary, one replica, three Sentinels.
    pub redis: Redis,
    /// The road of MQTT clients.
    pub mqtt: Balancer,
    /// The road of HTTP clients.
    pub http: Balancer,
    /// The edges of the present round.
    pub edges: Vec<Sidecar>,
    /// The topic of the present round.
    pub topic: String,
}

impl Site {
    /// Starts everything but the edges.
    pub fn start() -> Self {
        let kafka = Kafka::three().min_isr(2).start();
        let redis = Redis::sentinels().start();
        let (mqtt, http) = (Balancer::start(), Balancer::start());
        Self { kafka, redis, mqtt, http, edges: Vec::new(), topic: String::new() }
    }

    /// New edges on a new topic: what a round does to its topic, the next one does not see.
    pub fn begin_round(&mut self) {
        self.edges.clear();
        if !self.topic.is_empty() {
            self.kafka.delete_topic(&self.topic);
        }
        self.topic = self.kafka.fresh_name("campaign");
        self.kafka.create(&TopicSpec::new(&self.topic, PARTITIONS).set("min.insync.replicas", 2));
        self.edges = (0..EDGES).map(|_| Sidecar::run(&self.pipeline()).start()).collect();
        self.mqtt.serve(self.edges.iter().map(Sidecar::mqtt).collect());
        self.http.serve(self.edges.iter().map(Sidecar::http).collect());
    }

    fn pipeline(&self) -> Pipeline {
        Pipeline::telemetry(&self.kafka, &self.topic)
            .ack_timeout(ACK_TIMEOUT.as_secs() as u32)
            .set("/spec/endpoints/0/mqtt/maximumQoS", "ExactlyOnce")
            .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", SESSION_EXPIRY_SECONDS)
            .set("/spec/sessions", self.redis.spec())
    }

    /// Clients of both MQTT versions at QoS 1 and 2, with clean and with kept sessions, and of both HTTP versions, with
    /// several keys and payload sizes: `per_second` messages in all.
    pub fn loads(&self, per_second: u32) -> Loads {
        let mqtt = |version| Plan::mqtt(self.mqtt.address(), version);
        let http = self.http.address();
        let plans = [
            mqtt(Version::V311).project("clean-3").payload_bytes(100),
            mqtt(Version::V5).project("clean-5").payload_bytes(1_024),
            mqtt(Version::V5).keep_session(SESSION_EXPIRY_SECONDS).project("kept").payload_bytes(16),
            mqtt(Version::V311).qos(2).project("twice-3").payload_bytes(100),
            mqtt(Version::V5).qos(2).project("twice-5").payload_bytes(400),
            Plan::http(http).project("http-1").payload_bytes(100),
            Plan::http2(http).project("http-2").payload_bytes(4_096),
        ];
        let rate = per_second / plans.len() as u32;
        let longest = ACK_TIMEOUT + GRACE;
        Loads::new(plans.map(|plan| plan.clients(6).devices(4).rate(rate).answer_within(longest).start()))
    }

    /// Both ways to the edges.
    pub fn roads(&self) -> [&Balancer; 2] {
        [&self.mqtt, &self.http]
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

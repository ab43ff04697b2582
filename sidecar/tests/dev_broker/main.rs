//! The embedded broker of dev mode against librdkafka: in a process of its own where that process is killed, in a file
//! system of its own where that runs full.
#![cfg(feature = "dev-broker")]
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod clients;
mod disk_full;
mod groups;
mod kill_9;
mod process;
mod store;

use penstock_crds::edge::{
    Compression, DeliveryConfig, DrainConfig, EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig,
    KafkaConfig, KafkaTls, LimitsConfig, PipelineName, ProtocolConfig, SessionsConfig, TopicConfig,
};

/// A pipeline with the topic `telemetry` of 6 partitions, as it is written for a real cluster.
fn pipeline() -> EdgeConfig {
    EdgeConfig {
        version: EDGE_CONFIG_VERSION,
        pipeline: PipelineName { namespace: "default".into(), name: "test".into() },
        kafka: KafkaConfig {
            bootstrap_servers: vec!["kafka.example:9093".into()],
            tls: Some(KafkaTls { ca: None, certificate: None }),
            authentication: None,
            linger_milliseconds: 5,
            compression: Compression::None,
        },
        topics: vec![TopicConfig {
            name: "telemetry".into(),
            topic_name: "telemetry".into(),
            partitions: Some(6),
            replication_factor: Some(3),
            min_in_sync_replicas: Some(2),
        }],
        endpoints: vec![EndpointConfig {
            name: "rest".into(),
            port: 1,
            loopback: true,
            protocol: ProtocolConfig::Http(HttpConfig { base_path: String::new() }),
            limits: LimitsConfig {
                max_connections: 10,
                max_message_bytes: 65_536,
                max_in_flight_bytes: 1 << 20,
                max_in_flight_messages: 1_000,
                max_in_flight_bytes_per_connection: 1 << 20,
                max_connections_per_second: None,
            },
            tls: None,
            proxy_protocol: None,
            authentication: None,
        }],
        routes: Vec::new(),
        delivery: DeliveryConfig { ack_timeout_seconds: 10, dead_letter_topic: None },
        sessions: SessionsConfig::Memory,
        drain: DrainConfig { accept_seconds: 0, client_seconds: 0, adapter_stop_seconds: None },
        max_in_flight_bytes: 1 << 20,
        admin_port: 1,
    }
}

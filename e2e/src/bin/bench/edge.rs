//! The pipeline under load, as a sidecar reads it: every value is the default of the API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use penstock_crds::edge::{
    Compression, DeliveryConfig, DrainConfig, EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig,
    KafkaConfig, LimitsConfig, MqttConfig, PipelineName, ProtocolConfig, RouteConfig, SessionsConfig,
    SourceConfig, TopicConfig,
};
use penstock_e2e::{Kafka, ports};

/// One topic, an MQTT and an HTTP endpoint on free ports, and one route from both with a key of two captures.
pub(crate) fn config(kafka: &Kafka, topic: &str) -> EdgeConfig {
    let source = |endpoint: &str, pattern: &str| SourceConfig {
        endpoint: endpoint.to_owned(),
        pattern: pattern.to_owned(),
    };
    EdgeConfig {
        version: EDGE_CONFIG_VERSION,
        pipeline: PipelineName { namespace: "bench".to_owned(), name: "telemetry".to_owned() },
        kafka: KafkaConfig {
            bootstrap_servers: kafka.bootstrap().split(',').map(str::to_owned).collect(),
            tls: None,
            authentication: None,
            linger_milliseconds: 5,
            compression: Compression::Lz4,
        },
        topics: vec![TopicConfig {
            name: "telemetry".to_owned(),
            topic_name: topic.to_owned(),
            partitions: None,
            replication_factor: None,
            min_in_sync_replicas: None,
        }],
        endpoints: vec![
            endpoint(
                "mqtt",
                ProtocolConfig::Mqtt(MqttConfig {
                    maximum_qos: 1,
                    receive_maximum: 1024,
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
        delivery: DeliveryConfig { ack_timeout_seconds: 10, dead_letter_topic: None },
        sessions: SessionsConfig::Memory,
        drain: DrainConfig { accept_seconds: 5, client_seconds: 30, adapter_stop_seconds: None },
        max_in_flight_bytes: 256 << 20,
        admin_port: ports::free(),
    }
}

/// Writes a configuration into a folder, for a sidecar to read.
pub(crate) fn write(folder: &Path, config: &EdgeConfig) -> PathBuf {
    let file = folder.join("edge.json");
    let text = serde_json::to_string_pretty(config).expect("a serialisable configuration");
    std::fs::write(&file, text).expect("a configuration file");
    file
}

/// Where the endpoint of this name listens.
pub(crate) fn address(config: &EdgeConfig, name: &str) -> SocketAddr {
    let endpoint =
        config.endpoints.iter().find(|endpoint| endpoint.name == name).expect("an endpoint of ours");
    SocketAddr::from(([127, 0, 0, 1], endpoint.port))
}

fn endpoint(name: &str, protocol: ProtocolConfig) -> EndpointConfig {
    EndpointConfig {
        name: name.to_owned(),
        port: ports::free(),
        loopback: false,
        protocol,
        limits: LimitsConfig {
            max_connections: 200_000,
            max_message_bytes: 256 << 10,
            max_in_flight_bytes: 64 << 20,
            max_in_flight_messages: 100_000,
            max_in_flight_bytes_per_connection: 1 << 20,
            max_connections_per_second: None,
        },
        tls: None,
        proxy_protocol: None,
        authentication: None,
    }
}

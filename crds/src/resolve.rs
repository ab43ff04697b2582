//! From a pipeline to what a sidecar reads: every default filled in, every reference a file.

use crate::edge::{
    Compression, DeliveryConfig, DrainConfig, EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig,
    KafkaAuthentication, KafkaConfig, KafkaTls, LimitsConfig, MqttConfig, PipelineName, ProtocolConfig,
    RouteConfig, SourceConfig, TopicConfig,
};
use crate::pipeline::{
    EndpointSpec, ExposureType, IngestPipeline, JsonSchemaSource, Kafka, Limits, Protocol, Qos, RouteSpec,
};
use crate::problem::Problem;
use crate::validate::validate;

/// Port of probes, metrics and ledger.
pub const ADMIN_PORT: u16 = 9_464;
const MIB: i64 = 1_048_576;

/// Fills in the defaults of a pipeline that [`validate`] has no problem with.
///
/// # Errors
/// The problems, if it has some.
pub fn resolve(pipeline: &IngestPipeline) -> Result<EdgeConfig, Vec<Problem>> {
    let spec = &pipeline.spec;
    let edge = spec.edge.clone().unwrap_or_default();
    let delivery = spec.delivery.clone().unwrap_or_default();
    let drain = edge.drain.unwrap_or_default();
    let pod_bytes = edge.max_in_flight_bytes.unwrap_or(256 * MIB);
    let problems = validate(pipeline);
    if !problems.is_empty() {
        return Err(problems);
    }
    let endpoints = spec.endpoints.iter().filter_map(|spec| endpoint(spec, pod_bytes)).collect();
    Ok(EdgeConfig {
        version: EDGE_CONFIG_VERSION,
        pipeline: PipelineName {
            namespace: pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: pipeline.metadata.name.clone().unwrap_or_default(),
        },
        kafka: kafka(&spec.kafka),
        topics: spec
            .topics
            .iter()
            .map(|topic| TopicConfig {
                name: topic.name.clone(),
                topic_name: topic.kafka_name().to_owned(),
                partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                min_in_sync_replicas: topic.min_in_sync_replicas,
            })
            .collect(),
        endpoints,
        routes: spec.routes.iter().map(route).collect(),
        delivery: DeliveryConfig {
            ack_timeout_seconds: unsigned(delivery.ack_timeout_seconds.unwrap_or(10)),
            dead_letter_topic: delivery.dead_letter.map(|dead_letter| dead_letter.topic),
        },
        drain: DrainConfig {
            accept_seconds: unsigned(drain.accept_seconds.unwrap_or(5)),
            client_seconds: unsigned(drain.client_seconds.unwrap_or(30)),
        },
        max_in_flight_bytes: bytes(pod_bytes),
        admin_port: ADMIN_PORT,
    })
}

fn kafka(spec: &Kafka) -> KafkaConfig {
    let producer = spec.producer.clone().unwrap_or_default();
    KafkaConfig {
        bootstrap_servers: spec.bootstrap_servers.clone(),
        tls: spec.tls.as_ref().map(|tls| KafkaTls { ca: tls.ca.as_ref().map(|ca| ca.path()) }),
        authentication: spec.authentication.as_ref().map(|authentication| {
            let (mechanism, credentials) = authentication.parts();
            let (username, password) = (credentials.username.clone(), credentials.password_secret.path());
            KafkaAuthentication { mechanism, username, password }
        }),
        linger_milliseconds: unsigned(producer.linger_milliseconds.unwrap_or(5)),
        compression: producer.compression.unwrap_or(Compression::Lz4),
    }
}

/// None for a protocol that is not served, which [`validate`] has refused.
fn endpoint(spec: &EndpointSpec, pod_bytes: i64) -> Option<EndpointConfig> {
    let protocol = match &spec.protocol {
        Protocol::Mqtt(mqtt) => ProtocolConfig::Mqtt(MqttConfig {
            maximum_qos: if mqtt.maximum_qos == Some(Qos::AtMostOnce) { 0 } else { 1 },
            receive_maximum: u16::try_from(mqtt.receive_maximum.unwrap_or(1_024)).unwrap_or(u16::MAX),
        }),
        Protocol::Http(http) => ProtocolConfig::Http(HttpConfig {
            base_path: http.base_path.as_deref().unwrap_or("/").trim_end_matches('/').to_owned(),
        }),
        Protocol::Udp(_) | Protocol::Coap(_) => return None,
    };
    let pod_only = spec.exposure.as_ref().is_some_and(|exposure| exposure.type_ == Some(ExposureType::Pod));
    Some(EndpointConfig {
        name: spec.name.clone(),
        port: u16::try_from(spec.port).unwrap_or(u16::MAX),
        loopback: pod_only,
        protocol,
        limits: limits(&spec.limits.clone().unwrap_or_default(), pod_bytes),
    })
}

fn limits(spec: &Limits, pod_bytes: i64) -> LimitsConfig {
    let message = spec.max_message_bytes.unwrap_or(MIB / 4);
    let connection =
        spec.max_in_flight_bytes_per_connection.unwrap_or_else(|| MIB.max(message.saturating_mul(2)));
    let endpoint = spec.max_in_flight_bytes.unwrap_or_else(|| (64 * MIB).max(connection).min(pod_bytes));
    LimitsConfig {
        max_connections: unsigned(spec.max_connections.unwrap_or(10_000)),
        max_message_bytes: u32::try_from(message).unwrap_or(u32::MAX),
        max_in_flight_bytes: bytes(endpoint),
        max_in_flight_messages: unsigned(spec.max_in_flight_messages.unwrap_or(100_000)),
        max_in_flight_bytes_per_connection: bytes(connection),
    }
}

fn route(spec: &RouteSpec) -> RouteConfig {
    RouteConfig {
        name: spec.name.clone(),
        from: spec
            .from
            .iter()
            .map(|source| SourceConfig {
                endpoint: source.endpoint.clone(),
                pattern: source.topic_filter.clone().or_else(|| source.path.clone()).unwrap_or_default(),
            })
            .collect(),
        topic: spec.to.topic.clone(),
        key: spec.key.clone(),
        event_time_pointer: spec.event_time.as_ref().map(|event_time| event_time.json_pointer.clone()),
        json_schema: spec.validation.as_ref().map(|validation| match &validation.json_schema {
            JsonSchemaSource::ConfigMap(config_map) => config_map.path(),
        }),
    }
}

/// Of a number that the schema keeps from being negative.
fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Of a number of bytes that the schema keeps from being negative.
fn bytes(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

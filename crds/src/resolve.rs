//! From a pipeline to the [`EdgeConfig`] of its sidecars: every default filled in, every reference a file.

use crate::edge::{
    Compression, DeliveryConfig, DrainConfig, EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig,
    KafkaAuthentication, KafkaConfig, KafkaTls, LimitsConfig, MqttConfig, PipelineName, ProtocolConfig,
    RouteConfig, SourceConfig, TopicConfig,
};
use crate::pipeline::{
    EndpointSpec, ExposureType, IngestPipeline, IngestPipelineSpec, JsonSchemaSource, Kafka, Protocol, Qos,
    RouteSpec, TopicSpec,
};
use crate::problem::Problem;
use crate::validate::{Budgets, base_path, validate};

/// The port of probes, metrics and ledger (that of Prometheus exporters of `OpenTelemetry`). No endpoint may have it.
pub const ADMIN_PORT: u16 = 9_464;

/// Resolves a pipeline.
///
/// # Errors
/// What [`validate`] finds.
pub fn resolve(pipeline: &IngestPipeline) -> Result<EdgeConfig, Vec<Problem>> {
    let problems = validate(pipeline);
    if !problems.is_empty() {
        return Err(problems);
    }
    let spec = &pipeline.spec;
    let delivery = spec.delivery.clone().unwrap_or_default();
    let drain = spec.edge.as_ref().and_then(|edge| edge.drain.clone()).unwrap_or_default();
    let pod = Budgets::of_pod(spec);
    Ok(EdgeConfig {
        version: EDGE_CONFIG_VERSION,
        pipeline: PipelineName {
            namespace: pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: pipeline.metadata.name.clone().unwrap_or_default(),
        },
        kafka: kafka(&spec.kafka),
        topics: spec.topics.iter().map(topic).collect(),
        endpoints: spec
            .endpoints
            .iter()
            .map(|endpoint| self::endpoint(endpoint, pod))
            .collect::<Result<_, _>>()
            .map_err(|problem| vec![problem])?,
        routes: spec.routes.iter().map(route).collect(),
        delivery: DeliveryConfig {
            ack_timeout_seconds: bounded(delivery.ack_timeout_seconds.unwrap_or(10)),
            dead_letter_topic: delivery.dead_letter.map(|dead_letter| dead_letter.topic),
        },
        drain: DrainConfig {
            accept_seconds: bounded(drain.accept_seconds.unwrap_or(5)),
            client_seconds: bounded(drain.client_seconds.unwrap_or(30)),
            adapter_stop_seconds: adapter_stop_seconds(spec),
        },
        max_in_flight_bytes: bounded(pod),
        admin_port: ADMIN_PORT,
    })
}

/// How long the slowest adapter may take to end.
fn adapter_stop_seconds(spec: &IngestPipelineSpec) -> Option<u32> {
    let adapters = spec.edge.as_ref().and_then(|edge| edge.adapters.as_ref());
    adapters.into_iter().flatten().map(|adapter| bounded(adapter.stop_seconds.unwrap_or(10))).max()
}

/// A number that the schema keeps within the bounds of its type.
fn bounded<T: TryFrom<i64> + Default>(number: impl Into<i64>) -> T {
    T::try_from(number.into()).unwrap_or_default()
}

/// How the operator reaches Kafka: as the sidecars do, with `adminAuthentication` if there is one.
#[must_use]
pub fn admin(spec: &Kafka) -> KafkaConfig {
    let authentication = spec.admin_authentication.clone().or_else(|| spec.authentication.clone());
    kafka(&Kafka { authentication, ..spec.clone() })
}

fn kafka(kafka: &Kafka) -> KafkaConfig {
    let producer = kafka.producer.clone().unwrap_or_default();
    KafkaConfig {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        tls: kafka.tls.as_ref().map(|tls| KafkaTls { ca: tls.ca.as_ref().map(|ca| ca.path()) }),
        authentication: kafka.authentication.as_ref().map(|authentication| {
            let (mechanism, credentials) = authentication.parts();
            KafkaAuthentication {
                mechanism,
                username: credentials.username.clone(),
                password: credentials.password_secret.path(),
            }
        }),
        linger_milliseconds: bounded(producer.linger_milliseconds.unwrap_or(5)),
        compression: producer.compression.unwrap_or(Compression::Lz4),
    }
}

fn topic(topic: &TopicSpec) -> TopicConfig {
    TopicConfig {
        name: topic.name.clone(),
        topic_name: topic.kafka_name().to_owned(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        min_in_sync_replicas: topic.min_in_sync_replicas,
    }
}

fn endpoint(endpoint: &EndpointSpec, pod: i64) -> Result<EndpointConfig, Problem> {
    let path = format!("spec.endpoints['{}']", endpoint.name);
    let protocol = match &endpoint.protocol {
        Protocol::Mqtt(mqtt) => ProtocolConfig::Mqtt(MqttConfig {
            maximum_qos: match mqtt.maximum_qos {
                Some(Qos::AtMostOnce) => 0,
                None | Some(Qos::AtLeastOnce) => 1,
                Some(Qos::ExactlyOnce) => 2,
            },
            receive_maximum: bounded(mqtt.receive_maximum.unwrap_or(1_024)),
        }),
        Protocol::Http(http) => {
            let base_path = base_path(http.base_path.as_deref().unwrap_or("/"))
                .map_err(|wrong| Problem::new(format!("{path}.http.basePath"), wrong, ""))?;
            ProtocolConfig::Http(HttpConfig { base_path })
        }
        // `validate` has refused them already, with advice.
        Protocol::Udp(_) | Protocol::Coap(_) => {
            return Err(Problem::new(path, format!("{} is not served", endpoint.protocol.name()), ""));
        }
    };
    let limits = endpoint.limits.clone().unwrap_or_default();
    let budgets = Budgets::new(&limits, pod);
    Ok(EndpointConfig {
        name: endpoint.name.clone(),
        port: bounded(endpoint.port),
        loopback: endpoint
            .exposure
            .as_ref()
            .is_some_and(|exposure| exposure.type_ == Some(ExposureType::Pod)),
        protocol,
        limits: LimitsConfig {
            max_connections: bounded(limits.max_connections.unwrap_or(10_000)),
            max_message_bytes: bounded(budgets.message),
            max_in_flight_bytes: bounded(budgets.endpoint),
            max_in_flight_messages: bounded(limits.max_in_flight_messages.unwrap_or(100_000)),
            max_in_flight_bytes_per_connection: bounded(budgets.connection),
        },
    })
}

fn route(route: &RouteSpec) -> RouteConfig {
    RouteConfig {
        name: route.name.clone(),
        from: route
            .from
            .iter()
            .map(|source| SourceConfig {
                endpoint: source.endpoint.clone(),
                pattern: source.topic_filter.clone().or_else(|| source.path.clone()).unwrap_or_default(),
            })
            .collect(),
        topic: route.to.topic.clone(),
        key: route.key.clone(),
        event_time_pointer: route.event_time.as_ref().map(|event_time| event_time.json_pointer.clone()),
        json_schema: route.validation.as_ref().map(|validation| match &validation.json_schema {
            JsonSchemaSource::ConfigMap(reference) => reference.path(),
        }),
    }
}

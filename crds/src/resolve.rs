//! From a pipeline to the [`EdgeConfig`] of its sidecars: every default filled in, every reference a file.

mod sessions;

use crate::edge::{
    ADMIN_PORT, AuthenticationConfig, AuthenticationMethodConfig, ClientAuth, Compression, DeliveryConfig,
    DrainConfig, EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig, JwtConfig, KafkaCertificate,
    KafkaConfig, KafkaTls, LimitsConfig, MqttConfig, PipelineName, ProtocolConfig, ProxyProtocolConfig,
    RouteConfig, SourceConfig, TOPIC_ALIAS_MAXIMUM, TlsConfig, TlsVersion, TopicConfig, WILL_GRACE_SECONDS,
};
use crate::pipeline::{
    AuthenticationMethod, EndpointAuthentication, EndpointSpec, EndpointTls, ExposureType, IngestPipeline,
    IngestPipelineSpec, JsonSchemaSource, Kafka, Protocol, Qos, RouteSpec, SaslAuthentication, TopicSpec,
};
use crate::problem::Problem;
use crate::validate::{Budgets, base_path, validate};

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
        sessions: sessions::resolve(spec.sessions.as_ref()),
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
        tls: kafka.tls.as_ref().map(|tls| KafkaTls {
            ca: tls.ca.as_ref().map(|ca| ca.path()),
            certificate: tls.certificate_secret.as_ref().map(|secret| KafkaCertificate {
                chain: secret.path("tls.crt"),
                key: secret.path("tls.key"),
            }),
        }),
        authentication: kafka.authentication.as_ref().map(SaslAuthentication::resolve),
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
                Some(Qos::AtLeastOnce) => 1,
                None | Some(Qos::ExactlyOnce) => 2,
            },
            receive_maximum: bounded(mqtt.receive_maximum.unwrap_or(1_024)),
            topic_alias_maximum: mqtt.topic_alias_maximum.map_or(TOPIC_ALIAS_MAXIMUM, bounded),
            maximum_keep_alive_seconds: mqtt.maximum_keep_alive_seconds.map(bounded),
            session_expiry_seconds: bounded(mqtt.session_expiry_seconds.unwrap_or(0)),
            will_grace_seconds: mqtt.will_grace_seconds.map_or(WILL_GRACE_SECONDS, bounded),
            web_socket_path: mqtt
                .web_socket
                .as_ref()
                .map(|web_socket| web_socket.path.clone().unwrap_or_else(|| "/mqtt".to_owned())),
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
            max_connections_per_second: limits.max_connections_per_second.map(bounded),
        },
        tls: endpoint.tls.as_ref().map(tls),
        proxy_protocol: endpoint
            .proxy_protocol
            .as_ref()
            .map(|proxy| ProxyProtocolConfig { trusted_sources: proxy.trusted_sources.clone() }),
        authentication: endpoint.authentication.as_ref().map(authentication),
    })
}

fn tls(tls: &EndpointTls) -> TlsConfig {
    let client_auth = tls.client_auth.unwrap_or(ClientAuth::None);
    let ca = tls.client_ca_secret.as_ref().filter(|_| client_auth != ClientAuth::None);
    TlsConfig {
        certificate: tls.certificate_secret.path("tls.crt"),
        key: tls.certificate_secret.path("tls.key"),
        client_auth,
        client_ca: ca.map(|ca| ca.path()),
        minimum_version: tls.minimum_version.unwrap_or(TlsVersion::Tls12),
    }
}

/// How senders of an endpoint prove who they are.
#[must_use]
pub fn authentication(authentication: &EndpointAuthentication) -> AuthenticationConfig {
    let method = match &authentication.method {
        AuthenticationMethod::Basic(basic) => AuthenticationMethodConfig::Basic(basic.users_secret.path()),
        AuthenticationMethod::Token(token) => AuthenticationMethodConfig::Token(token.tokens_secret.path()),
        AuthenticationMethod::Jwt(jwt) => AuthenticationMethodConfig::Jwt(JwtConfig {
            jwks: jwt.jwks.path(),
            algorithms: jwt.algorithms.clone(),
            audience: jwt.audience.clone(),
            issuer: jwt.issuer.clone(),
            leeway_seconds: bounded(jwt.leeway_seconds.unwrap_or(30)),
            identity_claim: jwt.identity_claim.clone().unwrap_or_else(|| "sub".to_owned()),
        }),
        AuthenticationMethod::ClientCertificate(certificate) => {
            AuthenticationMethodConfig::ClientCertificate(certificate.identity)
        }
    };
    AuthenticationConfig { method, client_id: authentication.client_id.clone() }
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
        allow: route.allow.clone().unwrap_or_default(),
        event_time_pointer: route.event_time.as_ref().map(|event_time| event_time.json_pointer.clone()),
        json_schema: route.validation.as_ref().map(|validation| match &validation.json_schema {
            JsonSchemaSource::ConfigMap(reference) => reference.path(),
        }),
    }
}

//! The panel of dev mode: what listens where, and lines to copy that send a message to each route.

use std::net::SocketAddr;

use penstock_crds::edge::{EdgeConfig, EndpointConfig, ProtocolConfig, RouteConfig};
use penstock_crds::pattern::{Pattern, Segment};

/// The panel, with a line break at its end. `notice` is what the broker says of itself, `admin` where probes, metrics
/// and the ledger are.
#[must_use]
pub fn render(config: &EdgeConfig, notice: &str, admin: SocketAddr) -> String {
    let admin =
        if admin.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], admin.port())) } else { admin };
    let kafka = config.kafka.bootstrap_servers.join(",");
    let mut lines = vec![
        String::new(),
        format!("Pipeline {} takes messages.", config.pipeline.name),
        notice.to_owned(),
        String::new(),
        format!("Kafka clients  {kafka}"),
        format!("Ledger         curl http://{admin}/ledger    (also /metrics and /readyz)"),
    ];
    for topic in &config.topics {
        let name = &topic.topic_name;
        lines.push(format!("Topic {name}    kcat -b {kafka} -t {name} -C -o beginning -e -J"));
    }
    for endpoint in &config.endpoints {
        lines.push(String::new());
        lines.push(heading(endpoint));
        for route in &config.routes {
            for source in route.from.iter().filter(|source| source.endpoint == endpoint.name) {
                lines.push(format!("  {}", destination(config, route)));
                lines.extend(
                    commands(endpoint, route, &source.pattern).into_iter().map(|line| format!("    {line}")),
                );
            }
        }
    }
    lines.push(String::new());
    lines.join("\n") + "\n"
}

fn heading(endpoint: &EndpointConfig) -> String {
    let protocol = match &endpoint.protocol {
        ProtocolConfig::Mqtt(_) => "MQTT 3.1.1 and 5",
        ProtocolConfig::Http(_) => "HTTP/1.1 and HTTP/2 without TLS",
    };
    let reach = if endpoint.loopback { "on this machine only" } else { "on all addresses" };
    format!("Endpoint {}: {protocol}, port {}, {reach}", endpoint.name, endpoint.port)
}

fn destination(config: &EdgeConfig, route: &RouteConfig) -> String {
    let topic = config.topics.iter().find(|topic| topic.name == route.topic);
    let topic = topic.map_or(route.topic.as_str(), |topic| &topic.topic_name);
    match &route.key {
        Some(key) => format!("route {} to topic {topic}, key {key}:", route.name),
        None => format!("route {} to topic {topic}:", route.name),
    }
}

fn commands(endpoint: &EndpointConfig, route: &RouteConfig, pattern: &str) -> Vec<String> {
    let port = endpoint.port;
    let payload = quoted(&payload(route));
    match &endpoint.protocol {
        ProtocolConfig::Mqtt(mqtt) => {
            let Ok(pattern) = Pattern::topic_filter(pattern) else { return Vec::new() };
            let topic = quoted(&example(&pattern));
            let qos = mqtt.maximum_qos.min(1);
            vec![
                format!("mosquitto_pub -p {port} -q {qos} -t {topic} -m {payload}"),
                format!("mosquitto_pub -p {port} -q {qos} -t {topic} -m {payload} -V mqttv5 -d"),
            ]
        }
        ProtocolConfig::Http(http) => {
            let Ok(pattern) = Pattern::path(pattern) else { return Vec::new() };
            let url = quoted(&format!("http://127.0.0.1:{port}{}/{}", http.base_path, example(&pattern)));
            vec![format!("curl -i --json {payload} {url}")]
        }
    }
}

/// A topic or path that the pattern matches.
#[must_use]
pub fn example(pattern: &Pattern) -> String {
    let levels = pattern.segments().iter().map(|segment| match segment {
        Segment::Literal(text) => text.clone(),
        Segment::Capture(name) => format!("{name}-1"),
        Segment::Any => "any".to_owned(),
        Segment::Rest => "more".to_owned(),
    });
    levels.collect::<Vec<_>>().join("/")
}

/// A payload with an event time where the route looks for one; a schema is not looked into.
fn payload(route: &RouteConfig) -> String {
    let pointer = route.event_time_pointer.as_deref().unwrap_or_default();
    let Some(path) = pointer.strip_prefix('/') else { return r#"{"temperature":21.5}"#.to_owned() };
    let time = serde_json::json!("2026-01-31T12:00:00Z");
    let names = path.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
    let mut value = names.rev().fold(time, |inner, name| serde_json::json!({ name: inner }));
    if let Some(object) = value.as_object_mut() {
        object.entry("temperature").or_insert_with(|| 21.5.into());
    }
    value.to_string()
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use penstock_crds::edge::{
        Compression, DeliveryConfig, DrainConfig, EDGE_CONFIG_VERSION, HttpConfig, KafkaConfig, LimitsConfig,
        MqttConfig, PipelineName, SessionsConfig, SourceConfig, TopicConfig,
    };

    use super::*;

    fn endpoint(name: &str, port: u16, protocol: ProtocolConfig) -> EndpointConfig {
        let limits = LimitsConfig {
            max_connections: 1,
            max_message_bytes: 1,
            max_in_flight_bytes: 1,
            max_in_flight_messages: 1,
            max_in_flight_bytes_per_connection: 1,
            max_connections_per_second: None,
        };
        EndpointConfig {
            name: name.into(),
            port,
            loopback: port == 1883,
            protocol,
            limits,
            tls: None,
            proxy_protocol: None,
            authentication: None,
        }
    }

    fn source(endpoint: &str, pattern: &str) -> SourceConfig {
        SourceConfig { endpoint: endpoint.into(), pattern: pattern.into() }
    }

    #[test]
    fn each_source_of_a_route_has_lines_that_reach_it() {
        let config = EdgeConfig {
            version: EDGE_CONFIG_VERSION,
            pipeline: PipelineName { namespace: "default".into(), name: "quickstart".into() },
            kafka: KafkaConfig {
                bootstrap_servers: vec!["127.0.0.1:9092".into()],
                tls: None,
                authentication: None,
                linger_milliseconds: 5,
                compression: Compression::None,
            },
            topics: vec![TopicConfig {
                name: "telemetry".into(),
                topic_name: "plant.telemetry".into(),
                partitions: None,
                replication_factor: None,
                min_in_sync_replicas: None,
            }],
            endpoints: vec![
                endpoint(
                    "mqtt",
                    1883,
                    ProtocolConfig::Mqtt(MqttConfig {
                        maximum_qos: 1,
                        receive_maximum: 1,
                        topic_alias_maximum: 32,
                        maximum_keep_alive_seconds: None,
                        session_expiry_seconds: 0,
                        will_grace_seconds: 30,
                        web_socket_path: None,
                    }),
                ),
                endpoint("http", 8080, ProtocolConfig::Http(HttpConfig { base_path: "/in".into() })),
            ],
            routes: vec![RouteConfig {
                name: "telemetry".into(),
                from: vec![source("mqtt", "v1/{device}/+/it's/#"), source("http", "/v1/{device}")],
                topic: "telemetry".into(),
                key: Some("{device}".into()),
                allow: std::collections::BTreeMap::new(),
                event_time_pointer: Some("/meta/time~1stamp".into()),
                json_schema: None,
            }],
            delivery: DeliveryConfig { ack_timeout_seconds: 1, dead_letter_topic: None },
            sessions: SessionsConfig::Memory,
            drain: DrainConfig { accept_seconds: 0, client_seconds: 0, adapter_stop_seconds: None },
            max_in_flight_bytes: 1,
            admin_port: 1,
        };
        let text = render(&config, "A notice.", "[::]:9100".parse().unwrap());
        let payload = r#"'{"meta":{"time/stamp":"2026-01-31T12:00:00Z"},"temperature":21.5}'"#;
        assert_eq!(
            text,
            format!(
                r"
Pipeline quickstart takes messages.
A notice.

Kafka clients  127.0.0.1:9092
Ledger         curl http://127.0.0.1:9100/ledger    (also /metrics and /readyz)
Topic plant.telemetry    kcat -b 127.0.0.1:9092 -t plant.telemetry -C -o beginning -e -J

Endpoint mqtt: MQTT 3.1.1 and 5, port 1883, on this machine only
  route telemetry to topic plant.telemetry, key {{device}}:
    mosquitto_pub -p 1883 -q 1 -t 'v1/device-1/any/it'\''s/more' -m {payload}
    mosquitto_pub -p 1883 -q 1 -t 'v1/device-1/any/it'\''s/more' -m {payload} -V mqttv5 -d

Endpoint http: HTTP/1.1 and HTTP/2 without TLS, port 8080, on all addresses
  route telemetry to topic plant.telemetry, key {{device}}:
    curl -i --json {payload} 'http://127.0.0.1:8080/in/v1/device-1'

"
            )
        );
    }
}

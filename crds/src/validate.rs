//! What is wrong with a pipeline beyond schema and CEL: patterns, captures, keys, ports, budgets.

mod authentication;
mod limits;
mod pods;
mod routes;

use std::collections::HashMap;

use crate::admission;
use crate::cidr::Range;
use crate::edge::ADMIN_PORT;
use crate::pipeline::{IngestPipeline, IngestPipelineSpec, Protocol, RedisServers, Sessions};
use crate::problem::{Problem, below, element};
use crate::redis_url::RedisUrl;
use crate::served;

pub(crate) use limits::Budgets;

/// Everything that is wrong with a pipeline; nothing means that [`crate::resolve`] accepts it.
///
/// A pipeline that the API server would not admit is judged by admission alone, so that each rule is told once.
#[must_use]
pub fn validate(pipeline: &IngestPipeline) -> Vec<Problem> {
    let admitted = serde_json::to_value(pipeline)
        .map_err(|error| {
            vec![Problem::new("", format!("cannot be written: {error}"), "report this as a defect")]
        })
        .and_then(admission::admit);
    if let Err(problems) = admitted {
        return problems;
    }
    let spec = &pipeline.spec;
    let mut problems = served::unserved(pipeline);
    addresses(spec, &mut problems);
    topics(spec, &mut problems);
    endpoints(spec, &mut problems);
    authentication::check(spec, &mut problems);
    limits::check(spec, &mut problems);
    pods::check(spec, &mut problems);
    routes::check(spec, &mut problems);
    problems
}

/// That patterns admit ports of five digits, and not all of them are ports.
fn addresses(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    let mut check = |path: String, address: &str| {
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            let wrong = format!("'{address}' has no port of 1 to 65535");
            problems.push(Problem::new(path, wrong, "correct the port"));
        }
    };
    let mut check_all = |path: &str, addresses: &[String]| {
        addresses.iter().enumerate().for_each(|(index, address)| check(element(path, index), address));
    };
    check_all("spec.kafka.bootstrapServers", &spec.kafka.bootstrap_servers);
    let Some(Sessions::Redis(redis)) = &spec.sessions else { return };
    match &redis.servers {
        RedisServers::Sentinel(sentinel) => {
            check_all("spec.sessions.redis.sentinel.addresses", &sentinel.addresses);
        }
        RedisServers::Cluster(cluster) => {
            check_all("spec.sessions.redis.cluster.addresses", &cluster.addresses);
        }
        RedisServers::Url(url) => check("spec.sessions.redis.url".to_owned(), &RedisUrl::parse(url).address),
    }
}

fn topics(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    let mut seen = HashMap::new();
    for (index, topic) in spec.topics.iter().enumerate() {
        if let Some(first) = seen.insert(topic.kafka_name(), &topic.name) {
            problems.push(Problem::new(
                below(&element("spec.topics", index), "topicName"),
                format!("topics {first} and {} are both '{}' in Kafka", topic.name, topic.kafka_name()),
                "keep one of them, and let routes refer to it",
            ));
        }
    }
}

fn endpoints(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let path = element("spec.endpoints", index);
        let tcp = matches!(endpoint.protocol, Protocol::Mqtt(_) | Protocol::Http(_));
        if tcp && endpoint.port == i32::from(ADMIN_PORT) {
            problems.push(Problem::new(
                below(&path, "port"),
                format!("port {ADMIN_PORT} is the sidecar's own, for probes and metrics"),
                "choose another port",
            ));
        }
        let ranges = endpoint.proxy_protocol.iter().flat_map(|proxy| &proxy.trusted_sources);
        for (range, text) in ranges.enumerate() {
            if let Err(error) = text.parse::<Range>() {
                problems.push(Problem::new(
                    element(&below(&below(&path, "proxyProtocol"), "trustedSources"), range),
                    format!("'{text}' {error}"),
                    "write address and length: 10.0.0.0/8",
                ));
            }
        }
        if let Protocol::Http(http) = &endpoint.protocol
            && let Some(base) = &http.base_path
            && let Err(wrong) = base_path(base)
        {
            problems.push(Problem::new(
                below(&below(&path, "http"), "basePath"),
                wrong,
                "use literal segments: /ingest/v1",
            ));
        }
    }
}

/// The base path as [`crate::edge::HttpConfig::base_path`] wants it.
pub(crate) fn base_path(text: &str) -> Result<String, String> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let mut segments = trimmed.split('/');
    if segments.next() != Some("") {
        return Err(format!("'{text}' does not begin with '/'"));
    }
    for segment in segments {
        if segment.is_empty() {
            return Err(format!("'{text}' has an empty segment"));
        }
        if segment.contains(['{', '}', '+', '#', '?', '%', '\0']) || segment == "." || segment == ".." {
            return Err(format!(
                "segment '{}' of '{}' is not literal",
                segment.escape_debug(),
                text.escape_debug()
            ));
        }
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::base_path;

    #[test]
    fn a_base_path_loses_its_last_slash() {
        assert_eq!(base_path("/"), Ok(String::new()));
        assert_eq!(base_path("/a/b/"), Ok("/a/b".to_owned()));
        assert!(base_path("//").is_err());
        assert!(base_path("/{a}").is_err());
    }
}

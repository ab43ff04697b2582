//! What is wrong with a pipeline that CEL cannot say: patterns, captures, ties, and what this version does not serve.

use std::collections::HashMap;

use crate::pattern::{KeyTemplate, MAX_CAPTURES, Pattern, builtin};
use crate::pipeline::{EndpointSpec, IngestPipeline, Protocol, RouteSpec, SourceSpec};
use crate::problem::Problem;
use crate::resolve::ADMIN_PORT;
use crate::served;

/// All problems of a pipeline that the API server admits. Any pipeline is answered, also one that it does not admit.
#[must_use]
pub fn validate(pipeline: &IngestPipeline) -> Vec<Problem> {
    let spec = &pipeline.spec;
    let mut problems = served::unserved(pipeline);
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        validate_endpoint(endpoint, &format!("spec.endpoints[{index}]"), &mut problems);
    }
    let topics: Vec<_> = spec.topics.iter().map(|topic| topic.name.as_str()).collect();
    if let Some(dead_letter) = spec.delivery.as_ref().and_then(|delivery| delivery.dead_letter.as_ref())
        && !topics.contains(&dead_letter.topic.as_str())
    {
        problems.push(undeclared_topic("spec.delivery.deadLetter.topic", &dead_letter.topic));
    }
    let kafka_names = spec.topics.iter().map(|topic| topic.kafka_name());
    for (index, name) in kafka_names.clone().enumerate() {
        if kafka_names.clone().take(index).any(|earlier| earlier == name) {
            let wrong = format!("two topics are {name} in Kafka");
            problems.push(Problem::new(
                format!("spec.topics[{index}]"),
                wrong,
                "declare it once, and refer to it from several routes",
            ));
        }
    }
    let mut patterns = HashMap::new();
    for (index, route) in spec.routes.iter().enumerate() {
        let path = format!("spec.routes[{index}]");
        if !topics.contains(&route.to.topic.as_str()) {
            problems.push(undeclared_topic(&format!("{path}.to.topic"), &route.to.topic));
        }
        validate_route(route, &path, &spec.endpoints, &mut patterns, &mut problems);
    }
    problems
}

fn undeclared_topic(path: &str, name: &str) -> Problem {
    Problem::new(path, format!("no topic is named {name}"), "declare it in spec.topics, or correct the name")
}

fn validate_endpoint(endpoint: &EndpointSpec, path: &str, problems: &mut Vec<Problem>) {
    if endpoint.port == i32::from(ADMIN_PORT) {
        let wrong = format!("port {ADMIN_PORT} is the admin port of every edge pod");
        problems.push(Problem::new(format!("{path}.port"), wrong, "choose another port"));
    }
    if let Protocol::Http(http) = &endpoint.protocol
        && let Some(base_path) = http.base_path.as_deref().filter(|base_path| *base_path != "/")
    {
        let base_path = base_path.strip_suffix('/').unwrap_or(base_path);
        let literal = base_path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|segment| {
                !segment.is_empty() && segment != "." && segment != ".." && !segment.contains(['{', '}', '%'])
            })
        });
        if !literal {
            problems.push(Problem::new(
                format!("{path}.http.basePath"),
                "a base path is '/' or '/a/b': literal segments, none of them empty",
                "move captures to the paths of routes",
            ));
        }
    }
}

/// The patterns seen so far, by endpoint: where each stands.
type Patterns<'a> = HashMap<&'a str, Vec<(Pattern, String)>>;

fn validate_route<'a>(
    route: &'a RouteSpec,
    path: &str,
    endpoints: &[EndpointSpec],
    patterns: &mut Patterns<'a>,
    problems: &mut Vec<Problem>,
) {
    let key = route.key.as_deref().map(KeyTemplate::parse);
    let key = key.transpose().unwrap_or_else(|error| {
        let advice = "write text with captures in braces, such as '{project}/{device}'";
        problems.push(Problem::new(format!("{path}.key"), error.to_string(), advice));
        None
    });
    for (index, source) in route.from.iter().enumerate() {
        let source_path = format!("{path}.from[{index}]");
        let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.name == source.endpoint) else {
            let wrong = format!("no endpoint is named {}", source.endpoint);
            let advice = "declare it in spec.endpoints, or correct the name";
            problems.push(Problem::new(format!("{source_path}.endpoint"), wrong, advice));
            continue;
        };
        let pattern = match pattern(source, endpoint, &source_path) {
            Ok(pattern) => pattern,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        for name in key.iter().flat_map(KeyTemplate::captures) {
            if !is_bound(name, pattern.as_ref(), &endpoint.protocol) {
                problems.push(Problem::new(
                    format!("{path}.key"),
                    format!("from[{index}] does not bind {{{name}}}"),
                    "make it a capture there, or leave it out of the key",
                ));
            }
        }
        let Some(pattern) = pattern else { continue };
        let others = patterns.entry(source.endpoint.as_str()).or_default();
        if let Some((_, other)) = others.iter().find(|(other, _)| other.ties_with(&pattern)) {
            problems.push(Problem::new(
                source_path.clone(),
                format!("matches the same messages as {other}, neither of them more specific"),
                "remove one of the two, or make it more specific",
            ));
        }
        others.push((pattern, source_path));
    }
}

/// The pattern of a source; none for a protocol without addresses.
fn pattern(source: &SourceSpec, endpoint: &EndpointSpec, path: &str) -> Result<Option<Pattern>, Problem> {
    let (field, text, example) = match &endpoint.protocol {
        Protocol::Mqtt(_) => ("topicFilter", &source.topic_filter, "'v1/{project}/{device}/telemetry'"),
        Protocol::Http(_) | Protocol::Coap(_) => ("path", &source.path, "'/v1/{project}/{device}/telemetry'"),
        Protocol::Udp(_) => return Ok(None),
    };
    let field = format!("{path}.{field}");
    let Some(text) = text else {
        let wrong = format!("endpoint {} speaks {}, and needs it", endpoint.name, endpoint.protocol.name());
        return Err(Problem::new(field, wrong, format!("write {example}")));
    };
    let parsed = match &endpoint.protocol {
        Protocol::Mqtt(_) => Pattern::topic_filter(text),
        _ => Pattern::path(text),
    };
    let pattern =
        parsed.map_err(|error| Problem::new(&field, error.to_string(), format!("write {example}")))?;
    if pattern.captures().count() > MAX_CAPTURES {
        let wrong = format!("more than {MAX_CAPTURES} captures");
        return Err(Problem::new(field, wrong, "use '+' for levels that need no name"));
    }
    Ok(Some(pattern))
}

fn is_bound(name: &str, pattern: Option<&Pattern>, protocol: &Protocol) -> bool {
    let builtin = match name {
        builtin::SOURCE => true,
        builtin::CLIENT_ID => matches!(protocol, Protocol::Mqtt(_)),
        _ => false,
    };
    builtin || pattern.is_some_and(|pattern| pattern.captures().any(|capture| capture == name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut manifest = json!({
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "IngestPipeline",
            "metadata": {"name": "t"},
            "spec": {
                "kafka": {"bootstrapServers": ["k:9092"]},
                "topics": [{"name": "t"}],
                "endpoints": [
                    {"name": "mqtt", "port": 1883, "mqtt": {}},
                    {"name": "rest", "port": 8080, "http": {}},
                ],
                "routes": [{
                    "name": "r",
                    "from": [
                        {"endpoint": "mqtt", "topicFilter": "v1/{p}/{d}"},
                        {"endpoint": "rest", "path": "/v1/{p}/{d}"},
                    ],
                    "to": {"topic": "t"},
                    "key": "{p}/{d}",
                }],
            },
        });
        change(&mut manifest);
        let pipeline: IngestPipeline = serde_json::from_value(manifest).unwrap();
        validate(&pipeline).iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn assert_one(change: impl FnOnce(&mut Value), start: &str) {
        let problems = problems(change);
        assert!(matches!(&problems[..], [problem] if problem.starts_with(start)), "{problems:?}");
    }

    #[test]
    fn a_good_pipeline_has_no_problem() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_key_needs_what_every_source_binds() {
        assert_one(
            |m| m["spec"]["routes"][0]["from"][1]["path"] = json!("/v1/{p}"),
            "spec.routes[0].key: from[1] does not bind {d}",
        );
        assert_one(
            |m| m["spec"]["routes"][0]["key"] = json!("{clientId}"),
            "spec.routes[0].key: from[1] does not bind {clientId}",
        );
        assert_eq!(problems(|m| m["spec"]["routes"][0]["key"] = json!("{source}")), Vec::<String>::new());
    }

    #[test]
    fn two_equally_specific_routes_are_refused() {
        let second = json!({"name": "s", "from": [{"endpoint": "mqtt", "topicFilter": "v1/{a}/{b}"}], "to": {"topic": "t"}});
        assert_one(
            |m| m["spec"]["routes"].as_array_mut().unwrap().push(second),
            "spec.routes[1].from[0]: matches the same messages as spec.routes[0].from[0]",
        );
    }

    #[test]
    fn what_is_not_served_is_refused_at_its_place() {
        assert_one(
            |m| m["spec"]["endpoints"][0]["mqtt"]["maximumQoS"] = json!("ExactlyOnce"),
            "spec.endpoints[0].mqtt.maximumQoS: QoS 2 (ExactlyOnce) is not served by this version",
        );
        assert_one(
            |m| m["spec"]["delivery"]["ackAfter"] = json!(["Kafka", "Archive"]),
            "spec.delivery.ackAfter: ",
        );
    }

    #[test]
    fn a_malformed_pattern_names_its_field() {
        assert_one(
            |m| {
                m["spec"]["routes"][0]["from"][0]["topicFilter"] = json!("v1/#/x");
            },
            "spec.routes[0].from[0].topicFilter: '#' stands alone",
        );
        assert_one(
            |m| m["spec"]["endpoints"][1]["http"]["basePath"] = json!("/a/{b}"),
            "spec.endpoints[1].http.basePath",
        );
        assert_one(|m| m["spec"]["endpoints"][1]["port"] = json!(9464), "spec.endpoints[1].port");
    }
}

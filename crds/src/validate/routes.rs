//! Routes: patterns that parse, keys whose captures every source binds, and no two that match equally well.

use std::collections::BTreeMap;

use super::authentication;
use crate::pattern::{KeyTemplate, MAX_CAPTURES, Pattern, builtin};
use crate::pipeline::{EndpointSpec, IngestPipelineSpec, Protocol, RouteSpec, SourceSpec};
use crate::problem::{Problem, below, element};

/// The patterns of each endpoint that were read, and where each stands.
type Patterns<'s> = BTreeMap<&'s str, Vec<(Pattern, String)>>;

/// Checks all routes. That their endpoints are declared and their sources fit them, CEL has seen to.
pub(super) fn check(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    let mut patterns = Patterns::new();
    for (index, route) in spec.routes.iter().enumerate() {
        let path = element("spec.routes", index);
        let key = key(route, &path, problems);
        let allow = authentication::allow(route, &path, problems);
        for (index, source) in route.from.iter().enumerate() {
            let named = |endpoint: &&EndpointSpec| endpoint.name == source.endpoint;
            let Some(endpoint) = spec.endpoints.iter().find(named) else { continue };
            let pattern = match pattern(source, &endpoint.protocol, &element(&below(&path, "from"), index)) {
                Ok(pattern) => pattern,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            for name in key.iter().flat_map(KeyTemplate::captures) {
                if !is_bound(name, pattern.as_ref().map(|(pattern, _)| pattern), &endpoint.protocol) {
                    let wrong = format!("from[{index}] does not bind {{{name}}}");
                    let advice = "make it a capture there, or leave it out of the key";
                    problems.push(Problem::new(below(&path, "key"), wrong, advice));
                }
            }
            let bound = pattern.as_ref().map(|(pattern, _)| pattern);
            authentication::source(&allow, index, endpoint, bound, &path, problems);
            patterns.entry(&source.endpoint).or_default().extend(pattern);
        }
    }
    patterns.values().for_each(|patterns| ties(patterns, problems));
}

fn key(route: &RouteSpec, path: &str, problems: &mut Vec<Problem>) -> Option<KeyTemplate> {
    match KeyTemplate::parse(route.key.as_deref()?) {
        Ok(key) => Some(key),
        Err(error) => {
            let advice = "write text with captures in braces, such as '{project}/{device}'";
            problems.push(Problem::new(below(path, "key"), error.to_string(), advice));
            None
        }
    }
}

/// The pattern of a source and where it stands; none for a protocol without addresses.
fn pattern(
    source: &SourceSpec,
    protocol: &Protocol,
    path: &str,
) -> Result<Option<(Pattern, String)>, Problem> {
    let (field, text, example) = match protocol {
        Protocol::Mqtt(_) => ("topicFilter", &source.topic_filter, "'v1/{project}/{device}/telemetry'"),
        Protocol::Http(_) | Protocol::Coap(_) => ("path", &source.path, "'/v1/{project}/{device}/telemetry'"),
        Protocol::Udp(_) => return Ok(None),
    };
    let Some(text) = text else { return Ok(None) };
    let path = below(path, field);
    let parsed = match protocol {
        Protocol::Mqtt(_) => Pattern::topic_filter(text),
        _ => Pattern::path(text),
    };
    let pattern =
        parsed.map_err(|error| Problem::new(&path, error.to_string(), format!("write {example}")))?;
    if pattern.captures().count() > MAX_CAPTURES {
        let advice = "use '+' for levels that need no name";
        return Err(Problem::new(path, format!("more than {MAX_CAPTURES} captures"), advice));
    }
    Ok(Some((pattern, path)))
}

fn is_bound(name: &str, pattern: Option<&Pattern>, protocol: &Protocol) -> bool {
    let builtin = match name {
        builtin::SOURCE => true,
        builtin::CLIENT_ID => matches!(protocol, Protocol::Mqtt(_)),
        _ => false,
    };
    builtin || pattern.is_some_and(|pattern| pattern.captures().any(|capture| capture == name))
}

fn ties(patterns: &[(Pattern, String)], problems: &mut Vec<Problem>) {
    for (index, (pattern, path)) in patterns.iter().enumerate() {
        let tied = patterns.iter().take(index).find(|(other, _)| other.ties_with(pattern));
        if let Some((_, other)) = tied {
            problems.push(Problem::new(
                path,
                format!("matches the same messages as {other}, neither of them more specific"),
                "remove one of the two, or make it more specific",
            ));
        }
    }
}

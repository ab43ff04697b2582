//! Authentication and what is allowed: templates that parse, over names that there are.

use std::collections::HashSet;

use crate::identity::{ClientIdPattern, IdentityTemplate};
use crate::pattern::{Pattern, builtin};
use crate::pipeline::{AuthenticationMethod, EndpointSpec, IngestPipelineSpec, Protocol, RouteSpec};
use crate::problem::{Problem, below, element};

/// Checks the authentication of all endpoints. That it fits the protocol, CEL has seen to.
pub(super) fn check(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let Some(authentication) = &endpoint.authentication else { continue };
        let path = below(&element("spec.endpoints", index), "authentication");
        if let AuthenticationMethod::Jwt(jwt) = &authentication.method {
            let mut seen = HashSet::new();
            if let Some(twice) = jwt.algorithms.iter().find(|one| !seen.insert(format!("{one:?}"))) {
                let path = below(&below(&path, "jwt"), "algorithms");
                problems.push(Problem::new(path, format!("{twice:?} is there twice"), "remove one"));
            }
        }
        let Some(pattern) = &authentication.client_id else { continue };
        let path = below(&path, "clientId");
        match ClientIdPattern::parse(pattern) {
            Ok(pattern) => {
                for name in pattern.claims() {
                    problems.extend(without_claims(endpoint, name, &path));
                }
            }
            Err(error) => {
                let advice = "write text with {identity} or {claims.NAME}, such as '{identity}-*'";
                problems.push(Problem::new(path, error.to_string(), advice));
            }
        }
    }
}

/// Only JSON Web Tokens have claims.
fn without_claims(endpoint: &EndpointSpec, name: &str, path: &str) -> Option<Problem> {
    let method = endpoint.authentication.as_ref().map(|authentication| &authentication.method);
    (!matches!(method, Some(AuthenticationMethod::Jwt(_)))).then(|| {
        let wrong = format!("senders of endpoint {} have no claim '{name}'", endpoint.name);
        Problem::new(path, wrong, "use {identity}, or authentication.jwt on that endpoint")
    })
}

/// Reads `allow` of a route. `path` is the route's.
pub(super) fn allow(
    route: &RouteSpec,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(String, IdentityTemplate)> {
    let mut read = Vec::new();
    for (capture, template) in route.allow.iter().flatten() {
        match IdentityTemplate::parse(template) {
            Ok(template) => read.push((capture.clone(), template)),
            Err(error) => {
                let advice = "write text with {identity} or {claims.NAME}, such as '{claims.project}'";
                problems.push(Problem::new(below(&below(path, "allow"), capture), error.to_string(), advice));
            }
        }
    }
    read
}

/// Whether a source binds every capture that `allow` names, and its endpoint knows every claim.
pub(super) fn source(
    allow: &[(String, IdentityTemplate)],
    index: usize,
    endpoint: &EndpointSpec,
    pattern: Option<&Pattern>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    for (capture, template) in allow {
        let path = below(&below(path, "allow"), capture);
        let client_id = capture == builtin::CLIENT_ID && matches!(endpoint.protocol, Protocol::Mqtt(_));
        let bound = pattern.is_some_and(|pattern| pattern.captures().any(|name| name == capture));
        if !bound && !client_id {
            let wrong = format!("from[{index}] does not bind {{{capture}}}");
            let advice = "make it a capture there, or split the route in two";
            problems.push(Problem::new(&path, wrong, advice));
        }
        problems.extend(template.claims().find_map(|name| without_claims(endpoint, name, &path)));
    }
}

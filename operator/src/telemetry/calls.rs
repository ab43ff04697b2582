//! Counting the calls of the API server: a layer around kube's client. A call that is repeated at once (429, 503, 504)
//! counts once, with its last answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, Uri};
use tower::{Layer, Service};

use super::metrics::Metrics;

/// What the operator asks for, by the plural and subresource of a path. Anything else counts as `other`, so that the
/// number of series is bounded.
const RESOURCES: [&str; 18] = [
    "ingestpipelines",
    "ingestpipelines/status",
    "configmaps",
    "secrets",
    "services",
    "serviceaccounts",
    "pods",
    "namespaces",
    "deployments",
    "deployments/scale",
    "replicasets",
    "poddisruptionbudgets",
    "networkpolicies",
    "horizontalpodautoscalers",
    "events",
    "leases",
    "customresourcedefinitions",
    "endpointslices",
];

/// One call, as RBAC names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// Plural, and subresource if there is one; `discovery` for paths without a resource.
    pub resource: &'static str,
}

impl Call {
    /// The call that a request makes.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let mut segments = uri.path().split('/').filter(|segment| !segment.is_empty()).peekable();
        // api/VERSION or apis/GROUP/VERSION
        match segments.next() {
            Some("api") => drop(segments.next()),
            Some("apis") => drop((segments.next(), segments.next())),
            _ => return Self { verb: verb(method, uri, true), resource: "discovery" },
        }
        let mut rest: Vec<_> = segments.collect();
        // namespaces/NAMESPACE before another resource
        if rest.len() > 2 && rest.first() == Some(&"namespaces") {
            rest.drain(..2);
        }
        let named = rest.len() > 1;
        let resource = match rest.as_slice() {
            [] => "discovery",
            [plural] | [plural, _] => known(plural),
            [plural, _, subresource, ..] => known(&format!("{plural}/{subresource}")),
        };
        Self { verb: verb(method, uri, named || resource == "discovery"), resource }
    }
}

fn known(resource: &str) -> &'static str {
    RESOURCES.into_iter().find(|known| *known == resource).unwrap_or("other")
}

fn verb(method: &Method, uri: &Uri, named: bool) -> &'static str {
    let watches = || {
        uri.query().is_some_and(|query| {
            query
                .split('&')
                .any(|pair| pair.starts_with("watch=") && !matches!(pair, "watch=false" | "watch=0"))
        })
    };
    match *method {
        Method::GET if watches() => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(StatusCode),
    /// Without one: no connection, or it broke.
    None,
    /// Nobody waited for it any more.
    Dropped,
}

impl Answer {
    /// As the label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Status(status) if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS => "ok",
            Self::Status(StatusCode::UNAUTHORIZED) => "unauthorized",
            Self::Status(StatusCode::FORBIDDEN) => "forbidden",
            Self::Status(StatusCode::NOT_FOUND) => "not_found",
            Self::Status(StatusCode::CONFLICT) => "conflict",
            Self::Status(StatusCode::GONE) => "gone",
            Self::Status(StatusCode::UNPROCESSABLE_ENTITY) => "invalid",
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => "throttled",
            Self::Status(status) if status.is_server_error() => "server_error",
            Self::Status(_) => "refused",
            Self::None => "no_answer",
            Self::Dropped => "dropped",
        }
    }
}

/// Counts in the metrics what passes.
#[derive(Clone, Debug)]
pub struct Count(pub Arc<Metrics>);

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, metrics: Arc::clone(&self.0) }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let call = Call::of(request.method(), request.uri());
        let open = Open { metrics: Arc::clone(&self.metrics), call, answer: Answer::Dropped };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            open.ended(answer.as_ref().map_or(Answer::None, |response| Answer::Status(response.status())));
            answer
        })
    }
}

/// A call that is counted when this is dropped.
struct Open {
    metrics: Arc<Metrics>,
    call: Call,
    answer: Answer,
}

impl Open {
    fn ended(mut self, answer: Answer) {
        self.answer = answer;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Call { verb, resource } = self.call;
        self.metrics.api_call(verb, resource, self.answer.label());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_as_rbac_names_them() {
        let table = [
            ("GET", "/apis/penstock.dev/v1alpha1/ingestpipelines?limit=500", "list", "ingestpipelines"),
            (
                "GET",
                "/apis/penstock.dev/v1alpha1/ingestpipelines?watch=true&timeoutSeconds=290",
                "watch",
                "ingestpipelines",
            ),
            (
                "GET",
                "/apis/penstock.dev/v1alpha1/namespaces/iot/ingestpipelines?watch=0",
                "list",
                "ingestpipelines",
            ),
            (
                "PATCH",
                "/apis/penstock.dev/v1alpha1/namespaces/iot/ingestpipelines/a/status?force=true",
                "patch",
                "ingestpipelines/status",
            ),
            ("GET", "/api/v1/namespaces/iot/secrets/a", "get", "secrets"),
            ("POST", "/api/v1/namespaces/iot/configmaps", "create", "configmaps"),
            ("DELETE", "/api/v1/namespaces/iot/configmaps/a", "delete", "configmaps"),
            ("DELETE", "/api/v1/namespaces/iot/configmaps", "deletecollection", "configmaps"),
            ("GET", "/api/v1/namespaces", "list", "namespaces"),
            ("GET", "/api/v1/namespaces/iot", "get", "namespaces"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/iot/leases/a", "update", "leases"),
            (
                "GET",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/a",
                "get",
                "customresourcedefinitions",
            ),
            ("GET", "/apis/example.com/v1/namespaces/iot/secret-things/a", "get", "other"),
            ("GET", "/apis/penstock.dev/v1alpha1", "get", "discovery"),
            ("GET", "/version", "get", "discovery"),
            ("GET", "/", "get", "discovery"),
        ];
        for (method, uri, verb, resource) in table {
            let call = Call::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(call, Call { verb, resource }, "{method} {uri}");
        }
    }
}

//! Every CEL rule of the resource: combinations that can never work. The API server refuses them at admission, and
//! [`crate::admission`] does the same offline.
//!
//! A message is `what is wrong; what to do`. None names the culprit in a list: the server takes the name of an element
//! that a rule finds for unbounded, and refuses the cost. Offline it is found by other means. No rule looks at the old
//! object: a change back must always be admitted. `has(…)` is false for `null`, which the server prunes.

use serde_json::{Value, json};

/// Longest name of a pipeline: names of its children are longer, and labels end at 63 characters.
pub const MAX_NAME_LENGTH: usize = 52;

/// What a connection needs beside its largest message: read buffer, headers, bookkeeping.
pub const CONNECTION_HEADROOM_BYTES: i64 = 16_384;

struct Rule {
    /// Relative path of the field to blame; empty for the object itself.
    field: &'static str,
    rule: String,
    wrong: &'static str,
    advice: String,
}

fn rule(
    field: &'static str,
    wrong: &'static str,
    advice: impl Into<String>,
    rule: impl Into<String>,
) -> Rule {
    Rule { field, rule: rule.into(), wrong, advice: advice.into() }
}

impl Rule {
    fn into_json(self) -> Value {
        let mut json = json!({"rule": self.rule, "message": format!("{}; {}", self.wrong, self.advice)});
        if !self.field.is_empty() {
            json["fieldPath"] = json!(self.field);
        }
        json
    }
}

fn all(rules: impl IntoIterator<Item = Rule>) -> Value {
    rules.into_iter().map(Rule::into_json).collect()
}

/// Of the resource itself; a schema sees nothing of `metadata` but the name.
pub(crate) fn root() -> Value {
    all([rule(
        "",
        "the name of the pipeline is too long",
        format!("use at most {MAX_NAME_LENGTH} characters, as names of its children begin with it"),
        format!("self.metadata.name.size() <= {MAX_NAME_LENGTH}"),
    )])
}

/// Of `spec`.
pub(crate) fn spec() -> Value {
    const DATAGRAMS: &str = "(has(e.udp) || has(e.coap))";
    let shape = "has(e.mqtt) ? has(s.topicFilter) && !has(s.path) : \
                 has(e.udp) ? !has(s.topicFilter) && !has(s.path) : has(s.path) && !has(s.topicFilter)";
    let others = DATAGRAMS.replace("e.", "o.");
    let shared = format!("self.endpoints.exists_one(o, o.port == e.port && {DATAGRAMS} == {others})");
    all([
        rule(
            ".routes",
            "a route takes from an endpoint that is not declared",
            "declare it in endpoints, or correct the name",
            "self.routes.all(r, r.from.all(s, self.endpoints.exists(e, e.name == s.endpoint)))",
        ),
        rule(
            ".routes",
            "a route has a source that does not fit its endpoint",
            "give topicFilter for mqtt, path for http and coap, and neither for udp",
            format!(
                "self.routes.all(r, r.from.all(s, self.endpoints.all(e, e.name != s.endpoint || ({shape}))))"
            ),
        ),
        rule(
            ".routes",
            "a route leads to a topic that is not declared",
            "declare it in topics, or correct the name",
            "self.routes.all(r, self.topics.exists(t, t.name == r.to.topic))",
        ),
        rule(
            ".routes",
            "a route allows by identity, and takes from an endpoint that asks nobody who it is",
            "give the endpoint authentication, or leave allow out",
            "self.routes.all(r, !has(r.allow) || r.from.all(s, self.endpoints.all(e, e.name != s.endpoint \
             || has(e.authentication))))",
        ),
        rule(
            ".endpoints",
            "an endpoint names senders by their certificates, and does not ask for one",
            "set tls with clientAuth: Required and clientCaSecret",
            "self.endpoints.all(e, !has(e.authentication) || !has(e.authentication.clientCertificate) \
             || (has(e.tls) && has(e.tls.clientAuth) && e.tls.clientAuth == 'Required'))",
        ),
        rule(
            ".endpoints",
            "client identifiers are of mqtt endpoints only",
            "remove authentication.clientId",
            "self.endpoints.all(e, has(e.mqtt) || !has(e.authentication) || !has(e.authentication.clientId))",
        ),
        rule(
            ".delivery.deadLetter.topic",
            "the dead letter leads to a topic that is not declared",
            "declare it in topics, or correct the name",
            "!has(self.delivery) || !has(self.delivery.deadLetter) \
             || self.topics.exists(t, t.name == self.delivery.deadLetter.topic)",
        ),
        rule(
            ".endpoints",
            "two endpoints share a port and a transport",
            "give each its own port (mqtt and http are on TCP, udp and coap on UDP)",
            format!("self.endpoints.all(e, {shared})"),
        ),
        rule(
            ".endpoints",
            "a udp endpoint without acknowledgement cannot give more than AtMostOnce",
            "set udp.acknowledgement: AfterPersist, or delivery.qos: AtMostOnce",
            "(has(self.delivery) && has(self.delivery.qos) && self.delivery.qos == 'AtMostOnce') \
             || self.endpoints.all(e, !has(e.udp) \
             || (has(e.udp.acknowledgement) && e.udp.acknowledgement == 'AfterPersist'))",
        ),
        rule(
            ".sessions",
            "sessions in the memory of a pod are lost to clients that come back to another pod",
            "set sessions.redis, or edge.replicas: 1 without autoscaling, or sessionExpirySeconds: 0",
            "(has(self.sessions) && has(self.sessions.redis)) || (!has(self.autoscaling) && has(self.edge) \
             && has(self.edge.replicas) && self.edge.replicas <= 1) || self.endpoints.all(e, !has(e.mqtt) \
             || !has(e.mqtt.sessionExpirySeconds) || e.mqtt.sessionExpirySeconds == 0)",
        ),
        rule(
            ".edge.replicas",
            "the number of pods is both fixed and scaled",
            "remove edge.replicas or autoscaling",
            "!has(self.autoscaling) || !has(self.edge) || !has(self.edge.replicas)",
        ),
    ])
}

/// Of a topic.
pub(crate) fn topic() -> Value {
    all([
        rule(
            ".config",
            "min.insync.replicas has a field of its own",
            "set minInSyncReplicas instead",
            "!has(self.config) || !('min.insync.replicas' in self.config)",
        ),
        rule(
            ".minInSyncReplicas",
            "more copies must be in sync than there are",
            "set minInSyncReplicas to at most replicationFactor; one less lets a broker be away",
            "!has(self.minInSyncReplicas) || !has(self.replicationFactor) \
             || self.minInSyncReplicas <= self.replicationFactor",
        ),
        rule(
            ".topicName",
            "Kafka has no topics named '.' or '..'",
            "choose another topicName",
            "!has(self.topicName) || (self.topicName != '.' && self.topicName != '..')",
        ),
    ])
}

/// Of an endpoint's `tls`.
pub(crate) fn endpoint_tls() -> Value {
    all([rule(
        ".clientAuth",
        "certificates of senders cannot be checked without those that sign them",
        "set clientCaSecret, or clientAuth: None",
        "!has(self.clientAuth) || self.clientAuth == 'None' || has(self.clientCaSecret)",
    )])
}

/// Of an endpoint's `limits`.
pub(crate) fn limits() -> Value {
    all([
        rule(
            ".maxInFlightBytesPerConnection",
            "a connection could not hold one message of the largest kind",
            format!("set it to at least maxMessageBytes + {CONNECTION_HEADROOM_BYTES}, or leave it out"),
            format!(
                "!has(self.maxMessageBytes) || !has(self.maxInFlightBytesPerConnection) \
                 || self.maxMessageBytes + {CONNECTION_HEADROOM_BYTES} <= self.maxInFlightBytesPerConnection"
            ),
        ),
        rule(
            ".maxInFlightBytesPerConnection",
            "one connection could hold more than the whole endpoint",
            "lower it, or raise maxInFlightBytes",
            "!has(self.maxInFlightBytes) || !has(self.maxInFlightBytesPerConnection) \
             || self.maxInFlightBytesPerConnection <= self.maxInFlightBytes",
        ),
    ])
}

/// Of an endpoint's `exposure`.
pub(crate) fn exposure() -> Value {
    all([
        rule(
            ".externalTrafficPolicy",
            "only NodePort and LoadBalancer have traffic from outside",
            "remove externalTrafficPolicy, or change type",
            "!has(self.externalTrafficPolicy) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",
        ),
        rule(
            ".annotations",
            "an endpoint of type Pod has no Service to annotate",
            "remove annotations, or change type",
            "!has(self.annotations) || !has(self.type) || self.type != 'Pod'",
        ),
    ])
}

/// Of `delivery`.
pub(crate) fn delivery() -> Value {
    all([rule(
        ".ackAfter",
        "a message that Kafka has not confirmed is never acknowledged",
        "add Kafka to ackAfter, or leave it out",
        "!has(self.ackAfter) || 'Kafka' in self.ackAfter",
    )])
}

/// Of `sessions.redis`.
pub(crate) fn redis() -> Value {
    all([rule(
        ".tls",
        "a URL that begins with redis:// is one without TLS",
        "begin it with rediss://, or remove tls",
        "!has(self.tls) || !has(self.url) || self.url.startsWith('rediss://')",
    )])
}

/// Of `autoscaling`.
pub(crate) fn autoscaling() -> Value {
    all([rule(
        ".minReplicas",
        "the fewest pods are more than the most",
        "set minReplicas to at most maxReplicas",
        "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
    )])
}

/// Of `networkPolicy`.
pub(crate) fn network_policy() -> Value {
    all([rule(
        ".allowedSources",
        "without a NetworkPolicy nothing holds other sources off",
        "remove allowedSources, or set mode: Managed",
        "!has(self.allowedSources) || !has(self.mode) || self.mode != 'Disabled'",
    )])
}

/// Of an adapter.
pub(crate) fn adapter() -> Value {
    all([rule(
        ".name",
        "the sidecar's own container is named penstock",
        "choose another name",
        "self.name != 'penstock'",
    )])
}

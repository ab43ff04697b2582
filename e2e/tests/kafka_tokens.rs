//! OAUTHBEARER: sidecar and operator show brokers a token that an authorization server gives them, and the next one before
//! it expires.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use penstock_crds::pipeline::Kafka as KafkaSpec;
use penstock_e2e::authorization::AuthorizationServer;
use penstock_e2e::clients::curl;
use penstock_e2e::pki::Authority;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};
use penstock_operator::reason::Reason;
use penstock_operator::topics::{Access, AllowedServers, Clusters, KafkaError};
use serde_json::{Value, json};

const PATH: &str = "/v1/p/d/telemetry";
const SECRET: &str = "opens=sesame & more";
/// What the server is told of it: the form of RFC 6749 §2.3.1.
const ENCODED: &str = "opens%3Dsesame%20%26%20more";
/// With a fifth of it left, a connection still has more than the second that brokers ask for between two tokens.
const LIFETIME: Duration = Duration::from_secs(12);

struct Parts {
    server: AuthorizationServer,
    authority: Authority,
    kafka: Kafka,
}

impl Parts {
    fn start() -> Self {
        let authority = Authority::fresh();
        let server = AuthorizationServer::start(&authority, LIFETIME.as_secs());
        server.know("edge", ENCODED);
        let kafka = Kafka::single().user("unused", "unused").tls(&authority).tokens(server.jwks()).start();
        Self { server, authority, kafka }
    }

    /// `spec.kafka.authentication`.
    fn authentication(&self) -> Value {
        json!({"oauthBearer": {
            "tokenEndpoint": self.server.url(),
            "clientId": "edge",
            "clientSecret": {"name": "edge"},
            "scope": "kafka",
            "ca": {"name": "sso-ca"},
        }})
    }

    fn sidecar(&self, topic: &str, sso_ca: &Authority) -> penstock_e2e::sidecar::Builder {
        let pipeline = Pipeline::on(&self.kafka.bootstrap(), topic)
            .set("/spec/kafka/tls/ca", json!({"name": "kafka-ca"}))
            .set("/spec/kafka/authentication", self.authentication());
        Sidecar::run(&pipeline)
            .secret("kafka-ca", &[("ca.crt", &self.authority.read("ca.crt"))])
            .secret("sso-ca", &[("ca.crt", &sso_ca.read("ca.crt"))])
            .secret("edge", &[("clientSecret", &format!("{SECRET}\n"))])
    }
}

fn post(sidecar: &Sidecar) -> u16 {
    curl(sidecar.http(), PATH, &["-d", "x"]).status
}

#[test]
fn a_sidecar_writes_with_a_token_and_shows_the_next_one_before_it_expires() {
    let parts = Parts::start();
    let topic = parts.kafka.create_topic("tokens", 3);
    parts.kafka.allow("edge", &["Write", "Describe", "DescribeConfigs"], &topic);
    let sidecar = parts.sidecar(&topic, &parts.authority).start();
    let started = Instant::now();
    let mut stored = 0;
    // The broker ends a connection whose token has expired.
    until("two more tokens", SOON, || {
        assert_eq!(post(&sidecar), 200);
        stored += 1;
        (parts.server.given() >= 3).then_some(())
    });
    assert!(started.elapsed() > LIFETIME, "{:?} for three of them", started.elapsed());
    assert_eq!(parts.kafka.read(&topic).len(), stored);
    let log = sidecar.log();
    assert!(!log.contains("sesame") && !log.contains("eyJ"), "{log}");
    // A login on a connection in use (KIP-368) may cost the connection, when requests cross it; the client then connects anew.
    assert!(!log.contains("check spec.kafka.authentication"), "refused credentials in {log}");
    assert_eq!(log.matches("Kafka at").count(), log.matches("Kafka is well again").count(), "{log}");
}

#[test]
fn without_a_token_senders_are_told_to_come_again_and_the_log_says_why() {
    let parts = Parts::start();
    let topic = parts.kafka.create_topic("no-token", 3);
    parts.kafka.allow("edge", &["Write", "Describe", "DescribeConfigs"], &topic);
    parts.server.know("edge", "another");
    let refused = parts.sidecar(&topic, &parts.authority).not_ready().start();
    let stranger = parts.sidecar(&topic, &Authority::fresh()).not_ready().start();
    assert_eq!((post(&refused), post(&stranger)), (503, 503));
    refused.wait_log(
        "it answers 401 Unauthorized: invalid_client: who are you?: check oauthBearer, its clientId",
    );
    stranger.wait_log("check oauthBearer.tokenEndpoint, its CA");
    assert!(!refused.log().contains("sesame"), "{}", refused.log());
    parts.server.know("edge", ENCODED);
    until("a token at the next attempt", SOON, || (post(&refused) == 200).then_some(()));
}

#[test]
fn the_operator_asks_kafka_with_a_token_and_tells_why_it_has_none() {
    let parts = Parts::start();
    let secret = |name: &str, key: &str, value: String| {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret.data = Some([(key.to_owned(), ByteString(value.into_bytes()))].into());
        secret
    };
    let ca = parts.authority.read("ca.crt");
    let secrets = [
        secret("kafka-ca", "ca.crt", ca.clone()),
        secret("sso-ca", "ca.crt", ca),
        secret("edge", "clientSecret", SECRET.to_owned()),
    ];
    let kafka: KafkaSpec = serde_json::from_value(json!({
        "bootstrapServers": [parts.kafka.bootstrap()],
        "tls": {"ca": {"name": "kafka-ca"}},
        "authentication": parts.authentication(),
    }))
    .unwrap();
    let access = Access::new("iot", &kafka, &secrets).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let look = |clusters: &Clusters| -> Result<String, KafkaError> {
        runtime.block_on(clusters.look(&access, &BTreeSet::new())).map(|seen| seen.cluster_id)
    };
    let clusters = Clusters::new(AllowedServers::default());
    assert!(!look(&clusters).unwrap().is_empty());
    assert_eq!(parts.server.given(), 1);

    // Kafka alone is allowed.
    let brokers = AllowedServers::new(vec![parts.kafka.bootstrap().parse().unwrap()]);
    let error = look(&Clusters::new(brokers)).unwrap_err();
    assert_eq!(error.reason(), Reason::BootstrapServersNotAllowed);
    assert!(
        error
            .to_string()
            .starts_with("spec.kafka.authentication: the operator may not connect to localhost:")
    );
    assert_eq!(parts.server.given(), 1);

    parts.server.know("edge", "another");
    let clusters = Clusters::new(AllowedServers::default());
    for _ in 0..2 {
        let error = look(&clusters).unwrap_err();
        assert_eq!(error.reason(), Reason::KafkaAuthenticationFailed, "{error}");
        assert!(error.is_retryable());
        let told = error.to_string();
        assert!(told.starts_with("spec.kafka.authentication: no token from https://localhost:"), "{told}");
        assert!(told.contains("401 Unauthorized: invalid_client") && !told.contains("sesame"), "{told}");
    }
    parts.server.know("edge", ENCODED);
    until("the next look", SOON, || look(&clusters).ok());

    // Nobody has looked for longer than the token lives.
    let had = Instant::now();
    until("the token has expired", SOON, || (had.elapsed() > LIFETIME).then_some(()));
    look(&clusters).unwrap();
}

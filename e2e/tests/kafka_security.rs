//! Brokers that are reached by TLS, SASL and certificates, and that allow a user what an ACL says and no more.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use penstock_e2e::clients::curl;
use penstock_e2e::pki::Authority;
use penstock_e2e::until::{SOON, until};
use penstock_e2e::{Kafka, Pipeline, Sidecar};
use serde_json::{Value, json};

const PATH: &str = "/v1/p/d/telemetry";
const WRITE: [&str; 3] = ["Write", "Describe", "DescribeConfigs"];

struct Secured {
    kafka: Kafka,
    authority: Authority,
}

fn secured() -> Secured {
    let authority = Authority::fresh();
    let kafka = Kafka::single().user("telemetry", "opens-sesame").tls(&authority).start();
    Secured { kafka, authority }
}

impl Secured {
    fn pipeline(&self, bootstrap: &str, topic: &str, authentication: Option<Value>) -> Pipeline {
        let pipeline = Pipeline::on(bootstrap, topic).set("/spec/kafka/tls/ca", json!({"name": "kafka-ca"}));
        match authentication {
            Some(authentication) => pipeline.set("/spec/kafka/authentication", authentication),
            None => pipeline.set("/spec/kafka/tls/certificateSecret", json!({"name": "kafka-client"})),
        }
    }

    fn sidecar(&self, pipeline: &Pipeline, ca: &Authority) -> penstock_e2e::sidecar::Builder {
        Sidecar::run(pipeline)
            .secret("kafka-ca", &[("ca.crt", &ca.read("ca.crt"))])
            .secret("telemetry-kafka", &[("password", "opens-sesame\n")])
    }
}

#[test]
fn every_mechanism_writes_over_tls_what_its_acl_allows() {
    let secured = secured();
    let Secured { kafka, authority } = &secured;
    let credentials = json!({"username": "telemetry", "passwordSecret": {"name": "telemetry-kafka"}});
    authority.issue("edge", "/CN=edge", &[]);
    for mechanism in ["scramSha512", "scramSha256", "plain", "certificate"] {
        let topic = kafka.create_topic(mechanism, 3);
        let by_certificate = mechanism == "certificate";
        let user = if by_certificate { "CN=edge" } else { "telemetry" };
        kafka.allow(user, &WRITE, &topic);
        let bootstrap = if by_certificate { kafka.mutual_tls() } else { kafka.bootstrap() };
        let authentication = (!by_certificate).then(|| json!({mechanism: credentials}));
        let pipeline = secured.pipeline(&bootstrap, &topic, authentication);
        let builder = secured.sidecar(&pipeline, authority).secret(
            "kafka-client",
            &[("tls.crt", &authority.read("edge.crt")), ("tls.key", &authority.read("edge.key"))],
        );
        let sidecar = builder.start();
        let response = curl(sidecar.http(), PATH, &["-d", mechanism]);
        assert_eq!(response.status, 200, "{mechanism}: {response:?}");
        assert_eq!(kafka.read(&topic).len(), 1);
        let log = sidecar.log();
        assert!(!log.contains("opens-sesame") && !log.contains("PRIVATE KEY"), "{log}");
    }
}

#[test]
fn a_topic_without_an_acl_takes_nothing() {
    let secured = secured();
    let topic = secured.kafka.create_topic("no-acl", 3);
    let credentials = json!({"username": "telemetry", "passwordSecret": {"name": "telemetry-kafka"}});
    let pipeline =
        secured.pipeline(&secured.kafka.bootstrap(), &topic, Some(json!({"scramSha512": credentials})));
    let sidecar = secured.sidecar(&pipeline, &secured.authority).not_ready().start();
    until("a refusal that names a cause", SOON, || {
        let response = curl(sidecar.http(), PATH, &["-d", "x"]);
        (response.status == 503).then_some(())
    });
    secured.kafka.allow("telemetry", &WRITE, &topic);
    until("the message is taken when it is allowed", SOON, || {
        (curl(sidecar.http(), PATH, &["-d", "x"]).status == 200).then_some(())
    });
}

#[test]
fn brokers_of_another_ca_and_clients_without_a_certificate_are_refused() {
    let secured = secured();
    let topic = secured.kafka.create_topic("strangers", 3);
    let stranger = Authority::fresh();
    let credentials = json!({"username": "telemetry", "passwordSecret": {"name": "telemetry-kafka"}});
    let scram = Some(json!({"scramSha512": credentials}));
    let pipeline = secured.pipeline(&secured.kafka.bootstrap(), &topic, scram);
    let sidecar = secured.sidecar(&pipeline, &stranger).not_ready().start();
    until("an answer of 503", SOON, || {
        (curl(sidecar.http(), PATH, &["-d", "x"]).status == 503).then_some(())
    });
    sidecar.wait_log("certificate");
    assert!(!sidecar.is_ready());
    assert_eq!(secured.kafka.read(&topic).len(), 0);
}

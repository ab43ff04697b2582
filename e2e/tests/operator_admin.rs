//! The operator's admin port and client against a real API server: probes, and calls that are counted.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use penstock_crds::schema;
use penstock_e2e::clients::curl;
use penstock_e2e::{ApiServer, until};
use penstock_operator::client;
use penstock_operator::finding::Truth;
use penstock_operator::reason::Reason;
use penstock_operator::telemetry::Telemetry;
use penstock_operator::telemetry::metrics::Reconciled;
use penstock_sidecar::telemetry::admin;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn connect(kubeconfig: &Path, telemetry: &Telemetry) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    client::connect(config, telemetry).unwrap()
}

/// Serves an admin port and returns its address.
fn serve(runtime: &Runtime, telemetry: &Arc<Telemetry>) -> SocketAddr {
    let _guard = runtime.enter();
    let listener = admin::listen(Some(([127, 0, 0, 1], 0).into()), 0).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(admin::serve(listener, Arc::clone(telemetry)));
    address
}

#[test]
fn an_operator_is_ready_once_the_api_server_serves_its_resource() {
    let (runtime, telemetry) = (runtime(), Arc::new(Telemetry::default()));
    let address = serve(&runtime, &telemetry);
    let get = |path: &str| curl(address, path, &[]);
    assert_eq!(get("/livez").status, 200);
    assert_eq!(get("/readyz").status, 503);
    assert!(get("/readyz").body.contains("has not answered"));
    assert_eq!(get("/ledger").status, 404);
    assert_eq!(curl(address, "/metrics", &["-X", "POST"]).status, 405);

    let api = ApiServer::start();
    let client = runtime.block_on(connect(&api.kubeconfig(), &telemetry));
    let served = runtime.spawn({
        let (client, telemetry) = (client, Arc::clone(&telemetry));
        async move { client::until_served(&client, &telemetry).await }
    });
    until("the missing resource is told", SOON, || {
        get("/readyz").body.contains("does not serve").then_some(())
    });
    let crd = schema::crd_yaml().unwrap();
    api.kubectl_with(&["create", "-f", "-"], &crd).expect_ok();
    until("it is ready", SOON, || (get("/readyz").status == 200).then_some(()));
    runtime.block_on(served).unwrap();
}

#[test]
fn calls_and_conditions_are_counted() {
    let (runtime, telemetry) = (runtime(), Arc::new(Telemetry::default()));
    let address = serve(&runtime, &telemetry);
    let metrics = || curl(address, "/metrics", &[]).body;
    let api = ApiServer::start();
    runtime.block_on(async {
        let client = connect(&api.kubeconfig(), &telemetry).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let map: ConfigMap = serde_json::from_str(r#"{"metadata": {"name": "a"}}"#).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap_err();
        assert!(Api::<Secret>::default_namespaced(client).get_opt("none").await.unwrap().is_none());
    });
    let counted = telemetry.metrics();
    counted.conditions("iot", "a", [("Ready", Truth::False)]);
    counted.conditions("iot", "b", [("Ready", Truth::True)]);
    counted.conditions("iot", "a", [("Ready", Truth::True)]);
    counted.forget("iot", "b");
    counted.kafka_call("describe_topics", Some(Reason::KafkaUnreachable));
    counted.reconciled(Reconciled::Waiting, Duration::from_millis(20));
    counted.leads(true);
    let one = counted.reconcile_begins();
    let text = metrics();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for line in [
        r#"penstock_operator_api_calls_total{verb="create",resource="configmaps",outcome="ok"} 1"#,
        r#"penstock_operator_api_calls_total{verb="create",resource="configmaps",outcome="conflict"} 1"#,
        r#"penstock_operator_api_calls_total{verb="get",resource="secrets",outcome="not_found"} 1"#,
        r#"penstock_operator_kafka_calls_total{operation="describe_topics",outcome="KafkaUnreachable"} 1"#,
        r#"penstock_operator_reconciles_total{outcome="waiting"} 1"#,
        "penstock_operator_leader 1",
        "penstock_operator_in_flight 1",
        r#"penstock_pipeline_condition{namespace="iot",name="a",type="Ready",status="True"} 1"#,
        r#"penstock_pipeline_condition{namespace="iot",name="a",type="Ready",status="False"} 0"#,
    ] {
        assert!(lines.contains(&line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"name="b""#), "{text}");
    drop(one);
    assert!(metrics().contains("penstock_operator_in_flight 0"));
}

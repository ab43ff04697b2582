//! The harness's own API server works.

use penstock_e2e::ApiServer;

#[test]
fn api_server_takes_and_returns_an_object() {
    let api = ApiServer::start();
    let made = api.kubectl_with(
        &["create", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: default}, data: {b: c}}",
    );
    assert!(made.ok, "{}", made.err);
    let read = api.kubectl(&["get", "configmap", "a", "-o", "jsonpath={.data.b}"]);
    assert_eq!(read.out, "c");
    assert!(!api.kubectl(&["get", "configmap", "missing"]).ok);
    let server = api.kubectl(&["version", "-o", "json"]);
    assert!(server.out.contains("v1.36.3"), "{}", server.out);
}

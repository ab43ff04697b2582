//! What a real API server admits, beside what is admitted offline: the same verdict on every manifest of
//! `crds/tests/manifests`, and a CRD that a server takes and kubectl shows well.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use penstock_crds::manifest;
use penstock_e2e::ApiServer;

const NAMESPACE: &str = "iot";

/// A server with the CRD, for all tests of this file.
static SERVER: LazyLock<ApiServer> = LazyLock::new(|| {
    let server = ApiServer::start();
    let applied = server.kubectl(&["apply", "--server-side", "-f", crd().to_str().unwrap()]);
    assert!(applied.ok, "the API server refuses the CRD: {}", applied.err);
    let established =
        ["wait", "--for=condition=Established", "--timeout=60s", "crd/ingestpipelines.penstock.dev"];
    let established = server.kubectl(&established);
    assert!(established.ok, "{}", established.err);
    assert!(server.kubectl(&["create", "namespace", NAMESPACE]).ok);
    server
});

fn crds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")
}

fn crd() -> PathBuf {
    crds().join("penstock.dev_ingestpipelines.yaml")
}

/// Path below the corpus, and text.
fn corpus() -> Vec<(String, String)> {
    let mut manifests = Vec::new();
    for folder in ["good", "bad/schema", "bad/cel", "refused"] {
        for entry in fs::read_dir(crds().join("tests/manifests").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_stem().unwrap().to_string_lossy());
            manifests.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    manifests
}

/// The server's verdict: an error text if it does not admit the manifest. kubectl only passes it on.
fn server_verdict(text: &str) -> Result<(), String> {
    let create = ["create", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "-f", "-"];
    let answer = SERVER.kubectl_with(&create, text);
    if answer.ok { Ok(()) } else { Err(answer.err) }
}

#[test]
fn offline_and_server_agree_on_every_manifest() {
    let manifests = corpus();
    let of = |folder: &str| manifests.iter().filter(|(name, _)| name.starts_with(folder)).count();
    assert!(manifests.len() >= 60 && of("bad/schema") >= 20 && of("bad/cel") >= 10, "{}", manifests.len());
    LazyLock::force(&SERVER);
    let next = AtomicUsize::new(0);
    let judge = || {
        let mut disagreements = Vec::new();
        while let Some((name, text)) = manifests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let offline = manifest::read(text);
            let server = server_verdict(text);
            let expected = !name.starts_with("bad/");
            if offline.is_ok() != expected || server.is_ok() != expected {
                let offline = match offline {
                    Ok(_) => "admitted".to_owned(),
                    Err(problems) => problems.iter().map(|problem| format!("\n    {problem}")).collect(),
                };
                let server = server.err().unwrap_or_else(|| "admitted".to_owned());
                disagreements.push(format!("{name}\n  offline: {offline}\n  server: {server}"));
            }
        }
        disagreements
    };
    let disagreements = std::thread::scope(|scope| {
        let judges = [scope.spawn(judge), scope.spawn(judge)];
        judges.into_iter().flat_map(|judge| judge.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

#[test]
fn kubectl_explain_reads_well_at_every_level() {
    let fields = [
        ("ipl", "data ingestion pipeline"),
        ("ipl.spec", "Kafka cluster"),
        ("ipl.spec.kafka.authentication", "SCRAM-SHA-512"),
        ("ipl.spec.endpoints.limits", "Default: 262144"),
        ("ipl.spec.routes.from", "topicFilter"),
        ("ipl.spec.delivery", "ackTimeoutSeconds"),
        ("ipl.spec.edge.drain", "Default: 5."),
        ("ipl.status.conditions", "lastTransitionTime"),
    ];
    for (field, text) in fields {
        let explained = SERVER.kubectl(&["explain", field]);
        assert!(explained.ok, "{field}: {}", explained.err);
        assert!(explained.out.contains(text), "no {text:?} in kubectl explain {field}:\n{}", explained.out);
        assert!(!explained.out.contains("<no description>"), "{field}:\n{}", explained.out);
    }
}

#[test]
fn a_pipeline_is_listed_with_its_columns_and_null_means_absent() {
    let text = fs::read_to_string(crds().join("../docs/examples/quickstart.yaml")).unwrap();
    let text = text.replace("  delivery:\n", "  revisionHistoryLimit: null\n  delivery:\n");
    assert!(text.contains("revisionHistoryLimit"));
    let created = SERVER.kubectl_with(&["create", "-n", NAMESPACE, "--validate=strict", "-f", "-"], &text);
    assert!(created.ok, "{}", created.err);
    let listed = SERVER.kubectl(&["get", "ipl", "-n", NAMESPACE, "-o", "wide"]);
    let header = listed.out.lines().next().unwrap_or_default().to_owned();
    for column in ["NAME", "READY", "REASON", "ENDPOINTS", "REPLICAS", "DURABLE", "CONFIG HASH", "AGE"] {
        assert!(header.contains(column), "no {column} in {header}");
    }
    let stored = SERVER.kubectl(&["get", "ipl", "quickstart", "-n", NAMESPACE, "-o", "json"]);
    let stored: serde_json::Value = serde_json::from_str(&stored.out).unwrap();
    assert!(stored["spec"].get("revisionHistoryLimit").is_none(), "{stored}");
    assert_eq!(stored["status"]["observedGeneration"], -1, "{stored}");
}

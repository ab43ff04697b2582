//! Offline admission says of a manifest what a real API server says.
#![allow(clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use penstock_crds::manifest;
use penstock_e2e::ApiServer;
use penstock_e2e::kubectl::Kubectl;

/// The manifests of a folder, by name; the comment `# at:` names the field to blame.
fn folder(name: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/tests/manifests").join(name);
    let files = fs::read_dir(&folder).expect("the folder of manifests").map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("a manifest"))
    });
    files.collect()
}

/// Creates nothing, but says what would become of it.
fn ask(api: &ApiServer, manifest: &str) -> Kubectl {
    api.kubectl_with(&["create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-"], manifest)
}

#[test]
fn offline_admission_and_the_api_server_agree_on_every_manifest() {
    let api = ApiServer::serving_pipelines();
    let mut asked = BTreeMap::new();
    let mut failures = Vec::new();
    for (kind, admitted) in [("good", true), ("refused", true), ("bad/schema", false), ("bad/cel", false)] {
        for (name, text) in folder(kind) {
            let server = ask(&api, &text);
            let offline = manifest::read(&text);
            *asked.entry(kind).or_insert(0) += 1;
            if server.ok != admitted || offline.is_ok() != admitted {
                let offline = offline.err().unwrap_or_default();
                let said = if server.ok { &server.out } else { &server.err };
                failures.push(format!("{kind}/{name}\n  server:  {said}\n  offline: {offline:?}\n"));
            } else if !admitted && !server.err.contains(expected_place(&text)) {
                failures.push(format!("{kind}/{name} is refused for another reason: {}", server.err));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {asked:?}:\n{}", failures.len(), failures.join("\n"));
    let count = |kind| asked.get(kind).copied().unwrap_or(0);
    assert!(count("good") + count("bad/schema") + count("bad/cel") >= 60, "{asked:?}");
    assert!(count("bad/schema") >= 20, "{asked:?}");
    println!("agreed: {asked:?}");
}

/// The part of `# at:` that the server's message has too: it leaves out indices of rules on lists.
fn expected_place(text: &str) -> &str {
    let at = text.lines().find_map(|line| line.strip_prefix("# at:")).unwrap_or_default().trim();
    at.split_once(['[', '\'']).map_or(at, |(start, _)| start)
}

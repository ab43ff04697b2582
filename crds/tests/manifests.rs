//! The manifests of `tests/manifests`, judged offline. `e2e/tests/admit_manifests.rs` asks a real API server about the
//! same files.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use penstock_crds::manifest;
use penstock_crds::problem::Problem;
use penstock_crds::resolve::resolve;

/// The files of a folder: name, text, and the path that the comment `# at: …` expects to be blamed.
fn folder(name: &str) -> BTreeMap<String, (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name);
    let files = fs::read_dir(&folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let at =
            text.lines().find_map(|line| line.strip_prefix("# at:")).unwrap_or_default().trim().to_owned();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), (text, at))
    });
    files.collect()
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}\n")).collect()
}

/// What is wrong with `name` as a test: the problems must blame `at`, and each must say what to do.
fn blame(name: &str, at: &str, problems: &[Problem]) -> Option<String> {
    let blamed = problems.iter().any(|problem| problem.path == at);
    let advised = problems.iter().all(|problem| !problem.wrong.is_empty() && !problem.advice.is_empty());
    (!blamed || !advised).then(|| format!("{name} must blame '{at}' and give advice:\n{}", listed(problems)))
}

#[test]
fn good_manifests_resolve() {
    let mut failures = Vec::new();
    for (name, (text, _)) in folder("good") {
        if let Err(problems) = manifest::read(&text).and_then(|pipeline| resolve(&pipeline)) {
            failures.push(format!("{name}:\n{}", listed(&problems)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bad_manifests_are_not_admitted_and_blame_the_field() {
    let mut failures = Vec::new();
    for kind in ["bad/schema", "bad/cel"] {
        for (name, (text, at)) in folder(kind) {
            match manifest::read(&text) {
                Ok(_) => failures.push(format!("{name} was admitted")),
                Err(problems) => failures.extend(blame(&name, &at, &problems)),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn refused_manifests_are_admitted_and_blame_the_field() {
    let mut failures = Vec::new();
    for (name, (text, at)) in folder("refused") {
        let pipeline =
            manifest::read(&text).unwrap_or_else(|problems| panic!("{name}:\n{}", listed(&problems)));
        match resolve(&pipeline) {
            Ok(_) => failures.push(format!("{name} was resolved")),
            Err(problems) => failures.extend(blame(&name, &at, &problems)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

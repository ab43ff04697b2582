//! The table of MQTT's normative statements is whole, and what it names as shown is tested.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reference/mqtt-conformance.md")).unwrap()
}

/// How many statements each section has (Appendix B of both standards); 2.2.1 of MQTT 5 begins with 2.
const FIVE: &str = "1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 3.2.2:22 \
    3.3.1:13 3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 3.8.4:8 3.9.2:2 3.9.3:2 3.10.1:1 \
    3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3 4.1.0:2 4.2.0:1 \
    4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2 4.6.0:6 4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 4.12.0:7 4.12.1:2 \
    4.13.1:1 4.13.2:1 6.0.0:4";
const THREE: &str = "1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 3.3.4:1 \
    3.3.5:2 3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 3.14.1:1 3.14.4:3 4.1.0:2 4.3.1:1 \
    4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2 6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1";

fn statements(sections: &str) -> BTreeSet<String> {
    let sections = sections.split_whitespace().map(|section| section.split_once(':').unwrap());
    let all = sections.flat_map(|(section, count)| {
        (1..=count.parse::<u32>().unwrap()).map(move |number| format!("{section}-{number}"))
    });
    all.collect()
}

/// The statements that a part of the page lists, each of them once.
fn listed(part: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for cell in part.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()) {
        if !cell.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        for statement in cell.split(", ") {
            assert!(found.insert(statement.to_owned()), "{statement} is listed twice");
        }
    }
    found
}

#[test]
fn the_mqtt_page_lists_every_normative_statement_once() {
    let page = page();
    let (_, rest) = page.split_once("\n## MQTT 5.0\n").unwrap();
    let (five, rest) = rest.split_once("\n## MQTT 3.1.1\n").unwrap();
    let (three, _) = rest.split_once("\n## Sessions").unwrap();
    let mut expected = statements(FIVE);
    expected.remove("2.2.1-1");
    assert_eq!(listed(five), expected);
    assert_eq!(listed(three), statements(THREE));
}

/// Names of functions in Rust files below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let tests = text.split("#[test]").skip(1);
            found.extend(tests.filter_map(|rest| {
                let name = rest.split_once("fn ")?.1;
                Some(name.split('(').next()?.to_owned())
            }));
        }
    }
}

#[test]
fn the_mqtt_page_names_only_tests_that_exist() {
    let mut tests = BTreeSet::new();
    functions(&root().join("e2e/tests"), &mut tests);
    functions(&root().join("sidecar/src"), &mut tests);
    let page = page();
    let words = page.split('`').skip(1).step_by(2);
    let named: BTreeSet<_> =
        words.filter(|word| word.matches('_').count() >= 3 && !word.contains(' ')).collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

//! What the documentation says is so: its links lead somewhere, its pages are in the book, its metrics are served.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use penstock_e2e::{Kafka, Pipeline, Sidecar, operator, sidecar};
use penstock_operator::reason::Reason;
use penstock_operator::status::condition;
use penstock_operator::telemetry::calls::Answer;
use penstock_operator::telemetry::metrics::Metrics;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn pages() -> Vec<PathBuf> {
    let mut pages =
        vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("CHANGELOG.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// Targets of Markdown links and of mdBook's includes.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let included = text.split("{{#include ").skip(1).filter_map(|rest| rest.split_once("}}"));
    inline.chain(included.map(|(target, _)| target))
}

#[test]
fn every_link_leads_to_a_file() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = link.split('#').next().unwrap_or_default();
            if !page.parent().unwrap().join(target).exists() {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_page_is_in_the_book() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<_> = links(&summary).map(|link| docs.join(link)).collect();
    let missing: Vec<_> = pages()
        .into_iter()
        .filter(|page| page.starts_with(&docs) && !page.ends_with("SUMMARY.md") && !listed.contains(page))
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:#?}");
}

#[test]
fn the_tour_of_the_readme_is_the_quickstart() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let quickstart = fs::read_to_string(root().join("docs/examples/quickstart.yaml")).unwrap();
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    // The file has comments between the lines that the tour shows.
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect()
    };
    assert!(lines(&quickstart).join("\n").contains(lines(yaml).join("\n").trim_end()), "{yaml}");
}

/// The names of the metrics in an OpenMetrics text.
fn served(metrics: &str) -> BTreeSet<String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
        })
        .collect()
}

/// The names of the metrics in the part `heading` of the page.
fn documented(heading: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let (_, part) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let part = part.split("\n## ").next().unwrap();
    let cells = part.lines().filter(|line| line.starts_with("| `penstock_"));
    cells
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metrics_page_names_what_a_sidecar_serves_and_nothing_else() {
    let kafka = Kafka::shared();
    let sidecar = Sidecar::run(&Pipeline::telemetry(kafka, &kafka.create_topic("metrics", 1))).start();
    assert_eq!(documented("The sidecar"), served(&sidecar.metrics()));
}

#[test]
fn the_metrics_page_names_what_an_operator_serves_and_nothing_else() {
    let metrics = Metrics::default();
    // Those without a call are not served.
    metrics.api_call("get", "secrets", Answer::None.label());
    metrics.kafka_call("describe_topics", None);
    assert_eq!(documented("The operator"), served(&metrics.encode().unwrap()));
}

#[test]
fn the_command_line_page_names_every_option() {
    let page = fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
    let sidecar = ["run", "dev", "validate", "drain"].map(|name| (name, sidecar::command(&[name, "--help"])));
    let operator = ["run", "plan", "crd"].map(|name| (name, operator::command(&[name, "--help"])));
    for (command, output) in sidecar.into_iter().chain(operator) {
        let help = String::from_utf8(output.stdout).unwrap();
        for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let option = option.trim_end_matches([',', '.', ':']);
            assert!(["--help", "--version"].contains(&option) || page.contains(option), "{command} {option}");
        }
    }
}

#[test]
fn the_conditions_page_names_every_reason_and_condition_once_and_no_other() {
    let page = fs::read_to_string(root().join("docs/reference/conditions.md")).unwrap();
    let cells: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    let mut known: Vec<_> = reasons.chain(condition::ALL).collect();
    let mut named = cells.clone();
    known.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, known);
}

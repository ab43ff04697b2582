//! Properties of the whole way from a manifest to a configuration.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use penstock_crds::edge::EdgeConfig;
use penstock_crds::manifest;
use penstock_crds::pipeline::IngestPipeline;
use penstock_crds::problem::Problem;
use penstock_crds::resolve::resolve;
use penstock_crds::validate::validate;
use penstock_crds::{admission, schema, standalone};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Every manifest that a file holds and the schema admits.
static SEEDS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let folders = [manifests.join("good"), manifests.join("refused"), examples];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|path| manifest::document(&fs::read_to_string(path).unwrap()).unwrap()).collect()
});

/// JSON pointers of all values below `value`.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                pointers(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// A value of some meaning somewhere in a pipeline.
fn plausible() -> impl Strategy<Value = Value> {
    let words = [
        "telemetry",
        "mqtt",
        "rest",
        "Kafka",
        "Archive",
        "AtMostOnce",
        "AtLeastOnce",
        "ExactlyOnce",
        "Zstd",
        "None",
        "AfterPersist",
        "Pod",
        "LoadBalancer",
        "a/{b}",
        "/a/{b}",
        "{a}/{a}",
        "#",
        "a/#/b",
        "{a",
        "",
        "/",
        "//",
        "..",
        "{clientId}",
        "kafka:9092",
        "kafka:99999",
        "1Gi",
        "10.0.0.0/8",
        "\0",
        "ü",
        "penstock",
    ];
    let numbers = [0, 1, -1, 1_023, 1_024, 9_464, 16_384, 65_535, 65_536, 268_435_455, i64::MAX, i64::MIN];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        select(numbers.to_vec()).prop_map(Value::from),
        select(words.to_vec()).prop_map(Value::from),
        Just(json!(1_883.0)),
        Just(json!(0.5)),
        Just(json!(u64::MAX)),
        Just(json!([])),
        Just(json!({})),
        ".{0,20}".prop_map(Value::from),
    ]
}

/// One change to a manifest.
#[derive(Clone, Debug)]
enum Change {
    Replace(Index, Value),
    Remove(Index),
    /// Repeats an element of a list, or adds one.
    Extend(Index, Value),
    /// Puts a field of the schema, or any other, into an object.
    Insert(Index, Index, Value),
    /// Copies a part of another seed to the same place.
    Graft(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (any::<Index>(), plausible()).prop_map(|(at, value)| Change::Replace(at, value)),
        1 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), plausible()).prop_map(|(at, value)| Change::Extend(at, value)),
        2 => (any::<Index>(), any::<Index>(), plausible()).prop_map(|(at, name, value)| Change::Insert(at, name, value)),
        4 => (any::<Index>(), any::<Index>()).prop_map(|(seed, at)| Change::Graft(seed, at)),
    ]
}

static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    fn names(schema: &Value, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            found.push(name.clone());
            names(field, found);
        }
        if let Some(items) = schema.get("items") {
            names(items, found);
        }
    }
    let mut found = vec!["unknown".to_owned()];
    names(&schema::open_api()["properties"]["spec"], &mut found);
    found.sort();
    found.dedup();
    found
});

fn places(manifest: &Value) -> Vec<String> {
    let mut found = Vec::new();
    pointers(manifest, "", &mut found);
    found
}

fn apply(manifest: &mut Value, change: &Change) {
    let places = places(manifest);
    match change {
        Change::Replace(at, value) => {
            *manifest.pointer_mut(at.get(&places).as_str()).unwrap() = value.clone()
        }
        Change::Remove(at) => {
            let Some((parent, name)) = at.get(&places).rsplit_once('/') else { return };
            match manifest.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.remove(name)),
                Some(Value::Array(elements)) => drop(elements.remove(name.parse().unwrap())),
                _ => {}
            }
        }
        Change::Extend(at, value) => {
            if let Some(Value::Array(elements)) = manifest.pointer_mut(at.get(&places).as_str()) {
                let added = elements.first().cloned().unwrap_or_else(|| value.clone());
                elements.push(added);
            }
        }
        Change::Insert(at, name, value) => {
            if let Some(Value::Object(fields)) = manifest.pointer_mut(at.get(&places).as_str()) {
                fields.insert(name.get(&FIELDS).clone(), value.clone());
            }
        }
        Change::Graft(seed, at) => {
            let seed = seed.get(&SEEDS);
            let places = self::places(seed);
            let place = at.get(&places);
            let part = seed.pointer(place).unwrap().clone();
            match manifest.pointer_mut(place) {
                Some(there) => *there = part,
                None => {
                    let Some((parent, name)) = place.rsplit_once('/') else { return };
                    if let Some(Value::Object(fields)) = manifest.pointer_mut(parent) {
                        fields.insert(name.to_owned(), part);
                    }
                }
            }
        }
    }
}

fn manifests() -> impl Strategy<Value = Value> {
    (any::<Index>(), prop::collection::vec(change(), 0..6)).prop_map(|(seed, changes)| {
        let mut manifest = seed.get(&SEEDS).clone();
        changes.iter().for_each(|change| apply(&mut manifest, change));
        manifest
    })
}

/// What a sidecar relies on.
fn check_config(config: &EdgeConfig) {
    for topic in config.routes.iter().map(|route| &route.topic).chain(&config.delivery.dead_letter_topic) {
        assert!(config.topics.iter().any(|declared| declared.name == *topic), "topic {topic}");
    }
    for source in config.routes.iter().flat_map(|route| &route.from) {
        assert!(config.endpoints.iter().any(|endpoint| endpoint.name == source.endpoint), "{source:?}");
    }
    for endpoint in &config.endpoints {
        let limits = &endpoint.limits;
        assert!(u64::from(limits.max_message_bytes) < limits.max_in_flight_bytes_per_connection);
        assert!(limits.max_in_flight_bytes_per_connection <= limits.max_in_flight_bytes);
        assert!(limits.max_in_flight_bytes <= config.max_in_flight_bytes);
        assert!(endpoint.port >= 1_024 && endpoint.port != config.admin_port);
        assert!(
            limits.max_connections > 0 && limits.max_message_bytes > 0 && limits.max_in_flight_messages > 0
        );
    }
    assert!(config.delivery.ack_timeout_seconds > 0);
    let text = serde_json::to_string(config).unwrap();
    assert_eq!(serde_json::from_str::<EdgeConfig>(&text).unwrap(), *config);
}

fn check_problems(problems: &[Problem]) {
    assert!(!problems.is_empty());
    for problem in problems {
        assert!(!problem.wrong.is_empty() && !problem.advice.is_empty(), "{problem:?}");
        assert!(!problem.wrong.contains("rule evaluation error"), "{problem}");
        assert!(!problem.advice.contains("report this"), "{problem}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    /// What admission accepts, `resolve` accepts or refuses with a reason, and it is consistent.
    #[test]
    fn what_is_admitted_resolves_or_is_refused_with_a_reason(manifest in manifests()) {
        match admission::admit(manifest) {
            Err(problems) => check_problems(&problems),
            Ok(pipeline) => match resolve(&pipeline) {
                Ok(config) => {
                    assert_eq!(validate(&pipeline), []);
                    check_config(&config);
                    let _ = standalone::left_to_operator(&pipeline);
                }
                Err(problems) => {
                    assert_eq!(problems, validate(&pipeline));
                    check_problems(&problems);
                }
            },
        }
    }

    /// Any object of the type, admitted or not, is answered; admission judges it as it judged its JSON.
    #[test]
    fn any_typed_pipeline_is_answered(mut manifest in manifests()) {
        without_nulls(&mut manifest);
        let Ok(pipeline) = serde_json::from_value::<IngestPipeline>(manifest) else { return Ok(()) };
        if let Err(problems) = resolve(&pipeline) {
            check_problems(&problems);
        }
    }

    /// An admitted pipeline is admitted again when it is written out, and is the same.
    #[test]
    fn admission_keeps_its_own_work(manifest in manifests()) {
        if let Ok(pipeline) = admission::admit(manifest) {
            let written = serde_json::to_value(&pipeline).unwrap();
            assert_eq!(admission::admit(written).unwrap(), pipeline);
        }
    }

    /// A null says what absence says.
    #[test]
    fn null_means_absent(manifest in manifests(), name in any::<Index>(), at in any::<Index>()) {
        let mut changed = manifest.clone();
        let places = places(&manifest);
        if let Some(Value::Object(fields)) = changed.pointer_mut(at.get(&places).as_str()) {
            let known: Vec<String> = FIELDS.iter().filter(|field| !fields.contains_key(*field)).cloned().collect();
            fields.insert(name.get(&known).clone(), Value::Null);
        }
        // A null in a place that knows no such field is an unknown field there.
        if let Ok(pipeline) = admission::admit(changed) {
            assert_eq!(admission::admit(manifest).unwrap(), pipeline);
        }
    }

    /// No text at all makes reading panic.
    #[test]
    fn any_text_is_answered(text in "[-a-c:\\[\\]{}&*!|> \"'#,\n\t%@`<?0-9.]{0,60}") {
        if let Err(problem) = manifest::document(&text) {
            check_problems(&[problem]);
        }
    }

    /// JSON is YAML, and means the same; but for characters that YAML wants escaped and JSON does not.
    #[test]
    fn a_manifest_reads_the_same_as_yaml_and_as_json(manifest in manifests()) {
        let json = manifest.to_string();
        let yaml = serde_yaml::to_string(&manifest).unwrap();
        let special = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
        prop_assume!(!manifest.is_null() && !json.contains(special));
        assert_eq!(manifest::document(&json), manifest::document(&yaml));
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// The strategy reaches both sides, or the properties above would hold of nothing.
#[test]
fn the_strategy_makes_good_and_bad_manifests() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = manifests();
    let mut seen = Map::new();
    for _ in 0..2_000 {
        let manifest = strategy.new_tree(&mut runner).unwrap().current();
        let kind = match admission::admit(manifest) {
            Err(_) => "not admitted",
            Ok(pipeline) if resolve(&pipeline).is_ok() => "resolved",
            Ok(_) => "refused",
        };
        let count = seen.entry(kind).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap() + 1);
    }
    for kind in ["not admitted", "refused", "resolved"] {
        assert!(seen[kind].as_u64().unwrap() > 200, "{seen:?}");
    }
}

//! What the API server checks of `metadata`, which no schema describes.

use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use regex::Regex;
use serde_json::{Map, Value};

use super::structural;
use crate::labels;
use crate::pipeline::bounds::OBJECT_NAME;
use crate::problem::{Problem, below};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut settings = schemars::generate::SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<ObjectMeta>().to_value();
    without_null(&mut schema);
    schema
});

/// Optional fields are `type: [T, null]` here; nulls are pruned before.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get("type")
                && let Some(first) = types.first().cloned()
            {
                fields.insert("type".to_owned(), first);
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_null),
        _ => {}
    }
}

pub(super) fn check(object: &mut Value, problems: &mut Vec<Problem>) {
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    // The server's own books of who wrote what; it heeds none that a client brings.
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("managedFields");
    }
    structural::prune_nulls(metadata, &SCHEMA);
    let before = problems.len();
    structural::walk(metadata, &SCHEMA, "metadata", problems);
    if problems.len() > before {
        return;
    }
    match metadata.get("name").and_then(Value::as_str) {
        // The server would make one of generateName.
        None | Some("") => {
            problems.push(Problem::new("metadata.name", "is missing", "give the pipeline a name"));
        }
        Some(name) => matching(name, OBJECT_NAME, 253, "metadata.name", problems),
    }
    if let Some(namespace) = metadata.get("namespace").and_then(Value::as_str)
        && !namespace.is_empty()
    {
        matching(namespace, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 63, "metadata.namespace", problems);
    }
    for (field, values) in [("labels", true), ("annotations", false)] {
        let Some(entries) = metadata.get(field).and_then(Value::as_object) else { continue };
        let path = below("metadata", field);
        for (key, value) in entries {
            // The server takes capitals in the domain of an annotation only.
            let key = if field == "annotations" { &key.to_ascii_lowercase() } else { key };
            problems.extend(labels::wrong_key(&path, key));
            if values && let Some(value) = value.as_str() {
                problems.extend(labels::wrong_value(&path, value));
            }
        }
    }
}

fn matching(value: &str, pattern: &str, most: usize, path: &str, problems: &mut Vec<Problem>) {
    if value.len() > most {
        problems.push(Problem::new(
            path,
            format!("has {} characters", value.len()),
            format!("use at most {most}"),
        ));
    } else if !Regex::new(pattern).is_ok_and(|regex| regex.is_match(value)) {
        let advice = format!("it must match {pattern}");
        problems.push(Problem::new(path, format!("is '{}'", value.escape_debug()), advice));
    }
}

//! A walk of an object along its structural schema, as apiextensions-apiserver does it.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, RwLock};

use regex::Regex;
use serde_json::{Map, Value};

use crate::problem::{Problem, below, element};

/// Removes nulls that the schema does not allow, as the server does: from objects and maps, not from lists.
pub(super) fn prune_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| !(field.is_null() && field_schema(schema, name).is_some()));
            for (name, field) in fields {
                if let Some(schema) = field_schema(schema, name) {
                    prune_nulls(field, schema);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(schema) = schema.get("items") {
                elements.iter_mut().for_each(|element| prune_nulls(element, schema));
            }
        }
        _ => {}
    }
}

/// Makes `1.0` a `1` where the schema wants an integer, as JSON Schema does.
pub(super) fn whole_numbers(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some(schema) = field_schema(schema, name) {
                    whole_numbers(field, schema);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(schema) = schema.get("items") {
                elements.iter_mut().for_each(|element| whole_numbers(element, schema));
            }
        }
        Value::Number(number) if text(schema, "type") == Some("integer") => {
            if let Some(float) = number.as_f64()
                && number.as_i64().is_none()
                && float.fract() == 0.0
                && float.abs() < 9.0e15
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
                let whole = float as i64;
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// Checks `object` against the schema of the resource. `status` is not taken from a new object, but what it holds must
/// be known all the same.
pub(super) fn check(object: &Value, schema: &Value, problems: &mut Vec<Problem>) {
    let Value::Object(fields) = object else { return };
    require(fields, schema, "", problems);
    for (name, value) in fields {
        match (name.as_str(), field_schema(schema, name)) {
            ("apiVersion" | "kind" | "metadata", _) => {}
            ("status", Some(schema)) => unknown_fields(value, schema, name, problems),
            (_, Some(schema)) => walk(value, schema, name, problems),
            (_, None) => unknown(name.clone(), schema, problems),
        }
    }
}

/// Checks one value and everything below it.
pub(super) fn walk(value: &Value, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let either = schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true);
    let expected = if either { Some("integer or string") } else { text(schema, "type") };
    if let Some(expected) = expected
        && !is_a(value, expected)
    {
        let wrong = format!("is {}, not {}", name_of(value), article(expected));
        problems.push(Problem::new(path, wrong, advice_for_type(expected)));
        return;
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        let list: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        problems.push(Problem::new(path, format!("is {value}"), format!("use one of {}", list.join(", "))));
    }
    match value {
        Value::Object(fields) => walk_object(fields, schema, path, problems),
        Value::Array(elements) => walk_list(elements, schema, path, problems),
        Value::String(text) => check_text(text, schema, path, problems),
        Value::Number(number) => check_number(number, schema, path, problems),
        Value::Null | Value::Bool(_) => {}
    }
}

fn walk_object(fields: &Map<String, Value>, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    require(fields, schema, path, problems);
    if let Some(most) = bound(schema, "maxProperties")
        && fields.len() > most
    {
        problems.push(Problem::new(
            path,
            format!("has {} entries", fields.len()),
            format!("use at most {most}"),
        ));
    }
    for (name, value) in fields {
        match field_schema(schema, name) {
            Some(schema) => walk(value, schema, &below(path, name), problems),
            None => unknown(below(path, name), schema, problems),
        }
    }
    choose_one(fields, schema, path, problems);
}

fn require(fields: &Map<String, Value>, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    for name in required(schema).filter(|name| !fields.contains_key(*name)) {
        problems.push(Problem::new(below(path, name), "is missing", "it is required"));
    }
}

/// A union is a `oneOf` over which member is required.
fn choose_one(fields: &Map<String, Value>, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let Some(Value::Array(members)) = schema.get("oneOf") else { return };
    let names: Vec<_> = members.iter().flat_map(required).collect();
    let set: Vec<_> = names.iter().copied().filter(|name| fields.contains_key(*name)).collect();
    if set.len() != 1 {
        let wrong = match set.as_slice() {
            [] => format!("has none of {}", names.join(", ")),
            _ => format!("has {} at once", set.join(" and ")),
        };
        let advice = match names.as_slice() {
            [only] => format!("set {only}"),
            _ => format!("set exactly one of {}", names.join(", ")),
        };
        problems.push(Problem::new(path, wrong, advice));
    }
}

fn walk_list(elements: &[Value], schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let count = elements.len();
    if let Some(most) = bound(schema, "maxItems")
        && count > most
    {
        problems.push(Problem::new(path, format!("has {count} elements"), format!("use at most {most}")));
    }
    if let Some(fewest) = bound(schema, "minItems")
        && count < fewest
    {
        problems.push(Problem::new(path, format!("has {count} elements"), format!("use at least {fewest}")));
    }
    if let Some(schema) = schema.get("items") {
        for (index, value) in elements.iter().enumerate() {
            walk(value, schema, &element(path, index), problems);
        }
    }
    let mut seen = HashSet::new();
    for (index, value) in elements.iter().enumerate() {
        let Some(key) = key_of(value, schema) else { continue };
        if !seen.insert(key.clone()) {
            let wrong = format!("{key} is there twice");
            problems.push(Problem::new(element(path, index), wrong, "use each once"));
        }
    }
}

/// What must be unique among the elements of a list: the element of a set, the keys of a list of objects.
fn key_of(value: &Value, schema: &Value) -> Option<String> {
    match text(schema, "x-kubernetes-list-type")? {
        "set" => Some(value.to_string()),
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?.iter().filter_map(Value::as_str);
            let parts: Option<Vec<_>> =
                keys.map(|key| value.get(key).map(|value| format!("{key} {value}"))).collect();
            parts.map(|parts| parts.join(", "))
        }
        _ => None,
    }
}

fn check_text(value: &str, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let length = value.chars().count();
    if let Some(most) = bound(schema, "maxLength")
        && length > most
    {
        let wrong = format!("has {length} characters");
        problems.push(Problem::new(path, wrong, format!("use at most {most}")));
        return;
    }
    if let Some(fewest) = bound(schema, "minLength")
        && length < fewest
    {
        let wrong = if length == 0 { "is empty".to_owned() } else { format!("has {length} characters") };
        problems.push(Problem::new(path, wrong, format!("use at least {fewest}")));
    }
    if let Some(pattern) = text(schema, "pattern")
        && !matches(pattern, value)
    {
        problems.push(Problem::new(
            path,
            format!("is '{}'", value.escape_debug()),
            format!("it must match {pattern}"),
        ));
    }
}

fn check_number(number: &serde_json::Number, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let Some(value) = number.as_f64() else { return };
    if let Some(least) = schema.get("minimum")
        && least.as_f64().is_some_and(|least| value < least)
    {
        problems.push(Problem::new(path, format!("is {number}"), format!("use at least {least}")));
    }
    if let Some(most) = schema.get("maximum")
        && most.as_f64().is_some_and(|most| value > most)
    {
        problems.push(Problem::new(path, format!("is {number}"), format!("use at most {most}")));
    }
}

/// Names fields that the schema does not know, and checks nothing else.
fn unknown_fields(value: &Value, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match field_schema(schema, name) {
                    Some(schema) => unknown_fields(value, schema, &below(path, name), problems),
                    None => unknown(below(path, name), schema, problems),
                }
            }
        }
        Value::Array(elements) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, value) in elements.iter().enumerate() {
                unknown_fields(value, schema, &element(path, index), problems);
            }
        }
        _ => {}
    }
}

fn unknown(path: String, schema: &Value, problems: &mut Vec<Problem>) {
    let known = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let name = path.rsplit(['.', '\'']).find(|part| !part.is_empty() && *part != "]").unwrap_or_default();
    let near = known.clone().find(|known| known.eq_ignore_ascii_case(name));
    let advice = match near {
        Some(near) => format!("did you mean {near}?"),
        None => {
            let known: Vec<_> = known.map(String::as_str).collect();
            if known.is_empty() {
                "remove it".to_owned()
            } else {
                format!("remove it; known here: {}", known.join(", "))
            }
        }
    };
    problems.push(Problem::new(path, "is not a known field", advice));
}

/// The schema of a field, or of the values of a map.
fn field_schema<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    let properties = schema.get("properties").and_then(|properties| properties.get(name));
    properties.or_else(|| schema.get("additionalProperties").filter(|values| values.is_object()))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn text<'s>(schema: &'s Value, keyword: &str) -> Option<&'s str> {
    schema.get(keyword).and_then(Value::as_str)
}

fn bound(schema: &Value, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
}

fn is_a(value: &Value, expected: &str) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        // Beyond this, the server has a number with a fraction.
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "integer or string" => value.is_string() || value.is_i64(),
        _ => true,
    }
}

/// What a value is, in words.
pub(super) fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(number) if number.is_u64() && !number.is_i64() => "a number beyond 64 bits",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "a boolean",
        "integer" => "an integer",
        "integer or string" => "an integer or a string",
        _ => "a number",
    }
}

fn advice_for_type(expected: &str) -> &'static str {
    match expected {
        "object" => "write its fields below it, or leave it out",
        "array" => "begin each element with '- '",
        "string" => "put the value in quotes",
        "boolean" => "use true or false",
        "integer" => "use a whole number without quotes",
        _ => "correct the value",
    }
}

/// Patterns of the schema, compiled once each.
fn matches(pattern: &str, value: &str) -> bool {
    static COMPILED: LazyLock<RwLock<HashMap<String, Regex>>> = LazyLock::new(RwLock::default);
    if let Ok(compiled) = COMPILED.read()
        && let Some(regex) = compiled.get(pattern)
    {
        return regex.is_match(value);
    }
    let Ok(regex) = Regex::new(pattern) else { return false };
    let matched = regex.is_match(value);
    if let Ok(mut compiled) = COMPILED.write() {
        compiled.insert(pattern.to_owned(), regex);
    }
    matched
}

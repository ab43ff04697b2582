//! The CEL rules of the schema, evaluated in process.

use std::sync::LazyLock;

use kube::core::cel::{CompiledSchema, ValidationError, compile_schema, validate_compiled};
use serde_json::Value;

use crate::problem::{Problem, element};
use crate::schema;

static RULES: LazyLock<CompiledSchema> = LazyLock::new(|| compile_schema(schema::open_api()));

/// Evaluates every rule. Messages have the form `what is wrong; what to do`.
pub(super) fn check(object: &Value, problems: &mut Vec<Problem>) {
    problems.extend(broken(object).iter().flat_map(|error| {
        let (wrong, advice) = error.message.split_once("; ").unwrap_or((&error.message, ""));
        let path = &error.field_path;
        let culprits = culprits(object, path, &error.rule);
        let paths = if culprits.is_empty() {
            vec![path.clone()]
        } else {
            culprits.iter().map(|index| element(path, *index)).collect()
        };
        paths.into_iter().map(move |path| Problem::new(path, wrong, advice)).collect::<Vec<_>>()
    }));
}

fn broken(object: &Value) -> Vec<ValidationError> {
    validate_compiled(&RULES, object, None)
        .err()
        .map(kube::core::cel::ValidationErrors::into_vec)
        .unwrap_or_default()
}

/// A rule on a list of objects says that something is wrong in it, not where. These elements break it alone; or, where none does,
/// these are the ones without which it holds.
fn culprits(object: &Value, path: &str, rule: &str) -> Vec<usize> {
    let pointer = format!("/{}", path.replace('.', "/"));
    let list = match object.pointer(&pointer) {
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => list,
        _ => return Vec::new(),
    };
    let breaks = |keep: &dyn Fn(usize) -> bool| {
        let kept = list.iter().enumerate().filter(|(index, _)| keep(*index)).map(|(_, value)| value.clone());
        let mut changed = object.clone();
        if let Some(place) = changed.pointer_mut(&pointer) {
            *place = kept.collect();
        }
        broken(&changed).iter().any(|error| error.rule == rule)
    };
    let alone: Vec<_> = (0..list.len()).filter(|index| breaks(&|other| other == *index)).collect();
    if !alone.is_empty() {
        return alone;
    }
    (0..list.len()).filter(|index| !breaks(&|other| other != *index)).collect()
}

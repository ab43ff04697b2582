//! Admission without a cluster: what the API server would say to a new `IngestPipeline` when asked to be strict.
//!
//! In its order: nulls are pruned, fields that the schema does not know are named, the schema is checked (types,
//! bounds, patterns, enums, required fields, unions, keys of lists), then the CEL rules. `e2e/tests/admit_manifests.rs`
//! holds both against each other.

mod cel;
mod metadata;
mod structural;

use serde_json::Value;

use crate::pipeline::IngestPipeline;
use crate::problem::Problem;
use crate::schema;

/// `apiVersion` of the resource.
pub const API_VERSION: &str = "penstock.dev/v1alpha1";
/// `kind` of the resource.
pub const KIND: &str = "IngestPipeline";

/// Admits a new object. It comes back typed and without nulls.
///
/// # Errors
/// Everything that is wrong with it, at least one problem; CEL is asked only about what fits the schema.
pub fn admit(mut object: Value) -> Result<IngestPipeline, Vec<Problem>> {
    identify(&object)?;
    let schema = schema::open_api();
    structural::prune_nulls(&mut object, schema);
    structural::whole_numbers(&mut object, schema);
    let mut problems = Vec::new();
    metadata::check(&mut object, &mut problems);
    structural::check(&object, schema, &mut problems);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if problems.is_empty() {
        cel::check(&object, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // What the schema admits fits the types; a difference between the two would show here.
    serde_json::from_value(object).map_err(|error| {
        vec![Problem::new("", format!("cannot be read: {error}"), "report this as a defect")]
    })
}

fn identify(object: &Value) -> Result<(), Vec<Problem>> {
    let Value::Object(fields) = object else {
        let advice = "begin with apiVersion, kind, metadata and spec";
        return Err(vec![Problem::new(
            "",
            format!("{} is not a resource", structural::name_of(object)),
            advice,
        )]);
    };
    let wrong = |field: &str, expected: &str| match fields.get(field) {
        Some(Value::String(text)) if text == expected => None,
        Some(Value::String(text)) => {
            Some(Problem::new(field, format!("is '{text}'"), format!("only {expected} is understood")))
        }
        _ => Some(Problem::new(field, "is missing", format!("set it to {expected}"))),
    };
    let problems: Vec<_> =
        [wrong("apiVersion", API_VERSION), wrong("kind", KIND)].into_iter().flatten().collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

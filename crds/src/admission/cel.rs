//! The CEL rules of the schema, evaluated in process.

use std::sync::LazyLock;

use kube::core::cel::{CompiledSchema, compile_schema, validate_compiled};
use serde_json::Value;

use crate::problem::Problem;
use crate::schema;

static RULES: LazyLock<CompiledSchema> = LazyLock::new(|| compile_schema(schema::open_api()));

/// Evaluates every rule. Messages have the form `what is wrong; what to do`.
pub(super) fn check(object: &Value, problems: &mut Vec<Problem>) {
    let Err(errors) = validate_compiled(&RULES, object, None) else { return };
    problems.extend(errors.as_slice().iter().map(|error| {
        let (wrong, advice) = error.message.split_once("; ").unwrap_or((&error.message, ""));
        Problem::new(error.field_path.clone(), wrong, advice)
    }));
}

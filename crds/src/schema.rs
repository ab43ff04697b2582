//! The CustomResourceDefinition: what the derive makes of the types, brought to the form that we publish. Install this
//! one, not the derive's own `IngestPipeline::crd()`.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::pipeline::{IngestPipeline, rules};

/// Name of the CustomResourceDefinition.
pub const CRD_NAME: &str = "ingestpipelines.penstock.dev";

static CRD: LazyLock<Value> = LazyLock::new(build);

/// The CustomResourceDefinition of `IngestPipeline`, as JSON.
#[must_use]
pub fn crd() -> &'static Value {
    &CRD
}

/// The schema of the resource, `openAPIV3Schema` of the only version.
#[must_use]
pub fn open_api() -> &'static Value {
    static EMPTY: Value = Value::Null;
    CRD.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap_or(&EMPTY)
}

fn build() -> Value {
    let mut crd = serde_json::to_value(IngestPipeline::crd()).unwrap_or_default();
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
        schema["x-kubernetes-validations"] = rules::root();
        schema["required"] = json!(["spec"]);
        // What kstatus reads of an object that no operator has seen yet.
        schema["properties"]["status"]["default"] = json!({"observedGeneration": -1});
    }
    crd
}

/// `nullable` goes: without it the API server prunes an explicit `null`, so that it means absent to CEL, to the
/// operator and to us alike. Lines of a description become paragraphs.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("nullable");
    if object.contains_key("x-kubernetes-int-or-string") {
        object.remove("anyOf");
    }
    for keyword in ["minimum", "maximum"] {
        if let Some(bound) = object.get_mut(keyword)
            && let Some(number) = bound.as_f64()
            && number.fract() == 0.0
        {
            #[expect(clippy::cast_possible_truncation, reason = "bounds are far below 2^53")]
            let number = number as i64;
            *bound = json!(number);
        }
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        let paragraphs: Vec<_> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for keyword in ["items", "additionalProperties"] {
        object.get_mut(keyword).map(tidy);
    }
    alternatives(object);
}

/// Members of a union stand in `properties`; what is left of them in `oneOf` is which one is required.
fn alternatives(object: &mut Map<String, Value>) {
    let Some(Value::Array(members)) = object.get_mut("oneOf") else { return };
    for member in members {
        if let Some(member) = member.as_object_mut() {
            member.retain(|keyword, _| keyword == "required");
        }
    }
}

/// The CustomResourceDefinition as YAML, with a header that says where it comes from.
///
/// # Errors
/// When the YAML writer fails, which it does not for JSON values.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    Ok(format!(
        "# Written by `make generate` from the types in crds/src/pipeline. Do not edit.\n{}",
        serde_yaml::to_string(crd())?
    ))
}

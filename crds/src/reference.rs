//! The reference page of the resource, written from its schema.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::schema;
use crate::served::UNSERVED;

/// Objects that Kubernetes describes itself.
const KUBERNETES: [&str; 2] = ["spec.edge.affinity", "spec.edge.tolerations"];

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let schema = schema::open_api();
    let mut page = String::from(
        "<!-- Written by `make generate` from the types in crds/src/pipeline. Do not edit. -->\n\n\
         # IngestPipeline\n\n\
         `apiVersion: penstock.dev/v1alpha1`, `kind: IngestPipeline`, short name `ipl`.\n\n",
    );
    let _ = writeln!(page, "{}\n", text(schema, "description"));
    page.push_str(
        "A field that is left out, or `null`, has its default. Defaults are filled in when a pipeline is resolved and \
         are not written into the object. Unions (\"exactly one of\") have one member set. Names of Secrets and \
         ConfigMaps are looked up in the namespace of the pipeline.\n\n",
    );
    for rule in rules(schema) {
        let _ = writeln!(page, "- {rule}");
    }
    page.push('\n');
    for part in ["spec", "status"] {
        section(&schema["properties"][part], part, &mut page);
    }
    page.push_str("## Not served by this version\n\n");
    page.push_str("These fields exist and are refused, so that nothing is ignored in silence:\n\n");
    for line in UNSERVED {
        let _ = writeln!(page, "- `{}`: {} not served; {}.", line.field, line.what, line.advice);
    }
    page
}

/// A section for an object, and those below it.
fn section(schema: &Value, path: &str, page: &mut String) {
    let level = if path.contains(['.', '[']) { "###" } else { "##" };
    let _ = writeln!(page, "{level} {path}\n\n{}\n", text(schema, "description"));
    let members: Vec<_> = schema["oneOf"].as_array().into_iter().flatten().flat_map(required).collect();
    if !members.is_empty() {
        let _ = writeln!(page, "Exactly one of {}.\n", code_list(&members));
    }
    let Some(fields) = schema["properties"].as_object().filter(|fields| !fields.is_empty()) else {
        page.push_str("It has no fields.\n\n");
        return;
    };
    page.push_str("| field | type | meaning |\n|---|---|---|\n");
    let needed: Vec<_> = required(schema).collect();
    for (name, field) in fields {
        let mark = if needed.contains(&name.as_str()) { "<br>required" } else { "" };
        let meaning = text(field, "description").replace("\n\n", "<br>").replace('|', "\\|");
        let _ = writeln!(page, "| `{name}`{mark} | {} | {meaning} |", kind(field));
    }
    page.push('\n');
    let rules: Vec<_> = rules(schema).collect();
    if !rules.is_empty() {
        page.push_str("Refused at admission:\n\n");
        for rule in rules {
            let _ = writeln!(page, "- {rule}");
        }
        page.push('\n');
    }
    below(fields, path, page);
}

fn below(fields: &Map<String, Value>, path: &str, page: &mut String) {
    for (name, field) in fields {
        let mut path = format!("{path}.{name}");
        let mut inner = field;
        while let Some(items) = inner.get("items") {
            path.push_str("[]");
            inner = items;
        }
        let foreign = KUBERNETES.iter().any(|known| path.starts_with(known));
        if inner.get("properties").is_some() && !foreign {
            section(inner, &path, page);
        }
    }
}

/// Type and bounds.
fn kind(schema: &Value) -> String {
    let mut kind = match text(schema, "type") {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => match schema.get("additionalProperties") {
            Some(values) => format!("map of {}", kind(values)),
            None => "object".to_owned(),
        },
        "" => "quantity".to_owned(),
        name => name.to_owned(),
    };
    if let Some(allowed) = schema["enum"].as_array() {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return code_list(&allowed);
    }
    let bounds =
        [("minimum", "maximum", ""), ("minLength", "maxLength", "characters"), ("minItems", "maxItems", "")];
    for (least, most, unit) in bounds {
        let most = schema.get(most).filter(|most| most.as_i64() != Some(i64::MAX));
        let range =
            match (schema.get(least).filter(|least| least.as_i64() != Some(0) || unit.is_empty()), most) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                (Some(least), None) => format!("from {least}"),
                (None, Some(most)) => format!("to {most}"),
                (None, None) => continue,
            };
        let _ = write!(kind, ", {}", format!("{range} {unit}").trim_end());
    }
    if let Some(most) = schema.get("maxProperties") {
        let _ = write!(kind, ", to {most} entries");
    }
    if text(schema, "type") == "string" && !text(schema, "pattern").is_empty() {
        let _ = write!(kind, ", <code>{}</code>", text(schema, "pattern").replace('|', "&#124;"));
    }
    kind
}

fn rules(schema: &Value) -> impl Iterator<Item = &str> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().map(|rule| text(rule, "message"))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn text<'s>(schema: &'s Value, keyword: &str) -> &'s str {
    schema.get(keyword).and_then(Value::as_str).unwrap_or_default()
}

fn code_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

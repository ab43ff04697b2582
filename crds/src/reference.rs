//! The reference page of the resource, written from its schema.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::pipeline::bounds;
use crate::schema;
use crate::served::UNSERVED;

/// Objects that are described elsewhere: by Kubernetes, or once for several places.
const ELSEWHERE: [(&str, &str); 4] = [
    ("spec.edge.affinity", "As in a Kubernetes Pod."),
    ("spec.edge.tolerations", "As in a Kubernetes Pod."),
    ("spec.edge.adapters[].resources", "As `spec.edge.resources`."),
    ("spec.kafka.adminAuthentication", "Fields as in `spec.kafka.authentication`."),
];

/// Patterns that have a name.
const NAMED: [(&str, &str); 7] = [
    (bounds::LABEL, "lower-case letters, digits and '-'"),
    (bounds::PORT_NAME, "lower-case letters, digits and single '-'"),
    (bounds::OBJECT_NAME, "name of a Kubernetes object"),
    (bounds::DATA_KEY, "key of a Secret or ConfigMap"),
    (bounds::HOST_PORT, "`host:port`"),
    (bounds::CIDR, "CIDR"),
    (bounds::REDIS_URL, "`redis://` or `rediss://`, host, optional port and database"),
];

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
        "`v1alpha1` may change in any minor version; the changelog says how. Nothing is renamed or taken away in silence: \
         the API server names fields that it does not know.\n\n\
         A field that is left out, or `null`, has its default. Defaults are filled in when a pipeline is resolved and \
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
        let mut meaning = text(field, "description").replace("\n\n", "<br>").replace('|', "\\|");
        if let Some(place) = elsewhere(&format!("{path}.{name}")) {
            let _ = write!(meaning, " {place}");
        }
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
        let described = elsewhere(path.trim_end_matches("[]")).is_some();
        if inner.get("properties").is_some() && !described {
            section(inner, &path, page);
        }
    }
}

fn elsewhere(path: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(known, _)| *known == path).map(|(_, place)| *place)
}

/// Type and bounds.
fn kind(schema: &Value) -> String {
    if let Some(allowed) = schema["enum"].as_array() {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return code_list(&allowed);
    }
    let within = |least: &str, most: &str| range(schema.get(least), schema.get(most));
    let (kind, bounds) = match text(schema, "type") {
        "array" => (
            format!("list of {}", kind(&schema["items"])),
            format!("{} elements", within("minItems", "maxItems")),
        ),
        "object" => match schema.get("additionalProperties") {
            Some(values) => {
                (format!("map of {}", kind(values)), format!("{} entries", within("", "maxProperties")))
            }
            None => return "object".to_owned(),
        },
        "string" => ("string".to_owned(), format!("{} characters", within("minLength", "maxLength"))),
        "" => return "quantity".to_owned(),
        name => (name.to_owned(), within("minimum", "maximum")),
    };
    let mut kind = kind;
    if bounds.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-') {
        let _ = write!(kind, ", {bounds}");
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        match NAMED.iter().find(|(known, _)| *known == pattern) {
            Some((_, name)) => {
                let _ = write!(kind, ", {name}");
            }
            None => {
                let _ = write!(kind, ", <code>{}</code>", pattern.replace('|', "&#124;"));
            }
        }
    }
    kind
}

/// `1 to 16`, `from 1`, `to 16`, or nothing.
fn range(least: Option<&Value>, most: Option<&Value>) -> String {
    let most = most.filter(|most| most.as_i64() != Some(i64::MAX));
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("from {least}"),
        (None, Some(most)) => format!("to {most}"),
        (None, None) => String::new(),
    }
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

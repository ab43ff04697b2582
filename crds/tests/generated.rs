//! Files that are written from the types: this fails when they are stale, and writes them with `PENSTOCK_UPDATE=1`
//! (`make generate`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use penstock_crds::{manifest, reference, resolve, schema};
use serde_json::Value;

/// A larger one cannot be applied from the client: the annotation with the last applied object ends at 262,144 bytes.
const MAX_CRD_BYTES: usize = 200_000;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn current(path: &str, expected: &str) {
    let file = repository().join(path);
    if std::env::var_os("PENSTOCK_UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is stale: run `make generate` and commit what it writes");
}

#[test]
fn the_custom_resource_definition_is_current_and_small() {
    let yaml = schema::crd_yaml().unwrap();
    assert!(yaml.len() < MAX_CRD_BYTES, "the CRD has {} bytes", yaml.len());
    current("crds/penstock.dev_ingestpipelines.yaml", &yaml);
}

/// As part of the chart the definition is a template: it can be left out, and stays when the chart goes.
fn crd_template(yaml: &str) -> String {
    assert!(!yaml.contains("{{"), "helm would read that as its own");
    let name = format!("  name: {}\n", schema::CRD_NAME);
    let (head, body) = yaml.split_once(&name).unwrap();
    let labels = "  labels:\n    {{- include \"penstock.labels\" . | nindent 4 }}\n";
    let keep =
        "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    let (comment, head) = head.split_once('\n').unwrap();
    format!("{comment}\n{{{{- if .Values.crds.enabled }}}}\n{head}{name}{labels}{keep}{body}{{{{- end }}}}\n")
}

#[test]
fn the_definition_in_the_chart_is_current() {
    let yaml = schema::crd_yaml().unwrap();
    current("charts/penstock/templates/ingestpipelines.yaml", &crd_template(&yaml));
}

#[test]
fn the_reference_page_is_current() {
    current("docs/reference/ingestpipeline.md", &reference::page());
}

#[test]
fn every_example_resolves() {
    let folder = repository().join("docs/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            let resolved = manifest::read(&text).and_then(|pipeline| resolve::resolve(&pipeline));
            resolved.unwrap_or_else(|problems| panic!("{}: {problems:#?}", path.display()));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} examples were found");
}

/// Calls `visit` with every schema below `schema` and its path.
fn walk<'s>(schema: &'s Value, path: &str, visit: &mut impl FnMut(&'s Value, &str)) {
    visit(schema, path);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), visit);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = schema.get(keyword) {
            walk(inner, &format!("{path}{mark}"), visit);
        }
    }
}

#[test]
fn everything_is_bounded() {
    let mut open = Vec::new();
    walk(&schema::open_api()["properties"]["spec"], "spec", &mut |schema, path| {
        let has = |keyword: &str| schema.get(keyword).is_some();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum"),
            Some("array") => has("maxItems"),
            Some("integer") => has("minimum") && has("maximum"),
            Some("object") if has("additionalProperties") => has("maxProperties"),
            Some("object" | "boolean") => true,
            None => has("x-kubernetes-int-or-string") && has("maxLength"),
            Some(_) => false,
        };
        if !bounded {
            open.push(path.to_owned());
        }
    });
    assert!(open.is_empty(), "{open:#?}");
}

#[test]
fn every_field_is_described_and_has_no_default_in_the_schema() {
    let mut silent = Vec::new();
    walk(schema::open_api(), "", &mut |schema, path| {
        let element = path.is_empty() || path.ends_with("[]") || path.ends_with(".*");
        let builtin = matches!(path, ".apiVersion" | ".kind" | ".metadata");
        if !element && !builtin && schema["description"].as_str().is_none_or(str::is_empty) {
            silent.push(format!("{path} has no description"));
        }
        if path != ".status" && schema.get("default").is_some() {
            silent.push(format!("{path} has a default"));
        }
        if schema.get("nullable").is_some() {
            silent.push(format!("{path} is nullable"));
        }
    });
    assert!(silent.is_empty(), "{silent:#?}");
}

/// A field that may be left out says what happens then.
#[test]
fn every_optional_field_of_spec_tells_its_default() {
    let spec = &schema::open_api()["properties"]["spec"];
    // Groups of fields with defaults of their own, fields of Kubernetes, and what another field asks for.
    let groups = [
        "spec.delivery",
        "spec.edge",
        "spec.networkPolicy",
        "spec.kafka.producer",
        "spec.edge.drain",
        "spec.endpoints[].limits",
        "spec.endpoints[].exposure",
        "spec.endpoints[].tls.clientCaSecret",
        "spec.routes[].from[].topicFilter",
        "spec.routes[].from[].path",
    ];
    let mut silent = Vec::new();
    walk(spec, "spec", &mut |schema, path| {
        if path.starts_with("spec.edge.affinity") || path.starts_with("spec.edge.tolerations") {
            return;
        }
        let strings = |list: &Value| -> Vec<String> {
            list.as_array()
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        };
        let mut required = strings(&schema["required"]);
        for member in schema["oneOf"].as_array().into_iter().flatten() {
            required.extend(strings(&member["required"]));
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let told = field["description"].as_str().is_some_and(|text| text.contains("Default: "));
            if !required.contains(name) && !told && !groups.contains(&path.as_str()) {
                silent.push(path);
            }
        }
    });
    assert!(silent.is_empty(), "{silent:#?}");
}

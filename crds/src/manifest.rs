//! Reading a manifest: text, one YAML document, an admitted pipeline.

mod yaml;

use serde_json::Value;

use crate::admission;
use crate::pipeline::IngestPipeline;
use crate::problem::Problem;

/// The largest manifest that is read, in bytes; etcd takes no more either.
pub const MAX_MANIFEST_BYTES: usize = 1_048_576;

/// Reads one `IngestPipeline` from YAML (or JSON, which is YAML) and admits it as a cluster would.
///
/// # Errors
/// What is wrong with the text as a document, or with the document as a pipeline; at least one problem.
pub fn read(text: &str) -> Result<IngestPipeline, Vec<Problem>> {
    admission::admit(document(text).map_err(|problem| vec![problem])?)
}

/// Reads the one document of a manifest, whatever it holds.
///
/// # Errors
/// A text that is too large, is empty, holds more than one document, is not YAML, or expands to too much.
pub fn document(text: &str) -> Result<Value, Problem> {
    if text.len() > MAX_MANIFEST_BYTES {
        let wrong = format!("the manifest has {} bytes, at most {MAX_MANIFEST_BYTES} are read", text.len());
        return Err(Problem::new("", wrong, "make it smaller"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = None;
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = yaml::read(document)?;
        // Nothing, or comments only, before the first '---' or after the last.
        if !value.is_null() && found.replace(value).is_some() {
            let advice = "give one document to one file; remove what follows '---'";
            return Err(Problem::new("", "there is more than one document", advice));
        }
    }
    found.ok_or_else(|| Problem::new("", "the manifest is empty", "write an IngestPipeline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, wrong: &str) {
        let problem = document(text).unwrap_err();
        assert!(problem.wrong.contains(wrong), "{problem}");
    }

    #[test]
    fn a_manifest_is_one_document() {
        for one in
            ["a: 1", "---\na: 1\n", "# c\n---\na: 1\n---\n# c\n", "\u{feff}a: 1", "---\n---\na: 1\n..."]
        {
            assert_eq!(document(one).unwrap(), serde_json::json!({"a": 1}), "{one:?}");
        }
        for empty in ["", " \n", "# only a comment\n", "---\n", "---\n---\n", "null"] {
            refused(empty, "is empty");
        }
        refused("a: 1\n---\nb: 2\n", "more than one document");
    }

    #[test]
    fn broken_yaml_is_told_with_its_place() {
        refused("a: [1, 2", "line 1 column 4");
        refused("a: 1\na: 2\n", "'a' is there twice at line 2");
        refused("1: a\n", "the key 1 is not a string");
        refused("a: !secret b\n", "the tag secret has no meaning");
        refused("a: .nan\n", "not a number of JSON");
        refused("a: *b\n", "unknown anchor");
        refused(&format!("{}1{}", "[".repeat(500), "]".repeat(500)), "recursion limit");
    }

    #[test]
    fn a_manifest_that_is_too_large_is_not_read() {
        refused(&"a".repeat(MAX_MANIFEST_BYTES + 1), "at most 1048576");
    }

    #[test]
    fn aliases_may_repeat_but_not_explode() {
        let repeated =
            document("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\nf: {<<: [*a, {g: 3}], b: 4}\n").unwrap();
        assert_eq!(repeated["d"], serde_json::json!({"b": 1, "e": 2}));
        assert_eq!(repeated["f"], serde_json::json!({"b": 4, "g": 3}));
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let inner = [format!("*a{}", n - 1)].repeat(10).join(", ");
            laughs += &format!("a{n}: &a{n} [{inner}]\n");
        }
        refused(&laughs, "expands");
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), ["*a"].repeat(1_000).join(", "));
        refused(&long, "expands");
    }
}

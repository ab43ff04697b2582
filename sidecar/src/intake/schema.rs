//! What is read of a payload, and never rewritten: JSON Schema validation and the event time.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

/// The largest schema that is taken, in bytes.
const MAX_SCHEMA_BYTES: u64 = 262_144;
/// Memory that a schema's regular expressions may take, in bytes; they are matched in linear time.
const MAX_PATTERN_BYTES: usize = 1_048_576;

/// A schema that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SchemaError {
    path: String,
    problem: String,
}

/// A compiled schema.
#[derive(Debug)]
pub struct Schema(Validator);

impl Schema {
    /// Reads and compiles a schema. References within it are followed; those to files or other hosts are refused.
    pub fn read(path: &Path) -> Result<Self, SchemaError> {
        let error = |problem: String| SchemaError { path: path.display().to_string(), problem };
        let size = std::fs::metadata(path).map_err(|e| error(e.to_string()))?.len();
        if size > MAX_SCHEMA_BYTES {
            return Err(error(format!("the schema has {size} bytes, at most {MAX_SCHEMA_BYTES} are taken")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        Self::compile(&text).map_err(error)
    }

    fn compile(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
        jsonschema::options()
            .with_pattern_options(
                jsonschema::PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(&schema)
            .map(Self)
            .map_err(|e| format!("is not a usable JSON Schema: {e}"))
    }

    /// Says what of the document does not match: where, and which keyword, never the value itself.
    pub fn check(&self, document: &Value) -> Result<(), String> {
        self.0.validate(document).map_err(|error| {
            let place = error.instance_path().to_string();
            let rule = error.schema_path().to_string();
            format!("{} does not fulfil {rule}", if place.is_empty() { "the document" } else { &place })
        })
    }
}

/// The event time at an RFC 6901 pointer, as RFC 3339 text: a string that is one already, or a number of Unix
/// milliseconds.
#[must_use]
pub fn event_time(document: &Value, pointer: &str) -> Option<String> {
    match document.pointer(pointer)? {
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(|_| text.clone()),
        Value::Number(number) => {
            jiff::Timestamp::from_millisecond(number.as_i64()?).ok().map(|time| time.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mismatch_names_the_place_and_not_the_value() {
        let schema = Schema::compile(r#"{"properties": {"t": {"type": "number"}}}"#).unwrap();
        assert_eq!(schema.check(&json!({"t": 1})), Ok(()));
        let message = schema.check(&json!({"t": "s3cret"})).unwrap_err();
        assert!(message.contains("/t") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn a_schema_reaches_for_nothing_outside() {
        for reference in ["file:///etc/passwd", "http://127.0.0.1:1/schema"] {
            let text = json!({"$ref": reference}).to_string();
            assert!(Schema::compile(&text).is_err(), "{reference}");
        }
    }

    #[test]
    fn a_pattern_that_backtracks_is_matched_in_linear_time() {
        let schema = Schema::compile(r#"{"pattern": "^(a+)+$"}"#).unwrap();
        assert!(schema.check(&json!(format!("{}b", "a".repeat(50_000)))).is_err());
    }

    #[test]
    fn event_time_is_text_or_milliseconds() {
        let document =
            json!({"a": "2026-01-02T03:04:05Z", "b": 1_767_323_045_000_i64, "c": true, "d": "noon"});
        assert_eq!(event_time(&document, "/a").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(event_time(&document, "/b").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(event_time(&document, "/c"), None);
        assert_eq!(event_time(&document, "/d"), None);
        assert_eq!(event_time(&document, "/e"), None);
    }
}

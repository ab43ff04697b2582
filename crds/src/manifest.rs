//! Reading a manifest: text, one YAML document, a pipeline.

use serde::Deserialize as _;
use serde_json::Value;

use crate::pipeline::IngestPipeline;
use crate::problem::Problem;

/// The largest manifest that is read, in bytes; etcd takes no more either.
pub const MAX_MANIFEST_BYTES: usize = 1_048_576;

/// Reads one `IngestPipeline`.
///
/// # Errors
/// What is wrong with the text as a document, or with the document as a pipeline.
pub fn read(text: &str) -> Result<IngestPipeline, Vec<Problem>> {
    let document = document(text).map_err(|problem| vec![problem])?;
    serde_json::from_value(document)
        .map_err(|error| vec![Problem::new("", format!("is not an IngestPipeline: {error}"), "correct it")])
}

fn document(text: &str) -> Result<Value, Problem> {
    if text.len() > MAX_MANIFEST_BYTES {
        let wrong = format!("the manifest has {} bytes, at most {MAX_MANIFEST_BYTES} are read", text.len());
        return Err(Problem::new("", wrong, "make it smaller"));
    }
    let mut documents = serde_yaml::Deserializer::from_str(text).map(|document| {
        Value::deserialize(document).map_err(|error| {
            Problem::new("", format!("the manifest is not YAML that can be read: {error}"), "correct it")
        })
    });
    let first = documents.next().transpose()?.filter(|value| !value.is_null());
    let first = first.ok_or_else(|| Problem::new("", "the manifest is empty", "write an IngestPipeline"))?;
    if documents.next().is_some() {
        return Err(Problem::new("", "there is more than one document", "give one document to one file"));
    }
    Ok(first)
}

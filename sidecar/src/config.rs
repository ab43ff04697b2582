//! Reading what a sidecar is configured with.

use std::path::{Path, PathBuf};

use penstock_crds::edge::{EDGE_CONFIG_VERSION, EdgeConfig};

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The operator's file is not what this version reads.
    #[error("{}: {problem}", path.display())]
    EdgeConfig {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl ConfigError {
    /// Whether the file could not be read at all.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// Reads the file that the operator made.
pub fn read_edge_config(path: &Path) -> Result<EdgeConfig, ConfigError> {
    let text = read(path)?;
    let problem = |problem| ConfigError::EdgeConfig { path: path.to_owned(), problem };
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| problem(format!("is not JSON: {error}")))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(EDGE_CONFIG_VERSION) => {}
        Some(version) => {
            return Err(problem(format!(
                "has version {version}, this sidecar reads {EDGE_CONFIG_VERSION}: use a sidecar of the operator's version"
            )));
        }
        None => return Err(problem("is not an edge configuration: it has no version".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| problem(error.to_string()))
}

/// Reads an `IngestPipeline` manifest, checks it and fills in its defaults.
pub fn read_manifest(path: &Path) -> Result<EdgeConfig, ConfigError> {
    read_edge_config(path)
}

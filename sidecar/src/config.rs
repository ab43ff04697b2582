//! Reading what a sidecar is configured with.

use std::fmt;
use std::path::{Path, PathBuf};

use penstock_crds::edge::{EDGE_CONFIG_VERSION, EdgeConfig};
use penstock_crds::manifest;
use penstock_crds::problem::Problem;
use penstock_crds::resolve::resolve;
use penstock_crds::standalone::left_to_operator;

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
    /// The manifest is refused.
    #[error("{}:{problems}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problems: Problems,
    },
}

/// At least one problem, a line each.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
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

/// Reads an `IngestPipeline` manifest, checks it and fills in its defaults. What only the operator acts upon is logged.
pub fn read_manifest(path: &Path) -> Result<EdgeConfig, ConfigError> {
    let text = read(path)?;
    let refused = |problems| ConfigError::Manifest { path: path.to_owned(), problems: Problems(problems) };
    let pipeline = manifest::read(&text).map_err(refused)?;
    let config = resolve(&pipeline).map_err(refused)?;
    for note in left_to_operator(&pipeline) {
        tracing::info!("{note}");
    }
    Ok(config)
}

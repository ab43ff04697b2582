//! Files in the [`super::EdgeConfig`].

use serde::{Deserialize, Serialize};

/// A file below the sidecar's references folder (`--references`), `secrets/NAME/KEY` or `configmaps/NAME/KEY`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReferencePath(pub String);

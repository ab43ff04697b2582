//! References to Secrets and ConfigMaps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{DATA_KEY, OBJECT_NAME};
use crate::edge::ReferencePath;

/// The name of an object in the pipeline's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

impl NameReference {
    /// The file in which a sidecar finds a key of a Secret of that name.
    #[must_use]
    pub fn path(&self, key: &str) -> ReferencePath {
        ReferencePath(format!("secrets/{}/{key}", self.name))
    }
}

macro_rules! reference {
    ($(#[doc = $doc:literal] $type:ident, $object:literal, $folder:literal, $key:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $type {
            #[doc = concat!("Name of the ", $object, ", in the namespace of the pipeline.")]
            #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
            pub name: String,
            #[doc = concat!("Key in the ", $object, ". Default: ", $key, ".")]
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
            pub key: Option<String>,
        }

        impl $type {
            /// The file in which a sidecar finds it.
            #[must_use]
            pub fn path(&self) -> ReferencePath {
                ReferencePath(format!(concat!($folder, "/{}/{}"), self.name, self.key.as_deref().unwrap_or($key)))
            }
        }
    )*};
}

reference! {
    /// A password in a Secret.
    PasswordSecret, "Secret", "secrets", "password";
    /// The secret of an OAuth client in a Secret.
    ClientSecret, "Secret", "secrets", "clientSecret";
    /// A bundle of PEM certificates in a Secret.
    CaSecret, "Secret", "secrets", "ca.crt";
    /// Users and their password hashes in a Secret.
    UsersSecret, "Secret", "secrets", "users";
    /// Identities and the hashes of their tokens in a Secret.
    TokensSecret, "Secret", "secrets", "tokens";
    /// A JSON Web Key Set (RFC 7517) in a Secret.
    JwksSecret, "Secret", "secrets", "jwks.json";
    /// A JSON Web Key Set (RFC 7517) in a ConfigMap.
    JwksConfigMap, "ConfigMap", "configmaps", "jwks.json";
    /// A JSON Schema in a ConfigMap.
    SchemaConfigMap, "ConfigMap", "configmaps", "schema.json";
}

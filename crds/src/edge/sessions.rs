//! Sessions in the [`super::EdgeConfig`]: where they are kept.

use serde::{Deserialize, Serialize};

use super::reference_path::ReferencePath;

/// Where sessions are kept that outlive a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SessionsConfig {
    /// In the memory of the pod.
    #[default]
    Memory,
    /// In Redis.
    Redis(RedisConfig),
}

impl SessionsConfig {
    /// Whether they end with the pod.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }
}

/// Connection to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// How the server that takes writes is found.
    pub servers: RedisServersConfig,
    /// Who we are there.
    #[serde(default)]
    pub user: RedisUser,
    /// TLS to servers and Sentinels; absent means plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTlsConfig>,
}

impl RedisConfig {
    /// Every file that it refers to, with the field that names it.
    pub fn references(&self) -> impl Iterator<Item = (&'static str, &ReferencePath)> {
        let sentinels = match &self.servers {
            RedisServersConfig::Sentinel { user, .. } => user.password.as_ref(),
            _ => None,
        };
        let ca = self.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        [
            ("spec.sessions.redis.passwordSecret", self.user.password.as_ref()),
            ("spec.sessions.redis.sentinel.passwordSecret", sentinels),
            ("spec.sessions.redis.tls.ca", ca),
        ]
        .into_iter()
        .filter_map(|(field, path)| Some((field, path?)))
    }
}

/// How the Redis server that takes writes is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RedisServersConfig {
    /// It has one address.
    Standalone {
        /// `host:port`.
        address: String,
        /// Number of the database.
        database: u16,
    },
    /// Sentinels tell.
    Sentinel {
        /// `host:port` of Sentinels, at least one.
        addresses: Vec<String>,
        /// The name by which they know the primary.
        primary_name: String,
        /// Who we are to Sentinels.
        #[serde(default)]
        user: RedisUser,
    },
    /// The cluster tells.
    Cluster {
        /// `host:port` of servers to begin with, at least one.
        addresses: Vec<String>,
    },
}

/// An ACL user; the password is a file, never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisUser {
    /// Its name; absent means the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// File that holds the password; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<ReferencePath>,
}

/// TLS to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisTlsConfig {
    /// PEM bundle that signs the servers' certificates; absent means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ReferencePath>,
}

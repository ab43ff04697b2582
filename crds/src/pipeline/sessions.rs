//! `spec.sessions`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{self, HOST_PORT, REDIS_URL};
use super::references::{CaSecret, PasswordSecret};
use super::rules;

/// Where MQTT sessions that outlive a connection are kept: exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Sessions {
    /// Redis, which all pods share.
    Redis(Box<Redis>),
    /// The memory of the pod: sessions end with it. For one replica, and for development.
    Memory(Memory),
}

/// The memory of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {}

/// Redis 6.2 or later, or what speaks its protocol: exactly one of url, sentinel and cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::redis()))]
pub struct Redis {
    /// Which server.
    #[serde(flatten)]
    pub servers: RedisServers,
    /// Name of the ACL user. Default: Redis' default user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// The Secret that holds the password; a new one is used from the next connection on. Default: no password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<PasswordSecret>,
    /// TLS to the servers and, where there are, to the Sentinels. Default: plain text, unless the URL begins with
    /// rediss://.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
}

/// How the server that takes writes is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedisServers {
    /// One address, always that of the primary: 'redis://host:6379' or, with TLS, 'rediss://host:6379', where wanted
    /// with the number of a database ('/1'); never with credentials.
    Url(#[schemars(length(min = 9, max = 300), regex(pattern = REDIS_URL))] String),
    /// A primary with replicas, of which Sentinels tell which one is the primary now.
    Sentinel(RedisSentinel),
    /// Redis Cluster.
    Cluster(RedisCluster),
}

/// A primary with replicas that Sentinels watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSentinel {
    /// Addresses of the Sentinels, each 'host:port'.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 262), regex(pattern = HOST_PORT)),
        transform = bounds::set
    )]
    pub addresses: Vec<String>,
    /// The name by which the Sentinels know the primary.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub primary_name: String,
    /// Name of the ACL user at the Sentinels. Default: their default user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// The Secret that holds the password for the Sentinels. Default: no password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<PasswordSecret>,
}

/// Redis Cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisCluster {
    /// Addresses of servers to begin with, each 'host:port'.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 262), regex(pattern = HOST_PORT)),
        transform = bounds::set
    )]
    pub addresses: Vec<String>,
}

/// TLS to Redis; certificates and names are always checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisTls {
    /// Certificates that sign those of the servers, in PEM. Default: those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSecret>,
}

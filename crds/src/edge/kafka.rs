//! Kafka in the [`super::EdgeConfig`]: the connection, the producer, the topics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference_path::ReferencePath;

/// Connection to the Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers; absent means plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<KafkaAuthentication>,
    /// `linger.ms` of the producer.
    pub linger_milliseconds: u32,
    /// `compression.type` of the producer.
    pub compression: Compression,
}

/// TLS to the brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// PEM bundle that signs the brokers' certificates; absent means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ReferencePath>,
    /// PEM chain that is shown to the brokers, and its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<KafkaCertificate>,
}

/// What is shown to the brokers in mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaCertificate {
    /// PEM chain.
    pub chain: ReferencePath,
    /// PEM private key.
    pub key: ReferencePath,
}

/// SASL credentials; the password is a file, never a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaAuthentication {
    /// SASL mechanism.
    pub mechanism: SaslMechanism,
    /// User name, or identifier of the OAuth client.
    pub username: String,
    /// File that holds the password, or the client's secret.
    pub password: ReferencePath,
    /// Where OAUTHBEARER has its tokens from; absent with the other mechanisms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenEndpoint>,
}

impl KafkaAuthentication {
    /// Its files.
    pub fn references(&self) -> impl Iterator<Item = &ReferencePath> {
        [&self.password].into_iter().chain(self.token.as_ref().and_then(|token| token.ca.as_ref()))
    }
}

/// What gives tokens to clients (RFC 6749 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenEndpoint {
    /// `https:` or `http:`.
    pub url: String,
    /// Scope that is asked for; absent asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// PEM bundle that signs the server's certificate; absent means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ReferencePath>,
}

/// SASL mechanisms by their registered names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 7677 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// RFC 7628, with tokens by RFC 6749 §4.4.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

/// Producer compression codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::pipeline::bounds::described_by_field)]
pub enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// Google's Snappy.
    Snappy,
    /// LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// A topic and what the pipeline declares of it; a declared fact that the brokers contradict stops acknowledgements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicConfig {
    /// The name by which routes refer to it.
    pub name: String,
    /// The name in Kafka.
    pub topic_name: String,
    /// Declared number of partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Declared replication factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Declared `min.insync.replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_sync_replicas: Option<i32>,
}

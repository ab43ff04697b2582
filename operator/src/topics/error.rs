//! What goes wrong with Kafka. Messages say what, where and what to do; they hold no secret, and they stay the same while
//! the cause does, or each look would be a write of the status.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::reason::{Reason, Remedy};

/// Why Kafka was not asked, did not answer, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// `--allowed-bootstrap-servers` does not name a server.
    #[error(
        "{field}: the operator may not connect to {server}: use a server that \
         --allowed-bootstrap-servers names, or let whoever runs the operator add it"
    )]
    ServerNotAllowed {
        /// The field that names it.
        field: &'static str,
        /// The server.
        server: String,
    },
    /// A Secret is not there, or has no such key, or not what is needed.
    #[error("{field}: {message}")]
    Reference {
        /// The field that names it.
        field: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// There is no client to ask with.
    #[error("no client for Kafka at {servers} can be made: {message}")]
    Client {
        /// The bootstrap servers.
        servers: String,
        /// The client library's words.
        message: String,
    },
    /// No broker answers in time.
    #[error("Kafka at {servers}: {trouble}")]
    Unreachable {
        /// The bootstrap servers.
        servers: String,
        /// As far as the client knows why.
        trouble: Trouble,
    },
    /// The brokers refuse the credentials.
    #[error("Kafka at {servers} refuses the credentials: check mechanism, user name and password of {field}")]
    Authentication {
        /// The bootstrap servers.
        servers: String,
        /// The field of the credentials.
        field: &'static str,
    },
    /// There is no token to authenticate with.
    #[error("{field}: {message}")]
    Token {
        /// The field of the credentials.
        field: &'static str,
        /// Why, and what to do.
        message: String,
    },
    /// The ACLs have a gap.
    #[error("Kafka does not let {who} {what}: allow it {acl}")]
    NotAuthorized {
        /// Who asked.
        who: String,
        /// What was asked.
        what: String,
        /// The operation and resource of the ACL that is missing.
        acl: String,
    },
    /// The brokers refuse a declared setting of a topic.
    #[error("Kafka refuses topic {topic} as declared: {message}")]
    InvalidConfig {
        /// The topic's name in Kafka.
        topic: String,
        /// The broker's words.
        message: String,
    },
    /// The brokers refuse for another reason.
    #[error("{what}: Kafka answers with {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// The broker's words.
        message: String,
        /// Whether the same may succeed later.
        retryable: bool,
    },
}

/// Why no broker answers, as far as the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection, or no answer.
    #[error("no broker answers: check spec.kafka.bootstrapServers, the network, and that the brokers run")]
    Silence,
    /// A name has no address.
    #[error("the name of a server cannot be resolved: check spec.kafka.bootstrapServers")]
    Name,
    /// The TLS handshake fails.
    #[error(
        "the TLS handshake fails: check spec.kafka.tls, its CA, and the names in the brokers' certificates"
    )]
    Tls,
    /// Connections end at once.
    #[error(
        "the servers end each connection at once, as a listener of another kind does: check that spec.kafka.tls and \
         spec.kafka.authentication fit the port"
    )]
    Listener,
}

impl KafkaError {
    /// As a condition gives it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::ServerNotAllowed { .. } => Reason::BootstrapServersNotAllowed,
            Self::Reference { .. } => Reason::ReferenceNotFound,
            Self::Client { .. } | Self::Unreachable { .. } => Reason::KafkaUnreachable,
            Self::Authentication { .. } | Self::Token { .. } => Reason::KafkaAuthenticationFailed,
            Self::NotAuthorized { .. } => Reason::NotAuthorized,
            Self::InvalidConfig { .. } => Reason::InvalidTopicConfig,
            Self::Refused { .. } => Reason::KafkaRefused,
        }
    }

    /// Whether the same may succeed later without a change of the pipeline.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { retryable, .. } => *retryable,
            _ => self.reason().remedy() == Remedy::Outside,
        }
    }
}

/// What was asked of Kafka, for the message and the advice when it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Describe,
    DescribeConfigs,
    Create,
    Grow,
    Configure,
}

impl Request {
    /// A broker's refusal of a request about one topic. `who` asked.
    pub(super) fn refused(self, who: &str, topic: &str, code: Code, message: &str) -> KafkaError {
        let (what, acl) = match self {
            Self::Describe => ("look topic up", "Describe"),
            Self::DescribeConfigs => ("read the configuration of topic", "DescribeConfigs"),
            Self::Create => ("create topic", "Create"),
            Self::Grow => ("add partitions to topic", "Alter"),
            Self::Configure => ("change the configuration of topic", "AlterConfigs"),
        };
        match code {
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => KafkaError::NotAuthorized {
                who: who.to_owned(),
                what: format!("{what} {topic}"),
                acl: format!("{acl} on topic {topic}"),
            },
            Code::InvalidConfig
            | Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::PolicyViolation
            | Code::InvalidArgument => {
                KafkaError::InvalidConfig { topic: topic.to_owned(), message: words(code, message) }
            }
            _ => KafkaError::Refused {
                what: format!("cannot {what} {topic}"),
                message: words(code, message),
                retryable: !matches!(code, Code::UnsupportedFeature | Code::UnsupportedVersion),
            },
        }
    }
}

/// The broker's own words, or those of the protocol if it has none.
fn words(code: Code, message: &str) -> String {
    let words = if message.is_empty() { code.to_string() } else { message.to_owned() };
    words.trim_end_matches('.').to_owned()
}

//! Why a condition is what it is: the closed list of reasons, which is an interface. `docs/reference/conditions.md` says
//! what to do about each; a test holds the two together.

use std::fmt;

/// What has to happen before a reason goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Nothing: all is well.
    None,
    /// Time: it is on its way.
    Progress,
    /// Something outside the pipeline: it may mend by itself, and the operator tries again. After
    /// five minutes without success the pipeline counts as stalled too.
    Outside,
    /// A change of the pipeline itself.
    Spec,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $remedy:ident,)*) => {
        /// The reason of a condition, one CamelCase word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it stands in conditions, Events and metric labels.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What has to happen before it goes away.
            #[must_use]
            pub fn remedy(self) -> Remedy {
                match self {
                    $(Self::$name => Remedy::$remedy,)*
                }
            }
        }
    };
}

reasons! {
    /// The current generation is served.
    Available: None,
    /// The topics are as declared.
    AsDeclared: None,
    /// The brokers' configuration makes an acknowledgement survive the loss of a broker.
    Replicated: None,
    /// Every endpoint that is reached from outside its pod asks senders who they are.
    AllAuthenticate: None,
    /// The annotation `penstock.dev/pause-reconciliation` is set; nothing is changed meanwhile.
    Paused: None,

    /// Edge pods of the current configuration are not all available yet.
    RollingOut: Progress,
    /// The pipeline is seen, and nothing is known of this part yet.
    Pending: Progress,
    /// Topics are being created or changed.
    ChangingTopics: Progress,

    /// A Secret or ConfigMap that the pipeline refers to is not there, or has no such key.
    ReferenceNotFound: Outside,
    /// What stands in a Secret or ConfigMap that the pipeline refers to cannot be used; the message names object, key
    /// and line.
    ReferenceUnusable: Outside,
    /// The pods of the current configuration do not become available.
    RolloutStuck: Outside,
    /// A port of a Service is taken (NodePort).
    PortTaken: Outside,
    /// No broker answers.
    KafkaUnreachable: Outside,
    /// The brokers refuse the credentials.
    KafkaAuthenticationFailed: Outside,
    /// The brokers do not allow what is needed.
    NotAuthorized: Outside,
    /// The brokers refused a request about a topic.
    KafkaRefused: Outside,
    /// A topic that somebody else manages is not there.
    TopicNotFound: Outside,
    /// The API server does not allow the operator what it needs; its roles have a gap.
    ApiForbidden: Outside,
    /// The API server refuses, or does not answer.
    ApiError: Outside,
    /// The cluster does not serve a kind of object that the pipeline needs.
    CapabilityMissing: Outside,
    /// The namespace is being deleted.
    NamespaceTerminating: Outside,
    /// One broker keeps the only copy of a topic.
    SingleReplica: Outside,
    /// A message counts as persisted while a single broker has it (min.insync.replicas).
    SingleInSyncReplica: Outside,
    /// A replica that lacks acknowledged messages may become the leader.
    UncleanLeaderElection: Outside,
    /// The topic is compacted, so that a later message removes an earlier one of its key.
    Compacted: Outside,
    /// delivery.requireDurable is set, and the topics are not durable.
    NotDurable: Outside,

    /// An endpoint lets in whoever reaches its port.
    OpenEndpoint: Spec,
    /// The pipeline is not valid; the message names field, rule and what to do.
    InvalidSpec: Spec,
    /// The stored object cannot be read as an IngestPipeline of this version.
    MalformedObject: Spec,
    /// An object of a name that the pipeline needs is there and belongs to somebody else.
    NameConflict: Spec,
    /// Another pipeline manages the same topic of the same Kafka cluster.
    TopicConflict: Spec,
    /// A managed topic is there already, and nobody said that it may be taken over.
    TopicExists: Spec,
    /// A change that Kafka cannot follow, or that would remap keys.
    UnsupportedTopicChange: Spec,
    /// The brokers refuse a declared setting of a topic.
    InvalidTopicConfig: Spec,
    /// An External topic is not as the pipeline says.
    TopicMismatch: Spec,
    /// The operator may not connect to these bootstrap servers (--allowed-bootstrap-servers).
    BootstrapServersNotAllowed: Spec,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

//! The kinds of faults: what each touches and excuses, and how long it lasts.

use std::time::Duration;

use serde::Serialize;

use crate::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// SIGKILL to an edge, which starts again.
    EdgeKilled,
    /// SIGTERM to an edge, which drains and starts again.
    EdgeTerminated,
    /// SIGSTOP to an edge, and SIGCONT.
    EdgeStopped,
    /// An edge gets a twentieth of a processor.
    EdgeStarved,
    /// An edge may open no more descriptors.
    EdgeOutOfDescriptors,
    /// An edge may have a MiB more of memory, and strangers take it: the kernel kills it.
    EdgeOutOfMemory,
    /// Every edge gets another configuration, one after the other: SIGTERM, a drain, and a start.
    EdgesRolled,
    /// The wall clock of an edge is an hour off.
    ClockStepped,
    /// The certificate of every edge is renewed, with its key, as kubelet does it.
    CertificatesRenewed,
    /// Every edge gets a certificate with the key of another.
    CertificatesMismatched,
    /// SIGKILL to a broker that leads partitions.
    LeaderKilled,
    /// SIGSTOP to a broker, and SIGCONT.
    BrokerStopped,
    /// Two brokers are stopped: less than `min.insync.replicas` are left.
    TwoBrokersStopped,
    /// SIGKILL to the controller.
    ControllerKilled,
    /// Every partition is led by another broker.
    LeadersMoved,
    /// Every partition loses a replica, and gets it back.
    ReplicasMoved,
    /// A topic asks for more replicas than there are.
    ReplicasWanting,
    /// Brokers throttle producers (KIP-13).
    ProducersThrottled,
    /// The topic is deleted, with all that is in it, and made again under its name.
    TopicRecreated,
    /// An ACL forbids to write to the topic.
    WritingForbidden,
    /// The disk of a broker is full: it gives up, and starts again when there is space.
    BrokerDiskFull,
    /// Nothing passes between edges and a broker.
    BrokerCut,
    /// Answers of brokers do not come to edges, requests do come to brokers.
    BrokerAnswersCut,
    /// Brokers are 200 ms away, more or less.
    BrokersFar,
    /// Connections between edges and brokers end, in the middle of requests.
    BrokersReset,
    /// Connections between clients and edges end, in the middle of messages.
    ClientsReset,
    /// Nothing passes between clients and edges.
    ClientsCut,
    /// Answers do not come to clients, messages do come to edges.
    AnswersCut,
    /// Clients are 200 ms away, more or less.
    ClientsFar,
    /// Each client has 2 KiB a second.
    ClientsNarrow,
    /// Strangers send what is no protocol.
    Garbage,
    /// Strangers connect, send half of something, and stay.
    HalfSent,
    /// Strangers publish without an end, and read no answer.
    Unread,
    /// Strangers send everything again with DUP, and have lost what they knew.
    Confused,
    /// SIGKILL to the primary of Redis, whose replica takes over.
    RedisKilled,
    /// SIGSTOP to the primary of Redis, and SIGCONT before its replica takes over or after.
    RedisStopped,
    /// SIGKILL to the replica of Redis.
    RedisReplicaKilled,
    /// Redis forgets everything.
    RedisFlushed,
    /// Nothing passes to the primary of Redis and from it; Sentinels and its replica miss it, too.
    RedisCut,
    /// Redis is 100 ms away, more or less.
    RedisFar,
}

/// What a fault touches: of faults in the same place one is enough at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An edge.
    Edge,
    /// Kafka.
    Kafka,
    /// Redis.
    Redis,
    /// The roads to the edges, and who comes on them.
    Road,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 40] = [
        Self::EdgeKilled,
        Self::EdgeTerminated,
        Self::EdgeStopped,
        Self::EdgeStarved,
        Self::EdgeOutOfDescriptors,
        Self::EdgeOutOfMemory,
        Self::EdgesRolled,
        Self::ClockStepped,
        Self::CertificatesRenewed,
        Self::CertificatesMismatched,
        Self::LeaderKilled,
        Self::BrokerStopped,
        Self::TwoBrokersStopped,
        Self::ControllerKilled,
        Self::LeadersMoved,
        Self::ReplicasMoved,
        Self::ReplicasWanting,
        Self::ProducersThrottled,
        Self::TopicRecreated,
        Self::WritingForbidden,
        Self::BrokerDiskFull,
        Self::BrokerCut,
        Self::BrokerAnswersCut,
        Self::BrokersFar,
        Self::BrokersReset,
        Self::ClientsReset,
        Self::ClientsCut,
        Self::AnswersCut,
        Self::ClientsFar,
        Self::ClientsNarrow,
        Self::Garbage,
        Self::HalfSent,
        Self::Unread,
        Self::Confused,
        Self::RedisKilled,
        Self::RedisStopped,
        Self::RedisReplicaKilled,
        Self::RedisFlushed,
        Self::RedisCut,
        Self::RedisFar,
    ];

    /// Where it is.
    pub fn place(self) -> Place {
        match self {
            Self::EdgeKilled
            | Self::EdgeTerminated
            | Self::EdgeStopped
            | Self::EdgeStarved
            | Self::EdgeOutOfDescriptors
            | Self::EdgeOutOfMemory
            | Self::EdgesRolled
            | Self::ClockStepped
            | Self::CertificatesRenewed
            | Self::CertificatesMismatched => Place::Edge,
            Self::LeaderKilled
            | Self::BrokerStopped
            | Self::TwoBrokersStopped
            | Self::ControllerKilled
            | Self::LeadersMoved
            | Self::ReplicasMoved
            | Self::ReplicasWanting
            | Self::ProducersThrottled
            | Self::TopicRecreated
            | Self::WritingForbidden
            | Self::BrokerDiskFull
            | Self::BrokerCut
            | Self::BrokerAnswersCut
            | Self::BrokersFar
            | Self::BrokersReset => Place::Kafka,
            Self::ClientsReset
            | Self::ClientsCut
            | Self::AnswersCut
            | Self::ClientsFar
            | Self::ClientsNarrow
            | Self::Garbage
            | Self::HalfSent
            | Self::Unread
            | Self::Confused => Place::Road,
            Self::RedisKilled
            | Self::RedisStopped
            | Self::RedisReplicaKilled
            | Self::RedisFlushed
            | Self::RedisCut
            | Self::RedisFar => Place::Redis,
        }
    }

    /// Whether sessions may be forgotten by it: Redis replicates without waiting.
    pub fn forgets_sessions(self) -> bool {
        matches!(self, Self::RedisKilled | Self::RedisStopped | Self::RedisFlushed | Self::RedisCut)
    }

    /// Whether answers may be late by it: somebody on their way was held, or the way itself was.
    pub fn delays_answers(self) -> bool {
        matches!(
            self,
            Self::EdgeStopped
                | Self::EdgeStarved
                | Self::ClientsCut
                | Self::AnswersCut
                | Self::ClientsFar
                | Self::ClientsNarrow
        )
    }

    /// How long it lasts.
    pub fn lasts(self, dice: &mut Dice) -> Duration {
        let (least, most) = match self {
            Self::EdgeKilled | Self::EdgeTerminated | Self::ClientsReset | Self::RedisFlushed => (0, 1_000),
            Self::LeaderKilled | Self::RedisKilled | Self::ControllerKilled => (500, 6_000),
            Self::TwoBrokersStopped | Self::ReplicasWanting => (2_000, 7_000),
            _ => (1_000, 5_000),
        };
        Duration::from_millis(least) + dice.part_of(Duration::from_millis(most - least))
    }
}

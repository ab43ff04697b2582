//! Whose a topic is. Its identity is the cluster's id and its name; of the pipelines that manage it, the oldest owns it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use penstock_crds::pipeline::{IngestPipeline, Management, TopicSpec};

/// A pipeline that manages topics.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    namespace: String,
    name: String,
    uid: String,
    created: Time,
    /// Names in Kafka of the topics that it creates or changes.
    topics: BTreeSet<String>,
    servers: BTreeSet<String>,
}

impl Contender {
    /// What a stored pipeline lays claim to; nothing if it manages no topic.
    #[must_use]
    pub fn of(pipeline: &IngestPipeline) -> Option<Self> {
        let (metadata, spec) = (&pipeline.metadata, &pipeline.spec);
        let topics: BTreeSet<_> = spec
            .topics
            .iter()
            .filter(|topic| topic.management() != Management::External)
            .map(|topic| TopicSpec::kafka_name(topic).to_owned())
            .collect();
        (!topics.is_empty()).then_some(())?;
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            created: metadata.creation_timestamp.clone()?,
            topics,
            servers: spec.kafka.bootstrap_servers.iter().map(|server| server.to_ascii_lowercase()).collect(),
        })
    }

    fn shares_topics(&self, other: &Self) -> bool {
        self.uid != other.uid && !self.topics.is_disjoint(&other.topics)
    }
}

/// The one of several contenders for a topic that owns it: the oldest, then the one of the lowest uid.
#[must_use]
pub fn winner<'c>(contenders: impl IntoIterator<Item = &'c Contender>) -> Option<&'c Contender> {
    contenders
        .into_iter()
        .min_by(|one, other| (&one.created.0, &one.uid).cmp(&(&other.created.0, &other.uid)))
}

/// Which cluster each pipeline is at, as far as it has been looked at.
#[derive(Debug, Default)]
pub struct Claims {
    clusters: BTreeMap<String, Place>,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    cluster_id: String,
    /// The servers through which it was reached: a pipeline that names others now may be elsewhere.
    servers: BTreeSet<String>,
}

impl Claims {
    /// Takes in where a pipeline is. Returns whether that is news: then its [`Claims::rivals`] are to be looked at again.
    pub fn observed(&mut self, who: &Contender, cluster_id: &str) -> bool {
        let place = Place { cluster_id: cluster_id.to_owned(), servers: who.servers.clone() };
        let news = self.clusters.get(&who.uid) != Some(&place);
        if news {
            self.clusters.insert(who.uid.clone(), place);
        }
        news
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&mut self, uid: &str) {
        self.clusters.remove(uid);
    }

    /// The topics of `me`, by their names in Kafka, that another of `all` owns.
    #[must_use]
    pub fn lost(&self, me: &Contender, all: &[Contender]) -> BTreeSet<String> {
        let near: Vec<_> =
            all.iter().filter(|other| me.shares_topics(other) && self.may_share_cluster(me, other)).collect();
        let is_lost = |topic: &&String| {
            let contenders = near.iter().copied().filter(|other| other.topics.contains(*topic));
            winner(contenders.chain([me])).is_some_and(|winner| winner.uid != me.uid)
        };
        me.topics.iter().filter(is_lost).cloned().collect()
    }

    /// Namespace and name of those of `all` that may win or lose a topic when `of` comes, changes or goes. Ask before and
    /// after a change, and before [`Claims::forget`].
    #[must_use]
    pub fn rivals(&self, of: &Contender, all: &[Contender]) -> Vec<(String, String)> {
        all.iter()
            .filter(|other| of.shares_topics(other) && self.may_share_cluster(of, other))
            .map(|other| (other.namespace.clone(), other.name.clone()))
            .collect()
    }

    /// Whether two are at the same cluster. While that is not known of both, servers that both name decide.
    fn may_share_cluster(&self, one: &Contender, other: &Contender) -> bool {
        match (self.cluster_of(one), self.cluster_of(other)) {
            (Some(one), Some(other)) => one == other,
            _ => !one.servers.is_disjoint(&other.servers),
        }
    }

    fn cluster_of(&self, who: &Contender) -> Option<&str> {
        let place = self.clusters.get(&who.uid).filter(|place| place.servers == who.servers)?;
        Some(&place.cluster_id)
    }
}

#[cfg(test)]
mod tests;

//! Topics and brokers as the cluster itself reports them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::Metadata;

use super::Kafka;
use crate::place::Place;
use crate::runtime::wait;
use crate::until::{START, until};

const REQUEST: Duration = Duration::from_secs(10);

/// A topic to create.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    name: String,
    partitions: usize,
    replication: Option<usize>,
    settings: Vec<(String, String)>,
}

impl TopicSpec {
    /// A topic with as many replicas as there are brokers.
    pub fn new(name: &str, partitions: usize) -> Self {
        Self { name: name.to_owned(), partitions, replication: None, settings: Vec::new() }
    }

    /// Another number of replicas.
    #[must_use]
    pub fn replication(mut self, count: usize) -> Self {
        self.replication = Some(count);
        self
    }

    /// A topic setting.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }
}

/// The harness's own administrator, through the plain listeners.
pub(super) struct Admin {
    bootstrap: String,
    place: Place,
    client: AdminClient<DefaultClientContext>,
}

impl Admin {
    pub(super) fn new(bootstrap: String, place: &Place) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap).set("reconnect.backoff.max.ms", "250");
        let client = place.inside(|| config.create().expect("an admin client"));
        Self { bootstrap, place: place.clone(), client }
    }

    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn metadata(&self) -> Option<Metadata> {
        // All topics: asking for one by name could create it on brokers that auto-create.
        // A broker that it tells of may get its thread, and so its network, from ours.
        self.place.inside(|| self.client.inner().fetch_metadata(None, REQUEST).ok())
    }
}

impl Kafka {
    /// Creates a topic and waits until every partition has a leader and all its replicas are in sync.
    #[track_caller]
    pub fn create(&self, topic: &TopicSpec) {
        let replication = topic.replication.unwrap_or(self.replication);
        let mut new =
            NewTopic::new(&topic.name, topic.partitions as i32, TopicReplication::Fixed(replication as i32));
        for (key, value) in &topic.settings {
            new = new.set(key, value);
        }
        let made = wait(self.admin.client.create_topics([&new], &options())).expect("an answer from Kafka");
        made.into_iter().for_each(|result| {
            result.unwrap_or_else(|(name, error)| panic!("cannot create topic {name}: {error}"));
        });
        until(&format!("every replica of {} is in sync", topic.name), START, || {
            let isr = self.in_sync(&topic.name)?;
            (isr.len() == topic.partitions && isr.iter().all(|&count| count == replication)).then_some(())
        });
    }

    /// Creates a topic with a name of its own and returns the name.
    #[track_caller]
    pub fn create_topic(&self, purpose: &str, partitions: usize) -> String {
        let name = self.fresh_name(purpose);
        self.create(&TopicSpec::new(&name, partitions));
        name
    }

    /// Deletes a topic and waits until it is gone.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let gone = wait(self.admin.client.delete_topics(&[name], &options())).expect("an answer from Kafka");
        gone.into_iter().for_each(|result| {
            result.unwrap_or_else(|(name, error)| panic!("cannot delete topic {name}: {error}"));
        });
        until(&format!("{name} is gone"), START, || (!self.has_topic(name)).then_some(()));
    }

    /// Raises the number of partitions.
    #[track_caller]
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let grown = NewPartitions::new(name, partitions);
        let results =
            wait(self.admin.client.create_partitions([&grown], &options())).expect("an answer from Kafka");
        results.into_iter().for_each(|result| {
            result.unwrap_or_else(|(name, error)| panic!("cannot grow topic {name}: {error}"));
        });
        until(&format!("{name} has {partitions} partitions"), START, || {
            (self.in_sync(name)?.len() == partitions).then_some(())
        });
    }

    /// Replaces the settings of a topic.
    #[track_caller]
    pub fn configure_topic(&self, name: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let results =
            wait(self.admin.client.alter_configs([&change], &options())).expect("an answer from Kafka");
        results.into_iter().for_each(|result| {
            result.unwrap_or_else(|(_, error)| panic!("cannot configure topic {name}: {error}"));
        });
    }

    /// A setting of a topic in effect, wherever it was set.
    #[track_caller]
    pub fn topic_setting(&self, name: &str, key: &str) -> Option<String> {
        let resources = [ResourceSpecifier::Topic(name)];
        let answers =
            wait(self.admin.client.describe_configs(&resources, &options())).expect("an answer from Kafka");
        let answer = answers.into_iter().next().expect("one topic").expect("a topic that is there");
        answer.entries.into_iter().find(|entry| entry.name == key)?.value
    }

    /// Whether the cluster has a topic of this name; does not create it.
    pub fn has_topic(&self, name: &str) -> bool {
        self.in_sync(name).is_some()
    }

    /// How many replicas are in sync, by partition; `None` while there is no such topic.
    pub fn in_sync(&self, name: &str) -> Option<Vec<usize>> {
        let metadata = self.admin.metadata()?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none())?;
        Some(topic.partitions().iter().map(|partition| partition.isr().len()).collect())
    }

    /// The broker that leads a partition.
    pub fn leader(&self, name: &str, partition: i32) -> Option<usize> {
        let metadata = self.admin.metadata()?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
        let found = topic.partitions().iter().find(|candidate| candidate.id() == partition)?;
        usize::try_from(found.leader()).ok()
    }

    /// Waits until so many brokers are in the metadata.
    #[track_caller]
    pub fn wait_for_brokers(&self, count: usize) {
        until(&format!("{count} brokers are registered"), START, || {
            (self.admin.metadata()?.brokers().len() == count).then_some(())
        });
    }

    /// Waits until all replicas of a topic are in sync again.
    #[track_caller]
    pub fn wait_in_sync(&self, name: &str) {
        until(&format!("every replica of {name} is in sync"), START, || {
            self.in_sync(name)?.iter().all(|&count| count == self.replication).then_some(())
        });
    }

    pub(super) fn admin_bootstrap(&self) -> &str {
        self.admin.bootstrap()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST)).request_timeout(Some(REQUEST))
}

//! What is declared of topics. Pure.

use std::collections::BTreeSet;

use penstock_crds::pipeline::{TopicSpec, TopicStatus};

/// What a pipeline wants of its topics.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// `spec.topics`.
    pub topics: &'a [TopicSpec],
    /// `status.topics` as stored.
    pub recorded: &'a [TopicStatus],
    /// The annotation `penstock.dev/adopt: "true"`: managed topics that exist are taken over.
    pub adopt: bool,
    /// Names in Kafka of topics that another pipeline owns; see [`super::Claims::lost`].
    pub lost: &'a BTreeSet<String>,
}

/// The names in Kafka that must be looked at to decide: those of the spec, and those that a renamed topic had.
#[must_use]
pub fn names(wanted: &Wanted<'_>) -> BTreeSet<String> {
    let before = wanted.topics.iter().filter_map(|topic| {
        let record = wanted.recorded.iter().find(|record| record.name == topic.name)?;
        record.topic_name.as_deref().filter(|_| record.managed == Some(true))
    });
    wanted.topics.iter().map(TopicSpec::kafka_name).chain(before).map(str::to_owned).collect()
}

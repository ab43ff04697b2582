//! Offsets that consumer groups have committed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{read_json, write_json};
use crate::dev::DevError;

/// All groups' offsets; written as a whole, for they are few.
#[derive(Debug)]
pub(in crate::dev) struct Consumers {
    file: PathBuf,
    groups: Groups,
}

/// Group, topic, partition.
type Groups = BTreeMap<String, BTreeMap<String, BTreeMap<i32, Committed>>>;

/// What a group committed for a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(in crate::dev) struct Committed {
    /// The next offset to read.
    pub(in crate::dev) offset: i64,
    /// The consumer's own note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::dev) metadata: Option<String>,
}

impl Consumers {
    pub(super) fn open(file: PathBuf) -> Result<Self, DevError> {
        let groups = if file.exists() { read_json(&file)? } else { Groups::new() };
        Ok(Self { file, groups })
    }

    /// Keeps what a group commits. On an error nothing has changed.
    pub(in crate::dev) fn commit(
        &mut self,
        group: &str,
        offsets: impl IntoIterator<Item = (String, i32, Committed)>,
    ) -> Result<(), DevError> {
        let mut groups = self.groups.clone();
        let topics = groups.entry(group.to_owned()).or_default();
        for (topic, partition, committed) in offsets {
            topics.entry(topic).or_default().insert(partition, committed);
        }
        write_json(&self.file, &groups)?;
        self.groups = groups;
        Ok(())
    }

    /// What a group committed for a partition.
    pub(in crate::dev) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// The partitions for which a group committed something.
    pub(in crate::dev) fn partitions(&self, group: &str) -> Vec<(String, Vec<i32>)> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.map(|(topic, partitions)| (topic.clone(), partitions.keys().copied().collect())).collect()
    }
}

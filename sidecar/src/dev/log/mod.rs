//! The data folder: what the broker keeps between runs.
//!
//! ```text
//! penstock-dev.json          format and cluster id
//! lock                       held while a process uses the folder; who that is
//! consumers.json             committed offsets
//! topics/NAME/topic.json     id and number of partitions
//! topics/NAME/N.log          record batches of partition N, as Kafka has them on disk
//! ```

mod batch;
mod consumers;
mod partition;
mod producers;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

pub(super) use consumers::Committed;
pub(super) use partition::{AppendError, MAX_BATCH_BYTES, Partition};

use super::DevError;
use super::error::is_full;
use consumers::Consumers;

/// The format that this version reads and writes.
const FORMAT: u64 = 1;
/// Most partitions of a topic: each is an open file.
pub(super) const MAX_PARTITIONS: i32 = 1_000;

/// The data folder, open.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    cluster_id: String,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    consumers: Mutex<Consumers>,
    /// Changes with every append.
    appends: watch::Sender<u64>,
    /// Writes fail, and that has been said.
    failing: AtomicBool,
    _lock: File,
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: Uuid,
    partitions: Vec<Arc<Mutex<Partition>>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct FolderFile {
    format: u64,
    cluster_id: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicFile {
    id: Uuid,
    partitions: i32,
}

impl Folder {
    /// Opens a data folder, or makes one of a new or empty folder.
    pub(super) fn open(root: &Path) -> Result<Self, DevError> {
        std::fs::create_dir_all(root).map_err(|error| DevError::file(root, error))?;
        let marker = root.join("penstock-dev.json");
        let is_new = !marker.exists();
        if is_new && has_other_things(root).map_err(|error| DevError::file(root, error))? {
            return Err(DevError::Foreign { folder: root.to_owned() });
        }
        let lock = lock(root)?;
        if is_new {
            let cluster_id = format!("penstock-dev-{}", Uuid::now_v7().simple());
            write_json(&marker, &FolderFile { format: FORMAT, cluster_id })?;
        }
        let FolderFile { format, cluster_id } = read_json(&marker)?;
        if format != FORMAT {
            return Err(DevError::Format { folder: root.to_owned(), found: format, known: FORMAT });
        }
        let folder = Self {
            root: root.to_owned(),
            cluster_id,
            topics: RwLock::default(),
            consumers: Mutex::new(Consumers::open(root.join("consumers.json"))?),
            appends: watch::Sender::new(0),
            failing: AtomicBool::new(false),
            _lock: lock,
        };
        folder.open_topics()?;
        Ok(folder)
    }

    fn open_topics(&self) -> Result<(), DevError> {
        let topics = self.root.join("topics");
        let failed = |error| DevError::file(&topics, error);
        std::fs::create_dir_all(&topics).map_err(failed)?;
        for entry in std::fs::read_dir(&topics).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file = entry.path().join("topic.json");
            // A topic counts when this file is there.
            if let (true, Ok(name)) = (file.exists(), entry.file_name().into_string()) {
                let topic = self.open_topic(&name, &read_json(&file)?)?;
                self.topics.write().insert(name, Arc::new(topic));
            }
        }
        Ok(())
    }

    fn open_topic(&self, name: &str, file: &TopicFile) -> Result<Topic, DevError> {
        let folder = self.topic_folder(name);
        let partitions = (0..file.partitions)
            .map(|number| {
                let partition = Partition::open(&folder.join(format!("{number}.log")))?;
                Ok(Arc::new(Mutex::new(partition)))
            })
            .collect::<Result<_, DevError>>()?;
        Ok(Topic { name: name.to_owned(), id: file.id, partitions })
    }

    fn topic_folder(&self, name: &str) -> PathBuf {
        self.root.join("topics").join(name)
    }

    /// Makes a topic, or gives one that has fewer partitions as many. Returns whether something was done.
    pub(super) fn ensure_topic(&self, name: &str, partitions: i32) -> Result<bool, DevError> {
        if !is_topic_name(name) {
            return Err(DevError::TopicName { name: name.to_owned() });
        }
        let mut topics = self.topics.write();
        let id = match topics.get(name) {
            Some(topic) if topic.partitions() >= partitions => return Ok(false),
            Some(topic) => topic.id,
            None => Uuid::new_v4(),
        };
        let folder = self.topic_folder(name);
        std::fs::create_dir_all(&folder).map_err(|error| DevError::file(&folder, error))?;
        let file = TopicFile { id, partitions };
        write_json(&folder.join("topic.json"), &file)?;
        let topic = match topics.get(name) {
            None => self.open_topic(name, &file)?,
            Some(old) => {
                let mut all = old.partitions.clone();
                for number in old.partitions()..partitions {
                    let partition = Partition::open(&folder.join(format!("{number}.log")))?;
                    all.push(Arc::new(Mutex::new(partition)));
                }
                Topic { name: name.to_owned(), id, partitions: all }
            }
        };
        topics.insert(name.to_owned(), Arc::new(topic));
        Ok(true)
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    pub(super) fn consumers(&self) -> &Mutex<Consumers> {
        &self.consumers
    }

    /// Tells when something is appended.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.appends.subscribe()
    }

    /// Appends a batch to a partition. Says when the disk begins to refuse that, and when it no longer does.
    pub(super) fn append(&self, partition: &Mutex<Partition>, batch: &mut [u8]) -> Result<i64, AppendError> {
        let result = partition.lock().append(batch);
        match &result {
            Ok(_) => {
                self.appends.send_modify(|count| *count = count.wrapping_add(1));
                if self.failing.load(Ordering::Relaxed) && self.has_room() {
                    self.failing.store(false, Ordering::Relaxed);
                    tracing::info!("data folder: {}: takes messages again", self.root.display());
                }
            }
            Err(AppendError::Write(error)) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    self.complain(error);
                }
            }
            Err(_) => {}
        }
        result
    }

    /// Whether the largest batch has room: on a disk that is almost full small ones go in now and then.
    fn has_room(&self) -> bool {
        let Ok(disk) = rustix::fs::statvfs(&self.root) else { return true };
        disk.f_bavail.saturating_mul(disk.f_frsize) >= MAX_BATCH_BYTES as u64
    }

    fn complain(&self, error: &io::Error) {
        let folder = self.root.display();
        if is_full(error) {
            tracing::error!(
                "data folder: {folder}: the disk is full: nothing is acknowledged until there is space again; free \
                 some, it goes on by itself"
            );
        } else {
            tracing::error!(
                "data folder: {folder}: {error}: nothing is acknowledged until it can be written"
            );
        }
    }

    /// Hands everything to the disk.
    pub(super) fn sync(&self) -> Result<(), DevError> {
        self.topics()
            .iter()
            .flat_map(|topic| &topic.partitions)
            .try_for_each(|partition| partition.lock().sync())
    }
}

impl Topic {
    /// How many partitions it has.
    pub(super) fn partitions(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(super) fn partition(&self, number: i32) -> Option<&Mutex<Partition>> {
        self.partitions.get(usize::try_from(number).ok()?).map(Arc::as_ref)
    }
}

/// What Kafka allows (`org.apache.kafka.common.internals.Topic`).
fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Files that this program leaves before the marker is there do not count.
fn has_other_things(root: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        if name != "lock" && name != "penstock-dev.json.new" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The kernel gives the lock up when its process dies, in whatever way.
fn lock(root: &Path) -> Result<File, DevError> {
    let path = root.join("lock");
    let failed = |error| DevError::file(&path, error);
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(DevError::InUse { folder: root.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DevError> {
    let text = std::fs::read(path).map_err(|error| DevError::file(path, error))?;
    serde_json::from_slice(&text).map_err(|_| DevError::Damaged { path: path.to_owned(), position: None })
}

/// Writes a file whole or not at all.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DevError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let failed = |error| DevError::file(path, error);
    let text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    std::fs::write(&new, text).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_grow_keep_their_id_and_are_there_for_the_next_process() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert!(folder.ensure_topic("telemetry", 2).unwrap());
        assert!(!folder.ensure_topic("telemetry", 1).unwrap());
        let id = folder.topic("telemetry").unwrap().id;
        assert!(folder.ensure_topic("telemetry", 6).unwrap());
        let cluster = folder.cluster_id().to_owned();
        drop(folder);
        let folder = Folder::open(root.path()).unwrap();
        let topic = folder.topic("telemetry").unwrap();
        assert_eq!((topic.id, topic.partitions(), folder.cluster_id()), (id, 6, cluster.as_str()));
    }

    #[test]
    fn one_process_at_a_time_has_the_folder_and_the_other_is_told_which() {
        let root = tempfile::tempdir().unwrap();
        let _first = Folder::open(root.path()).unwrap();
        let error = Folder::open(root.path()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DevError::InUse { .. }), "{text}");
        assert!(
            text.contains(&format!("process {}", std::process::id())) && text.contains("--data"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_of_another_format_or_of_somebody_else_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        drop(Folder::open(root.path()).unwrap());
        std::fs::write(root.path().join("penstock-dev.json"), r#"{"format":7,"clusterId":"x"}"#).unwrap();
        let error = Folder::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("format 7") && error.contains("format 1"), "{error}");
        std::fs::write(root.path().join("penstock-dev.json"), "{").unwrap();
        let error = Folder::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("penstock-dev.json is damaged:"), "{error}");
        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join("thesis.txt"), "years of work").unwrap();
        let error = Folder::open(foreign.path()).unwrap_err();
        assert!(matches!(error, DevError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read_dir(foreign.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Folder::open(&file.join("data")).unwrap_err();
        assert!(matches!(error, DevError::Folder { .. }), "{error}");
        assert!(error.to_string().contains("--data"), "{error}");
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        for name in ["", ".", "..", "a/b", "a b", &"x".repeat(250)] {
            assert!(matches!(folder.ensure_topic(name, 1), Err(DevError::TopicName { .. })), "{name}");
        }
    }
}

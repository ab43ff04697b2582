//! Why dev mode cannot start or go on.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The folder or a file in it cannot be read or written.
    #[error(
        "data folder: {path}: {source}: make it readable and writable, or choose another folder with --data"
    )]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No space.
    #[error(
        "data folder: {path}: the disk is full: free some space, or choose a folder on another disk with --data"
    )]
    Full {
        /// The folder or file.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error(
        "data folder: {folder} is in use by process {holder}: stop that one, or choose another folder with --data"
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process, as far as it said.
        holder: String,
    },
    /// It has other things in it.
    #[error(
        "data folder: {folder} is not empty and is not one of Penstock's: choose a new or empty folder with --data"
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// It was written in another format.
    #[error(
        "data folder: {folder} has format {found}, this version reads format {known}: use the version that wrote it, \
         or choose another folder with --data"
    )]
    Format {
        /// The folder.
        folder: PathBuf,
        /// The format it has.
        found: u64,
        /// The format that this version reads and writes.
        known: u64,
    },
    /// A file is not what this program writes; not what a killed process leaves either.
    #[error(
        "data folder: {path} is damaged{at}: move it away to go on without its records, or choose another folder \
         with --data",
        at = position.map(|position| format!(" at byte {position}")).unwrap_or_default()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        position: Option<u64>,
    },
    /// A name that Kafka does not allow.
    #[error("topic {name:?} is not a name that Kafka allows: use 1 to 249 letters, digits, '.', '_' and '-'")]
    TopicName {
        /// The name.
        name: String,
    },
    /// The port is taken.
    #[error(
        "the embedded broker cannot listen on 127.0.0.1:{port}: {source}: stop what uses the port, or give \
         --kafka-port 0 for any free one"
    )]
    Port {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread or no runtime.
    #[error("the embedded broker cannot start: {0}")]
    Start(String),
    /// It ended by itself: nothing more can be acknowledged.
    #[error(
        "the embedded broker ended by itself ({0}): start again; what was acknowledged is in the data folder"
    )]
    Ended(String),
}

impl DevError {
    /// What an operation on a file of the data folder failed with.
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::Full { path: path.to_owned() };
        }
        Self::Folder { path: path.to_owned(), source }
    }

    /// Whether the pipeline is at fault, and not the machine.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::TopicName { .. })
    }
}

/// Whether there was no space, or no quota left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

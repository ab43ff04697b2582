//! A file that is read again when it has changed: kubelet swaps a symlink above it when a Secret changes.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lines::MAX_FILE_BYTES;

/// What tells one version of a file from another.
type Stamp = (u64, u64, i64, i64, u64);

/// A file and the version of it that was read.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last look found a file.
    pub(super) fn was_read(&self) -> bool {
        self.seen.is_some()
    }

    /// The contents, if they may have changed since they were read. One byte more than is allowed at most.
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = std::fs::File::open(&self.path).inspect_err(|_| self.seen = None)?;
        let meta = file.metadata()?;
        let stamp = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size());
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        let mut contents = Vec::new();
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut contents)?;
        self.seen = Some(stamp);
        Ok(Some(contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_swapped_symlink_is_a_new_version() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("users"), version).unwrap();
        }
        symlink("one", at("..data")).unwrap();
        symlink("..data/users", at("users")).unwrap();
        let mut watched = Watched::new(at("users"));
        assert_eq!(watched.read().unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(watched.read().unwrap(), None);
        symlink("two", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(watched.read().unwrap().as_deref(), Some(&b"two"[..]));
        fs::remove_file(at("..data")).unwrap();
        assert!(watched.read().is_err());
        symlink("two", at("..data")).unwrap();
        assert_eq!(watched.read().unwrap().as_deref(), Some(&b"two"[..]), "it came back");
    }
}

//! A small disk that fills up. Needs root, as the tests do.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own in memory, over a folder. It goes with this.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Of so many bytes.
    #[track_caller]
    pub fn mount(folder: &Path, bytes: u64) -> Self {
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "penstock-e2e"]).arg(folder);
        assert!(mount.status().expect("mount").success(), "mount needs root");
        Self(folder.to_owned())
    }

    /// Writes until nothing more goes in.
    #[track_caller]
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("a file");
        let mut piece = vec![0; 64 << 10];
        while !piece.is_empty() {
            if let Err(error) = file.write_all(&piece) {
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// Removes what [`SmallDisk::fill`] wrote.
    pub fn relieve(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Unmounts what killed processes left below a folder.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    places.filter(|place| place.starts_with(folder)).for_each(unmount);
}

/// Lazily: somebody may still be on it.
fn unmount(place: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(place).status();
}

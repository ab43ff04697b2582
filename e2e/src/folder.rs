//! Temporary folders of parts. A test process that was killed leaves its folders; the next one removes them.

use std::path::{Path, PathBuf};
use std::sync::Once;

use tempfile::TempDir;

use crate::disk;

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// A new folder, removed when dropped.
#[track_caller]
pub fn fresh(purpose: &str) -> TempDir {
    within(&std::env::temp_dir(), purpose)
}

/// As [`fresh`], in memory if `bytes` fit there (containers often have little), else on disk.
#[track_caller]
pub fn in_memory(purpose: &str, bytes: u64) -> TempDir {
    let free = rustix::fs::statvfs(MEMORY).map_or(0, |found| found.f_bavail * found.f_frsize);
    if free >= bytes { within(Path::new(MEMORY), purpose) } else { fresh(purpose) }
}

#[track_caller]
fn within(place: &Path, purpose: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        sweep(&base(&std::env::temp_dir()));
        sweep(&base(Path::new(MEMORY)));
    });
    let base = base(place).join(std::process::id().to_string());
    std::fs::create_dir_all(&base).expect("a temporary folder");
    tempfile::Builder::new().prefix(purpose).tempdir_in(base).expect("a temporary folder")
}

fn base(place: &Path) -> PathBuf {
    place.join("penstock-e2e")
}

/// Removes what processes left that are no more: statics of a test, such as a shared Kafka, are never dropped.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name().to_string_lossy().parse::<u32>();
        if owner.is_ok_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            disk::unmount_below(&entry.path());
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

//! Temporary folders of parts. A test process that was killed leaves its folders; the next one removes them.

use std::path::PathBuf;
use std::sync::Once;

use tempfile::TempDir;

/// A new folder, removed when dropped.
#[track_caller]
pub fn fresh(purpose: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let base = base().join(std::process::id().to_string());
    std::fs::create_dir_all(&base).expect("a temporary folder");
    tempfile::Builder::new().prefix(purpose).tempdir_in(base).expect("a temporary folder")
}

fn base() -> PathBuf {
    std::env::temp_dir().join("penstock-e2e")
}

/// Removes what processes left that are no more: statics of a test, such as a shared Kafka, are never dropped.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(base()) else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name().to_string_lossy().parse::<u32>();
        if owner.is_ok_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

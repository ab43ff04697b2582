//! A folder of Secrets as kubelet mounts them: each key is a link through `..data`, and a change swaps that one link.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes a Secret into `references/secrets/NAME`, or changes it, as kubelet does.
#[track_caller]
pub fn write(references: &Path, name: &str, files: &[(&str, &str)]) {
    static VERSION: AtomicU32 = AtomicU32::new(0);
    let folder = references.join("secrets").join(name);
    let version = format!("..version-{}", VERSION.fetch_add(1, Ordering::Relaxed));
    std::fs::create_dir_all(folder.join(&version)).expect("a folder for the files");
    for (key, content) in files {
        std::fs::write(folder.join(&version).join(key), content).expect("a file");
        let link = folder.join(key);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(key), link).expect("a link");
        }
    }
    let data = folder.join("..data");
    let before = std::fs::read_link(&data).ok();
    symlink(&version, folder.join("..data_tmp")).expect("a link");
    std::fs::rename(folder.join("..data_tmp"), &data).expect("the swap");
    if let Some(before) = before {
        std::fs::remove_dir_all(folder.join(before)).expect("the files before");
    }
}

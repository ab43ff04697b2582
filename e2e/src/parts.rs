//! Where the built parts are: `${PENSTOCK_CACHE:-$HOME/.cache/penstock}/parts/NAME-VERSION/`, made by `make parts`.

use std::path::{Path, PathBuf};

const VERSIONS: &str = include_str!("../parts/versions.env");

/// The folder of caches outside the checkout.
pub fn cache() -> PathBuf {
    std::env::var_os("PENSTOCK_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        Path::new(&std::env::var_os("HOME").expect("HOME or PENSTOCK_CACHE is set")).join(".cache/penstock")
    })
}

/// The pinned version of a part, by its name in `parts/versions.env`.
pub fn version(name: &str) -> &'static str {
    // What makes a whole cluster of Kubernetes' API is of its version.
    let wanted = if name == "node" { "KUBERNETES".to_owned() } else { name.to_uppercase().replace('-', "_") };
    VERSIONS
        .lines()
        .filter_map(|line| line.split_once('='))
        .find_map(|(key, value)| (key == wanted).then_some(value))
        .unwrap_or_else(|| panic!("e2e/parts/versions.env does not name {wanted}"))
}

/// A file or folder of a part.
///
/// # Panics
/// When it was not built: a missing part is a failure, never a skipped test.
#[track_caller]
pub fn file(name: &str, path: &str) -> PathBuf {
    let found = cache().join("parts").join(format!("{name}-{}", version(name))).join(path);
    assert!(found.exists(), "{} is missing: run `make parts`", found.display());
    found
}

/// A program that a Debian package brings.
///
/// # Panics
/// When it is not installed.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make parts`"))
}

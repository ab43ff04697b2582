//! The grammar that files of credentials share: a line each, `#` for a remark, empty lines ignored.

/// The largest file that is read. A Secret holds a sixteenth of it; beside a sidecar without operator there may be more.
pub(super) const MAX_FILE_BYTES: usize = 16 << 20;
/// The longest name of a user or identity, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Why a file of credentials cannot be used. It names a line and a rule, and never what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file as a whole.
    #[error("{0}")]
    Whole(&'static str),
    /// One line.
    #[error("line {line}: {rule}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it, and what is right.
        rule: &'static str,
    },
}

/// Reads every line with `read`.
pub(super) fn each(
    contents: &[u8],
    mut read: impl FnMut(&str) -> Result<(), &'static str>,
) -> Result<(), FileError> {
    if contents.len() > MAX_FILE_BYTES {
        return Err(FileError::Whole("the file is larger than 16 MiB"));
    }
    for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
        let error = |rule| FileError::Line { line: index + 1, rule };
        let line = std::str::from_utf8(line).map_err(|_| error("is not UTF-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !line.is_empty() && !line.starts_with('#') {
            read(line).map_err(error)?;
        }
    }
    Ok(())
}

/// Splits `name:rest` at the first `:`.
pub(super) fn named(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, rest) = line.split_once(':').ok_or("has no ':'; write name:hash")?;
    if name.is_empty() {
        return Err("has no name before the ':'");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("has a name of more than 256 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character in its name");
    }
    Ok((name, rest))
}

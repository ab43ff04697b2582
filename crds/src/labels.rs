//! What Kubernetes takes as keys of labels and annotations, and as values of labels.

use crate::problem::Problem;

/// Why it is no key of a label or annotation, if it is none.
pub(crate) fn wrong_key(path: &str, key: &str) -> Option<Problem> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let fits = is_name(name) && prefix.is_none_or(is_domain);
    (!fits).then(|| {
        Problem::new(
            path,
            format!("'{}' is not a key of a label or annotation", key.escape_debug()),
            "use NAME or DOMAIN/NAME, the name of at most 63 letters, digits, '-', '_' and '.'",
        )
    })
}

/// Why it is no value of a label, if it is none.
pub(crate) fn wrong_value(path: &str, value: &str) -> Option<Problem> {
    let fits = value.is_empty() || is_name(value);
    (!fits).then(|| {
        Problem::new(
            path,
            format!("'{}' is not the value of a label", value.escape_debug()),
            "use at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        )
    })
}

/// Name part of a key, or value of a label.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// A DNS subdomain (RFC 1123).
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::{is_domain, is_name};

    #[test]
    fn keys_and_values_are_those_that_kubernetes_takes() {
        for good in ["a", "a.b_C-9", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a/b", "ä", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_domain("topology.kubernetes.io"));
        assert!(!is_domain("Topology.io") && !is_domain("a..b") && !is_domain(""));
    }
}

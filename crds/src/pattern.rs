//! Topic filters, path templates and key templates: their grammar and what they bind.

use std::fmt;

/// One level of a [`Pattern`], from the most specific to the least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// One level, kept under this name: `{device}`.
    Capture(String),
    /// One level, not kept: `+`.
    Any,
    /// This and all further levels, also none: `#`; last only.
    Rest,
}

/// A topic filter (`v1/{project}/+/#`) or a path template (`/v1/{project}/{device}`), split at `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
}

/// Why a pattern or key template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No level at all.
    #[error("is empty")]
    Empty,
    /// A path template without its leading `/`.
    #[error("a path template starts with '/'")]
    MissingSlash,
    /// `#` before the last level.
    #[error("'#' stands alone in the last level")]
    RestNotLast,
    /// `+` or `#` beside other characters, or in a path template.
    #[error("level '{0}' mixes a wildcard with other characters, or uses one where none is allowed")]
    Wildcard(String),
    /// `{` or `}` that do not enclose a whole level.
    #[error(
        "level '{0}': a capture is a whole level, '{{name}}', of letters, digits and '_', not starting with a digit"
    )]
    Capture(String),
    /// The same capture twice.
    #[error("capture '{0}' is bound twice")]
    Twice(String),
    /// U+0000, which MQTT forbids (`[MQTT-4.7.3-2]`).
    #[error("contains U+0000")]
    Null,
    /// A brace in a key template that opens or closes nothing.
    #[error("'{{' and '}}' must enclose the name of a capture")]
    Brace,
}

/// How many captures a pattern may bind: a match keeps them in an array on the stack.
pub const MAX_CAPTURES: usize = 16;

/// Names that every message binds, or every message of a protocol, beside the captures of its route.
pub mod builtin {
    /// The MQTT client identifier.
    pub const CLIENT_ID: &str = "clientId";
    /// The sender's IP address.
    pub const SOURCE: &str = "source";
}

impl Pattern {
    /// Reads an MQTT topic filter in which a level may be a capture.
    pub fn topic_filter(text: &str) -> Result<Self, PatternError> {
        Self::parse(text, true)
    }

    /// Reads an HTTP path template: literals and captures only, with a leading `/`. Literals are compared with the
    /// decoded segments of a request's path.
    pub fn path(text: &str) -> Result<Self, PatternError> {
        Self::parse(text.strip_prefix('/').ok_or(PatternError::MissingSlash)?, false)
    }

    fn parse(text: &str, wildcards: bool) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains('\0') {
            return Err(PatternError::Null);
        }
        let mut segments = Vec::new();
        for level in text.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(PatternError::RestNotLast);
            }
            segments.push(Self::level(level, wildcards)?);
        }
        let pattern = Self { segments };
        let mut seen = Vec::new();
        for name in pattern.captures() {
            if seen.contains(&name) {
                return Err(PatternError::Twice(name.to_owned()));
            }
            seen.push(name);
        }
        Ok(pattern)
    }

    fn level(level: &str, wildcards: bool) -> Result<Segment, PatternError> {
        match level {
            "+" if wildcards => Ok(Segment::Any),
            "#" if wildcards => Ok(Segment::Rest),
            _ if level.contains(['+', '#']) => Err(PatternError::Wildcard(level.to_owned())),
            _ if level.contains(['{', '}']) => level
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
                .filter(|name| is_name(name))
                .map(|name| Segment::Capture(name.to_owned()))
                .ok_or_else(|| PatternError::Capture(level.to_owned())),
            _ => Ok(Segment::Literal(level.to_owned())),
        }
    }

    /// The levels, in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names that a match binds, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(name.as_str()),
            Segment::Literal(_) | Segment::Any | Segment::Rest => None,
        })
    }

    /// Whether two patterns of one endpoint can match the same topic without one being more specific than the other,
    /// level by level: such a pair is refused.
    #[must_use]
    pub fn ties_with(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Capture(_), Segment::Capture(_)) => true,
                (a, b) => a == b,
            })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A piece of a [`KeyTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// As it is.
    Literal(String),
    /// The value of a capture or of a [`builtin`].
    Capture(String),
}

/// The template of a record key: `"{project}/{device}"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<KeyPart>,
}

impl KeyTemplate {
    /// Reads a template. Text outside braces stands for itself.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            if !literal.is_empty() {
                parts.push(KeyPart::Literal(literal.to_owned()));
            }
            let (name, after) =
                tail.strip_prefix('{').and_then(|tail| tail.split_once('}')).ok_or(PatternError::Brace)?;
            if !is_name(name) {
                return Err(PatternError::Brace);
            }
            parts.push(KeyPart::Capture(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(KeyPart::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The pieces, in order.
    #[must_use]
    pub fn parts(&self) -> &[KeyPart] {
        &self.parts
    }

    /// The names it needs.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            KeyPart::Capture(name) => Some(name.as_str()),
            KeyPart::Literal(_) => None,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            match segment {
                Segment::Literal(text) => f.write_str(text)?,
                Segment::Capture(name) => write!(f, "{{{name}}}")?,
                Segment::Any => f.write_str("+")?,
                Segment::Rest => f.write_str("#")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reads_back_as_it_was_written() {
        for text in ["v1/{project}/{device}/telemetry", "+/a/#", "#", "a//b", "$SYS/#"] {
            assert_eq!(Pattern::topic_filter(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_malformed_pattern_names_its_fault() {
        assert_eq!(Pattern::topic_filter("a/#/b"), Err(PatternError::RestNotLast));
        assert_eq!(Pattern::topic_filter("a/b+"), Err(PatternError::Wildcard("b+".into())));
        assert_eq!(Pattern::topic_filter("a/x{b}"), Err(PatternError::Capture("x{b}".into())));
        assert_eq!(Pattern::topic_filter("{a}/{a}"), Err(PatternError::Twice("a".into())));
        assert_eq!(Pattern::path("/a/+"), Err(PatternError::Wildcard("+".into())));
        assert_eq!(Pattern::path("a"), Err(PatternError::MissingSlash));
        assert_eq!(KeyTemplate::parse("{a"), Err(PatternError::Brace));
        assert_eq!(KeyTemplate::parse("a}"), Err(PatternError::Brace));
    }

    #[test]
    fn captures_tie_whatever_their_names() {
        let pattern = |text| Pattern::topic_filter(text).unwrap();
        assert!(pattern("a/{x}").ties_with(&pattern("a/{y}")));
        assert!(!pattern("a/{x}").ties_with(&pattern("a/+")));
        assert!(!pattern("a/b").ties_with(&pattern("a/{x}")));
    }
}

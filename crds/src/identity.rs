//! Templates over the identity of a sender: what a capture must be, and which MQTT client identifiers are allowed.

/// What a sender has proved: its name and its claims.
pub trait Proved {
    /// The name; never empty.
    fn name(&self) -> &str;

    /// The values of a claim; none if it has no such claim.
    fn claim<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str>;
}

/// Why a template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No text at all.
    #[error("is empty")]
    Empty,
    /// A brace that opens or closes nothing.
    #[error("'{{' and '}}' must enclose identity or claims.NAME")]
    Brace,
    /// Something else in braces.
    #[error("'{{{0}}}' is neither {{identity}} nor {{claims.NAME}}")]
    Unknown(String),
    /// More names than are worth trying.
    #[error("has more than {MAX_NAMES} names in braces")]
    TooManyNames,
    /// It would allow everybody the same.
    #[error("names nothing of the sender: it has neither {{identity}} nor {{claims.NAME}}")]
    NoName,
    /// `*` elsewhere than at the end.
    #[error("'*' stands at the end only")]
    Star,
    /// `*` right after a name: `a*` would take in the identifiers of `ab`.
    #[error(
        "'*' directly behind a name lets one sender use the identifiers of another whose name begins alike"
    )]
    StarBehindName,
}

/// How many names a template may have: each value of a claim is tried in each place.
pub const MAX_NAMES: usize = 4;

/// A piece of an [`IdentityTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPart {
    /// As it is.
    Literal(String),
    /// The name of the sender: `{identity}`.
    Identity,
    /// Any value of a claim: `{claims.NAME}`.
    Claim(String),
}

/// Text over the identity of a sender: `"{claims.project}"`, `"plant-{identity}"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityTemplate {
    parts: Vec<IdentityPart>,
}

impl IdentityTemplate {
    /// Reads a template. Text outside braces stands for itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            if !literal.is_empty() {
                parts.push(IdentityPart::Literal(literal.to_owned()));
            }
            let named = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
            let (name, after) = named.ok_or(TemplateError::Brace)?;
            parts.push(match (name, name.strip_prefix("claims.")) {
                ("identity", _) => IdentityPart::Identity,
                (_, Some(claim)) if !claim.is_empty() && !claim.contains('{') => {
                    IdentityPart::Claim(claim.to_owned())
                }
                _ => return Err(TemplateError::Unknown(name.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(IdentityPart::Literal(rest.to_owned()));
        }
        let names = parts.iter().filter(|part| !matches!(part, IdentityPart::Literal(_))).count();
        match names {
            0 => Err(TemplateError::NoName),
            1..=MAX_NAMES => Ok(Self { parts }),
            _ => Err(TemplateError::TooManyNames),
        }
    }

    /// The claims that it names.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            IdentityPart::Claim(name) => Some(name.as_str()),
            IdentityPart::Literal(_) | IdentityPart::Identity => None,
        })
    }

    /// Whether `text` is what the template says of `sender`. A claim that the sender does not have matches nothing.
    #[must_use]
    pub fn matches(&self, text: &str, sender: &impl Proved) -> bool {
        matches(&self.parts, text, sender, false)
    }
}

fn matches(parts: &[IdentityPart], text: &str, sender: &impl Proved, open: bool) -> bool {
    let Some((part, parts)) = parts.split_first() else { return open || text.is_empty() };
    let goes_on = |value: &str| {
        text.strip_prefix(value).is_some_and(|rest| !value.is_empty() && matches(parts, rest, sender, open))
    };
    match part {
        IdentityPart::Literal(literal) => goes_on(literal),
        IdentityPart::Identity => goes_on(sender.name()),
        IdentityPart::Claim(name) => sender.claim(name).any(goes_on),
    }
}

/// Which MQTT client identifiers a sender may use: a template, and `*` at its end for any further characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdPattern {
    template: IdentityTemplate,
    open: bool,
}

impl ClientIdPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (template, open) = text.strip_suffix('*').map_or((text, false), |template| (template, true));
        if template.contains('*') {
            return Err(TemplateError::Star);
        }
        let template = IdentityTemplate::parse(template)?;
        if open && !matches!(template.parts.last(), Some(IdentityPart::Literal(_))) {
            return Err(TemplateError::StarBehindName);
        }
        Ok(Self { template, open })
    }

    /// The claims that it names.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.template.claims()
    }

    /// Whether `sender` may use this client identifier.
    #[must_use]
    pub fn allows(&self, client_id: &str, sender: &impl Proved) -> bool {
        matches(&self.template.parts, client_id, sender, self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sender;

    impl Proved for Sender {
        fn name(&self) -> &str {
            "press-1"
        }

        fn claim<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
            let values: &[&str] = if name == "project" { &["a", "ab", ""] } else { &[] };
            values.iter().copied()
        }
    }

    #[test]
    fn a_template_is_compared_with_every_value_of_a_claim() {
        let matches = |template, text| IdentityTemplate::parse(template).unwrap().matches(text, &Sender);
        assert!(matches("{identity}", "press-1"));
        assert!(!matches("{identity}", "press-10"));
        assert!(!matches("{identity}", "press-"));
        assert!(matches("{claims.project}", "a") && matches("{claims.project}", "ab"));
        assert!(matches("{claims.project}b", "ab"), "a shorter value may be the one that fits");
        assert!(!matches("{claims.project}", "abc") && !matches("x{claims.project}", "x"));
        assert!(!matches("{claims.other}", "") && !matches("{claims.other}", "a"));
        assert!(matches("p-{claims.project}-{identity}", "p-ab-press-1"));
    }

    #[test]
    fn a_client_id_may_have_an_end_of_its_own() {
        let allows = |pattern, id| ClientIdPattern::parse(pattern).unwrap().allows(id, &Sender);
        assert!(allows("{identity}", "press-1") && !allows("{identity}", "press-1-a"));
        assert!(allows("{identity}-*", "press-1-a") && allows("{identity}-*", "press-1-"));
        assert!(!allows("{identity}-*", "press-1") && !allows("{identity}-*", "press-2-a"));
        assert!(!allows("{identity}", ""));
    }

    #[test]
    fn a_malformed_template_names_its_fault() {
        for (text, error) in [
            ("", TemplateError::Empty),
            ("{identity", TemplateError::Brace),
            ("identity}", TemplateError::Brace),
            ("{project}", TemplateError::Unknown("project".into())),
            ("{claims.}", TemplateError::Unknown("claims.".into())),
            ("fixed", TemplateError::NoName),
            ("{identity}{identity}{identity}{identity}{identity}", TemplateError::TooManyNames),
        ] {
            assert_eq!(IdentityTemplate::parse(text), Err(error), "{text}");
        }
        assert_eq!(ClientIdPattern::parse("{identity}*"), Err(TemplateError::StarBehindName));
        assert_eq!(ClientIdPattern::parse("*-{identity}"), Err(TemplateError::Star));
        assert_eq!(ClientIdPattern::parse("*"), Err(TemplateError::Empty));
    }
}

//! Finding the route of a topic name or path: the most specific match wins, level by level (literal, capture, `+`,
//! `#`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use penstock_crds::identity::IdentityTemplate;
use penstock_crds::pattern::{KeyPart, KeyTemplate, MAX_CAPTURES, Pattern, Segment, builtin};

use crate::auth::Identity;

/// The values that a match bound, in order of the pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Captures<'a> {
    values: [&'a str; MAX_CAPTURES],
    count: usize,
}

impl<'a> Captures<'a> {
    /// Binds `value` while `then` looks further.
    fn with<T>(&mut self, value: &'a str, then: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.count;
        if let Some(place) = self.values.get_mut(before) {
            *place = value;
            self.count += 1;
        }
        let result = then(self);
        self.count = before;
        result
    }

    fn get(&self, index: usize) -> &'a str {
        self.values.get(index).copied().unwrap_or_default()
    }

    /// A capture is refused when it is empty or has a character that would change the meaning of a topic or key.
    fn are_clean(&self) -> bool {
        let clean = |value: &str| {
            !value.is_empty() && !value.bytes().any(|byte| matches!(byte, b'+' | b'#' | b'\0' | b'/'))
        };
        self.values.iter().take(self.count).all(|value| clean(value))
    }
}

/// Where a match leads.
#[derive(Debug)]
pub struct Target {
    /// Index of the route in the configuration.
    pub route: usize,
    key: Option<Vec<KeyPiece>>,
    allow: Option<Box<[Allow]>>,
}

/// What one capture must be.
#[derive(Debug)]
struct Allow {
    what: KeyPiece,
    template: IdentityTemplate,
}

#[derive(Debug)]
enum KeyPiece {
    Literal(Box<str>),
    Capture(usize),
    ClientId,
    Source,
}

impl Target {
    /// Writes the record key, if the route has a template. Returns whether it has.
    pub fn render_key(&self, captures: &Captures<'_>, sender: Sender<'_>, key: &mut Vec<u8>) -> bool {
        key.clear();
        let Some(pieces) = &self.key else { return false };
        for piece in pieces {
            key.extend_from_slice(piece.text(captures, sender).as_bytes());
        }
        true
    }

    /// Whether the sender may send by this route, to where the captures say. All that the route names must hold.
    #[must_use]
    pub fn allows(&self, captures: &Captures<'_>, sender: Sender<'_>) -> bool {
        let Some(allow) = &self.allow else { return true };
        let Some(identity) = sender.identity else { return false };
        allow.iter().all(|one| one.template.matches(one.what.text(captures, sender), identity))
    }
}

impl KeyPiece {
    fn text<'s>(&'s self, captures: &Captures<'s>, sender: Sender<'s>) -> &'s str {
        match self {
            Self::Literal(text) => text,
            Self::Capture(index) => captures.get(*index),
            Self::ClientId => sender.client_id,
            Self::Source => sender.source,
        }
    }
}

/// Who sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender<'a> {
    /// MQTT client identifier, else empty.
    pub client_id: &'a str,
    /// IP address.
    pub source: &'a str,
    /// Who it has proved to be, where somebody asks.
    pub identity: Option<&'a Identity>,
}

/// The routes of one endpoint, compiled once.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// A level has few names: comparing them is cheaper than hashing one.
    literals: BTreeMap<Box<str>, Node>,
    capture: Option<Box<Node>>,
    any: Option<Box<Node>>,
    rest: Option<Target>,
    target: Option<Target>,
}

/// What was found.
#[derive(Debug)]
pub enum Found<'r, 'a> {
    /// A route and what its pattern bound.
    Route(&'r Target, Captures<'a>),
    /// A route, and captures that are refused.
    UncleanCapture(&'r Target, Captures<'a>),
    /// None.
    Nothing,
}

impl Router {
    /// Adds a source of a route. `allow` says what captures must be, by their names.
    pub fn add(
        &mut self,
        pattern: &Pattern,
        route: usize,
        key: Option<&KeyTemplate>,
        allow: &[(String, IdentityTemplate)],
    ) {
        let names: Vec<&str> = pattern.captures().collect();
        let key = key.map(|template| template.parts().iter().map(|part| piece(part, &names)).collect());
        let one = |(name, template): &(String, IdentityTemplate)| Allow {
            what: piece(&KeyPart::Capture(name.clone()), &names),
            template: template.clone(),
        };
        let allow = (!allow.is_empty()).then(|| allow.iter().map(one).collect());
        let target = Target { route, key, allow };
        let mut node = &mut self.root;
        for segment in pattern.segments() {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_str().into()).or_default(),
                Segment::Capture(_) => node.capture.get_or_insert_default(),
                Segment::Any => node.any.get_or_insert_default(),
                Segment::Rest => {
                    node.rest = Some(target);
                    return;
                }
            };
        }
        node.target = Some(target);
    }

    /// Finds the route of `address`, levels separated by `/`. A leading wildcard or capture does not match a topic
    /// that begins with `$` (`[MQTT-4.7.2-1]`). The work is bounded by the number of levels in all patterns.
    #[must_use]
    pub fn find<'r, 'a>(&'r self, address: &'a str) -> Found<'r, 'a> {
        let mut found = Found::Nothing;
        let hidden = address.starts_with('$');
        let mut captures = Captures::default();
        let _ = self.root.descend(Some(address), &mut captures, hidden, &mut |target, captures| {
            found = if captures.are_clean() {
                Found::Route(target, *captures)
            } else {
                Found::UncleanCapture(target, *captures)
            };
            ControlFlow::Break(())
        });
        found
    }
}

fn piece(part: &KeyPart, captures: &[&str]) -> KeyPiece {
    match part {
        KeyPart::Literal(text) => KeyPiece::Literal(text.as_str().into()),
        KeyPart::Capture(name) => match captures.iter().position(|capture| capture == name) {
            Some(index) => KeyPiece::Capture(index),
            None if name == builtin::CLIENT_ID => KeyPiece::ClientId,
            None => KeyPiece::Source,
        },
    }
}

impl Node {
    fn descend<'r, 'a>(
        &'r self,
        rest: Option<&'a str>,
        captures: &mut Captures<'a>,
        hidden: bool,
        matched: &mut impl FnMut(&'r Target, &Captures<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(rest) = rest else {
            // `a/#` also matches `a` (MQTT 5 §4.7.1.2).
            return match self.target.as_ref().or(self.rest.as_ref()) {
                Some(target) => matched(target, captures),
                None => ControlFlow::Continue(()),
            };
        };
        // Over bytes: levels are short, and a search of `str` costs more to set up than it saves.
        let end = rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len());
        let (level, rest) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..));
        if let Some(node) = self.literals.get(level) {
            node.descend(rest, captures, false, matched)?;
        }
        if hidden {
            return ControlFlow::Continue(());
        }
        if let Some(node) = &self.capture {
            captures.with(level, |captures| node.descend(rest, captures, false, matched))?;
        }
        if let Some(node) = &self.any {
            node.descend(rest, captures, false, matched)?;
        }
        match &self.rest {
            Some(target) => matched(target, captures),
            None => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(patterns: &[&str]) -> Router {
        let mut router = Router::default();
        for (route, pattern) in patterns.iter().enumerate() {
            router.add(&Pattern::topic_filter(pattern).unwrap(), route, None, &[]);
        }
        router
    }

    fn route(router: &Router, address: &str) -> Option<usize> {
        match router.find(address) {
            Found::Route(target, _) => Some(target.route),
            Found::UncleanCapture(..) | Found::Nothing => None,
        }
    }

    #[test]
    fn the_most_specific_match_wins_level_by_level() {
        let router = router(&["#", "a/+", "a/{x}", "a/b", "a/b/#", "+/b/c"]);
        for (address, expected) in [
            ("z", 0),
            ("a/b", 3),
            ("a/c", 2),
            ("a/b/c", 4),
            ("a/b/c/d", 4),
            ("z/b/c", 5),
            ("a", 0),
            ("a/c/d", 0),
        ] {
            assert_eq!(route(&router, address), Some(expected), "{address}");
        }
    }

    #[test]
    fn a_leading_wildcard_does_not_match_a_dollar_topic() {
        let router = router(&["#", "+/x", "{a}/y", "$SYS/+"]);
        assert_eq!(route(&router, "$SYS/x"), Some(3));
        for hidden in ["$SYS", "$other/x", "$other/y"] {
            assert_eq!(route(&router, hidden), None, "{hidden}");
        }
    }

    #[test]
    fn a_key_is_rendered_from_captures_and_sender() {
        let mut router = Router::default();
        let template = KeyTemplate::parse("{b}-{a}@{clientId}/{source}").unwrap();
        router.add(&Pattern::topic_filter("v1/{a}/{b}").unwrap(), 0, Some(&template), &[]);
        let Found::Route(target, captures) = router.find("v1/one/two") else { panic!("no route") };
        let mut key = Vec::new();
        let sender = Sender { client_id: "c", source: "192.0.2.1", identity: None };
        assert!(target.render_key(&captures, sender, &mut key));
        assert_eq!(key, b"two-one@c/192.0.2.1");
    }

    #[test]
    fn an_empty_capture_is_refused() {
        let router = router(&["v1/{a}/x"]);
        assert!(matches!(router.find("v1//x"), Found::UncleanCapture(..)));
    }

    #[test]
    fn nobody_is_allowed_what_is_bound_to_an_identity() {
        let mut router = Router::default();
        let allow = [("a".to_owned(), IdentityTemplate::parse("{identity}").unwrap())];
        router.add(&Pattern::topic_filter("v1/{a}/{b}").unwrap(), 0, None, &allow);
        router.add(&Pattern::topic_filter("v2/{a}").unwrap(), 1, None, &[]);
        for (address, expected) in [("v1/x/y", false), ("v2/x", true)] {
            let Found::Route(target, captures) = router.find(address) else { panic!("no route") };
            assert_eq!(target.allows(&captures, Sender::default()), expected, "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_address_is_answered(address in ".*") {
            let router = router(&["#", "a/{x}/+", "+/+/#", "{p}/b"]);
            let _ = router.find(&address);
        }
    }
}

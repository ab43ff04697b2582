//! Who a sender has proved to be.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use penstock_crds::identity::Proved;

use super::jwt::key::Key;
use super::tokens::Token;
use super::users::User;

/// The name that a sender has proved, what is known of it beside, and what that rests on.
pub struct Identity {
    name: Box<str>,
    claims: Claims,
    expires: Option<Instant>,
    rests_on: RestsOn,
}

/// Claims that templates name: the name, and its values.
pub(super) type Claims = Vec<(Arc<str>, Vec<Box<str>>)>;

/// The line, key or certificate by which somebody was let in.
pub(super) enum RestsOn {
    User(Arc<User>),
    Token(Arc<Token>),
    Key(Arc<Key>),
    /// TLS looks after it, and ends the connection when its CA is gone.
    Certificate,
}

impl Identity {
    pub(super) fn new(name: &str, rests_on: RestsOn) -> Self {
        Self { name: name.into(), claims: Vec::new(), expires: None, rests_on }
    }

    pub(super) fn of_token(name: &str, claims: Claims, expires: Instant, key: Arc<Key>) -> Self {
        Self { name: name.into(), claims, expires: Some(expires), rests_on: RestsOn::Key(key) }
    }

    pub(super) fn of_certificate(name: &str, expires: Option<Instant>) -> Self {
        Self { name: name.into(), claims: Vec::new(), expires, rests_on: RestsOn::Certificate }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it ends by itself.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    pub(super) fn rests_on(&self) -> &RestsOn {
        &self.rests_on
    }
}

impl Proved for Identity {
    fn name(&self) -> &str {
        &self.name
    }

    fn claim<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        let values = self.claims.iter().find(|(known, _)| **known == *name);
        values.into_iter().flat_map(|(_, values)| values.iter().map(|value| &**value))
    }
}

impl fmt::Debug for Identity {
    /// Names and claims of senders belong into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

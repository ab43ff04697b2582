//! A CONNECT, before it is known who sends it.

use std::sync::Arc;

use super::session::{Session, Terms};
use super::will::Testator;
use crate::auth::{Check, Identity};
use crate::budget::Reservation;

/// A CONNECT whose own words are in order.
#[derive(Debug)]
pub(super) struct Hello {
    /// What the client agreed on.
    pub(super) session: Box<Session>,
    /// Where that is not what it asked for.
    pub(super) terms: Terms,
    /// What the session keeps: client identifier, Will and topic aliases.
    pub(super) kept: Reservation,
    /// Its IP address.
    pub(super) source: String,
    /// What the gate says of its credentials; none where everybody is let in.
    pub(super) check: Option<Check>,
    /// Who it is, once it is let in.
    pub(super) identity: Option<Arc<Identity>>,
}

impl Hello {
    /// Whose Will it would be.
    pub(super) fn testator(&self) -> Testator {
        Testator { client_id: self.session.client_id.clone(), source: self.source.as_str().into() }
    }
}

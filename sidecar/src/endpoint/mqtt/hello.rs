//! A CONNECT, before it is known who sends it.

use std::sync::Arc;

use super::session::Session;
use super::will::Testator;
use crate::auth::{Check, Identity};
use crate::budget::Reservation;

/// A CONNECT whose own words are in order.
#[derive(Debug)]
pub(super) struct Hello {
    /// What the client agreed on.
    pub(super) session: Box<Session>,
    /// The identifier is ours: the client brought none.
    pub(super) assigned_client_id: bool,
    /// For how many seconds the client wanted its session to be kept.
    pub(super) asked_expiry_seconds: u32,
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

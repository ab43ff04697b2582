//! From CONNECT to CONNACK: who it is, and which session it gets. That may take its time, as others are asked; the
//! connection takes nothing from the client meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::MqttEndpoint;
use super::clients::Seat;
use super::codec::Reason;
use super::session::Session;
use crate::budget::Reservation;
use crate::endpoint::connections::Handle;

/// A CONNECT whose own words are in order.
#[derive(Debug)]
pub(super) struct Hello {
    /// What the client agreed on.
    pub(super) session: Box<Session>,
    /// The identifier is ours: the client brought none.
    pub(super) assigned_client_id: bool,
    /// The session was asked to outlive the connection, and does not.
    pub(super) session_expires_now: bool,
    /// What the session keeps: client identifier, Will and topic aliases.
    pub(super) kept: Reservation,
}

/// A client that is let in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) hello: Hello,
    pub(super) seat: Seat,
}

/// An entry under way.
pub(super) type Entering = Pin<Box<dyn Future<Output = Result<Entered, Reason>> + Send>>;

/// Lets a client in, or says why not.
pub(super) async fn enter(
    endpoint: Arc<MqttEndpoint>,
    hello: Hello,
    handle: Arc<Handle>,
) -> Result<Entered, Reason> {
    // Authentication comes here, before the client is known to anybody.
    let seat = Seat::take(&endpoint, &hello.session.client_id, handle);
    Ok(Entered { hello, seat })
}

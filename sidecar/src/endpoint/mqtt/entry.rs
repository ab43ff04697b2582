//! From CONNECT to CONNACK: who it is, and which session it gets. That may take its time, as others are asked; the
//! connection takes nothing from the client meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::MqttEndpoint;
use super::clients::Seat;
use super::codec::Reason;
use super::hello::Hello;
use super::resume::{Resumed, resume};
use crate::auth::{Check, Denied, Gate, Identity};
use crate::endpoint::connections::Handle;
use crate::intake::Refusal;
use crate::intake::router::Sender;

/// A client that is let in.
pub(super) struct Entered {
    pub(super) hello: Hello,
    pub(super) seat: Seat,
    /// A session that outlives the connection.
    pub(super) resumed: Option<Resumed>,
}

/// An entry under way.
pub(super) type Entering = Pin<Box<dyn Future<Output = Result<Entered, Reason>> + Send>>;

/// Lets a client in, or says why not.
pub(super) async fn enter(
    endpoint: Arc<MqttEndpoint>,
    mut hello: Hello,
    handle: Arc<Handle>,
) -> Result<Entered, Reason> {
    // Before the client is known to anybody.
    if let (Some(gate), Some(check)) = (endpoint.intake.gate(), hello.check.take()) {
        let identity = authenticate(gate, check, &handle).await?;
        authorize(&endpoint, gate, &hello, &identity)?;
        hello.identity = Some(identity);
    }
    let resumed = resume(&endpoint, &mut hello).await?;
    let ownership = resumed.as_ref().map(|resumed| Arc::clone(resumed.kept.ownership()));
    let seat = Seat::take(&endpoint, &hello.session, handle, ownership);
    Ok(Entered { hello, seat, resumed })
}

/// Who the client is.
async fn authenticate(gate: &Arc<Gate>, check: Check, handle: &Handle) -> Result<Arc<Identity>, Reason> {
    let result = match check {
        Check::Now(result) => result,
        Check::Later(verification) => verification.await,
    };
    let identity = result.map_err(|denied| match denied {
        Denied::Missing | Denied::Wrong => Reason::BadUserNameOrPassword,
        Denied::NotAllowed => Reason::NotAuthorized,
        Denied::Busy(_) | Denied::Limited(_) => Reason::ServerBusy,
    })?;
    handle.identify(Arc::clone(&identity));
    // What was taken away before the handle knew of it is not told to the handle.
    if gate.holds(&identity) { Ok(identity) } else { Err(Reason::BadUserNameOrPassword) }
}

/// Whether the client may use its identifier, and its Will its topic.
fn authorize(endpoint: &MqttEndpoint, gate: &Gate, hello: &Hello, identity: &Identity) -> Result<(), Reason> {
    let session = &hello.session;
    // An identifier of ours is nobody else's, and not one that the pattern could allow.
    if !gate.allows_client_id(identity, if hello.terms.assigned_client_id { "" } else { &session.client_id })
    {
        return Err(Reason::ClientIdentifierNotValid);
    }
    let sender = Sender { client_id: &session.client_id, source: &hello.source, identity: Some(identity) };
    let may = session.will.as_ref().map(|will| endpoint.intake.has_route(&will.topic, sender));
    if may == Some(Err(Refusal::NotAllowed)) { Err(Reason::NotAuthorized) } else { Ok(()) }
}

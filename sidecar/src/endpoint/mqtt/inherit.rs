//! A client that comes again while its older connection is on the same pod: the session goes from one to the other, and
//! the store is not asked before CONNACK.
//!
//! That is the plain case: the same identity, Session Expiry and Will as before, no Clean Start, and nothing of which the
//! store has yet to be told. What CONNECT changes must be in the store before CONNACK promises it, and what is being
//! written is known to nobody. In every other case, and when the older connection does not answer, the session is had
//! from the store, as from another pod.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::MqttEndpoint;
use super::claims::{Claim, Estate};
use super::hello::Hello;
use super::kept::KeptSession;
use crate::session::handshake::Handshakes;
use crate::session::store::KeptWill;

/// How long the older connection may take. It waits for nobody.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks the client's older connection on this pod for its session. None where it must be had from the store.
pub(super) async fn inherit(
    endpoint: &MqttEndpoint,
    hello: &mut Hello,
    identity: &str,
    will: Option<&KeptWill>,
) -> Option<(KeptSession, Handshakes)> {
    let session = &mut hello.session;
    // A session without an expiry ends with the older connection.
    if session.clean_start || session.expiry_seconds == 0 {
        return None;
    }
    let (handle, ownership) = endpoint.clients.owner(&session.client_id)?;
    let (heir, mut heritage) = oneshot::channel();
    let claim = Claim {
        identity: identity.into(),
        expiry_seconds: session.expiry_seconds,
        will: will.cloned(),
        heir,
    };
    if !ownership.claims().ask(claim) {
        return None;
    }
    handle.wake();
    let mut heritage = match timeout(PATIENCE, &mut heritage).await {
        Ok(answer) => answer.ok()?,
        Err(_) => {
            // From here on it keeps the session, or has given it.
            heritage.close();
            heritage.try_recv().ok()?
        }
    };
    let Estate { kept, handshakes, will, .. } = heritage.0.take()?;
    session.will = will;
    Some((kept, handshakes))
}

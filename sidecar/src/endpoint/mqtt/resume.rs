//! How a client gets a session that outlives its connection: from its older connection on this pod, or from the store.

use std::sync::Arc;
use std::time::Duration;

use super::MqttEndpoint;
use super::codec::Reason;
use super::exactly_once::ExactlyOnce;
use super::hello::Hello;
use super::inherit::inherit;
use super::kept::{EPOCH, KeptSession};
use super::will::{StoredWill, Testator};
use crate::auth::Identity;
use crate::planted::{self, Bug};
use crate::session::handshake::Handshakes;
use crate::session::random;
use crate::session::record::{Incarnation, KeptReceipt, Leave, TakeOver, Taken, Write};
use crate::session::store::{Farewell, KeptWill, SessionStore, StoreError};

/// A session that a client has got from the store, or from its older connection.
pub(super) struct Resumed {
    pub(super) kept: KeptSession,
    pub(super) exactly_once: Box<ExactlyOnce>,
    /// Session Present.
    pub(super) present: bool,
}

/// Gets the session of a client that wants one, or that may have had one, from its older connection on this pod or from
/// the store. None for a client whose session ends with the connection.
pub(super) async fn resume(
    endpoint: &Arc<MqttEndpoint>,
    hello: &mut Hello,
) -> Result<Option<Resumed>, Reason> {
    let Some(store) = endpoint.sessions.clone() else { return Ok(None) };
    let session = &hello.session;
    let keeps = session.expiry_seconds > 0;
    if hello.terms.assigned_client_id && !keeps {
        return Ok(None);
    }
    let identity = identity(hello.identity.as_ref());
    let will = session.will.as_ref().map(|will| kept_will(endpoint, will, &hello.testator()));
    if let Some((kept, handshakes)) = inherit(endpoint, hello, &identity, will.as_ref()).await {
        return Ok(Some(Resumed { kept, exactly_once: ExactlyOnce::new(handshakes), present: true }));
    }
    let session = &hello.session;
    let (Some(token), Some(incarnation)) = (random(), random().map(Incarnation)) else {
        return Err(Reason::ServerBusy);
    };
    let request = TakeOver {
        identity: &identity,
        pod: store.pod(),
        clean: session.clean_start,
        token,
        incarnation,
        epoch: EPOCH,
    };
    let expiry = Duration::from_secs(session.expiry_seconds.into());
    match store.take_over(&session.client_id, &request, expiry, will.as_ref()).await {
        Ok(taken) if keeps || taken.present => Ok(Some(resumed(endpoint, store, identity, &taken))),
        Ok(taken) => {
            // Nothing was there that goes on, and nothing is to be kept.
            let write = Write { fence: taken.fence, epoch: EPOCH, confirmed: 0, changes: &[] };
            let leave = Leave { write, keep: false };
            let _ = store.leave(&session.client_id, &leave, Duration::ZERO, Farewell::Discard).await;
            Ok(None)
        }
        Err(StoreError::WrongIdentity(_)) => Err(Reason::NotAuthorized),
        Err(StoreError::Unavailable(_)) if !keeps => Ok(None),
        Err(error) => {
            tracing::debug!(reason = error.reason(), "a session cannot be had: {error}");
            Err(Reason::ServerBusy)
        }
    }
}

/// A session whose intents all have receipts.
fn with_receipts(mut taken: Taken, topic: &str) -> Taken {
    for open in taken.open.values_mut() {
        let receipt = KeptReceipt { topic: topic.into(), partition: 0, offset: None, timestamp_millis: 0 };
        open.receipt.get_or_insert(receipt);
    }
    taken
}

fn resumed(endpoint: &MqttEndpoint, store: Arc<SessionStore>, identity: Box<str>, taken: &Taken) -> Resumed {
    let kafka = endpoint.intake.store();
    let recall = |kept: &KeptReceipt| kafka.recall(kept);
    let handshakes = match kafka.topics().first().filter(|_| planted::is(Bug::IntentForReceipt)) {
        None => Handshakes::taken(taken, recall),
        Some(topic) => Handshakes::taken(&with_receipts(taken.clone(), topic.name()), recall),
    };
    let kept = KeptSession::new(store, identity, taken.fence);
    Resumed { kept, exactly_once: ExactlyOnce::new(handshakes), present: taken.present }
}

/// The name of the identity to which a session belongs; empty where nobody is asked.
fn identity(identity: Option<&Arc<Identity>>) -> Box<str> {
    identity.map_or_else(Box::default, |identity| identity.name().into())
}

/// A Will as the store keeps it.
pub(super) fn kept_will(endpoint: &MqttEndpoint, will: &StoredWill, testator: &Testator) -> KeptWill {
    KeptWill {
        id: will.id.clone(),
        delay: will.delay(),
        grace: endpoint.will_grace(),
        message: will.to_bytes(endpoint.intake.ledger().name(), testator),
    }
}

//! One request and what becomes of it, whichever version of HTTP it came in.
//!
//! Only POST and PUT carry a message. It counts as received when it is whole, or when it is refused before; a client
//! that leaves in the middle of its body has sent none. No refusal reads the body first, so a client that asked with
//! `Expect: 100-continue` is spared sending it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Instant;

use super::answer::ReceiptText;
use super::body::{self, Body};
use super::fields::{self, Fields};
use super::head::Head;
use super::problem::Problem;
use super::stop::Stop;
use super::visit::Visit;
use super::{MAX_HEAD_BYTES, path};
use crate::auth::{CertificateNames, Credentials, Denied, Proof};
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal};
use crate::store::{Outcome, TransientCause};

/// Takes the message of a request. Returns when it arrived; [`Visit::outcome`] waits until it is durable.
pub(super) async fn admit<'b>(
    visit: &mut Visit,
    head: &impl Head,
    body: &mut impl Body<'b>,
) -> Result<Instant, Stop> {
    match (visit.enter(head).await, head.sends()) {
        (Ok(()), true) => visit.message(head, body).await,
        (Ok(()), false) => Err(visit.no_message(head)),
        (Err(stop), true) => Err(stop),
        (Err(stop), false) => Err(stop.uncounted()),
    }
}

const AUTHORIZATION: &[u8] = b"authorization";

/// What is known of a message before its body is read.
struct Look<'h> {
    fields: Fields<'h>,
    /// Decoded.
    path: Cow<'h, str>,
    /// Where in the path the address begins.
    skip: usize,
    /// Of the body, if it is known.
    length: Option<usize>,
    /// Of head and body, as far as it is known.
    bytes: u64,
}

impl Look<'_> {
    fn address(&self) -> &str {
        self.path.get(self.skip..).unwrap_or_default()
    }
}

impl Visit {
    /// Lets the sender in. Nothing but its head has been looked at before.
    async fn enter(&mut self, head: &impl Head) -> Result<(), Stop> {
        let Some(gate) = self.endpoint().intake.gate().cloned() else { return Ok(()) };
        let (field, another) = {
            let mut fields = head.fields().filter(|(name, _)| *name == AUTHORIZATION);
            (fields.next().map(|(_, value)| value), fields.next())
        };
        let result = if another.is_some() {
            Err(Denied::Wrong)
        } else {
            let proof = Proof::Authorization(field);
            let names = self.peer.place().handle().certificate().map(CertificateNames::from);
            let (source, certificate) = (self.peer.address(), names.as_ref());
            gate.authenticate(Credentials { source, proof, certificate }).await
        };
        self.peer.decided(result.is_ok());
        match result {
            Ok(identity) => {
                self.identity = Some(identity);
                Ok(())
            }
            Err(denied) => {
                let mut stop = Stop::from(denied);
                if stop.problem == Problem::NotAuthenticated {
                    stop.challenge = gate.challenge();
                }
                Err(stop)
            }
        }
    }

    /// The answer to a method that sends none.
    fn no_message(&self, head: &impl Head) -> Stop {
        let route = || {
            let path = path::decode(head.path())?;
            let endpoint = self.endpoint();
            let address = path::below(&path, &endpoint.config.base_path).ok_or(Refusal::NoRoute)?;
            endpoint.intake.has_route(address, self.sender()).map_err(Stop::from)
        };
        let stop = match route() {
            Ok(()) => Stop::new(Problem::MethodNotAllowed, "messages are sent with POST or PUT"),
            Err(stop) => stop,
        };
        stop.uncounted()
    }

    /// Looks at all that can be known before the body is read.
    fn look<'h>(&self, head: &'h impl Head, length: Option<u64>) -> Result<Look<'h>, Stop> {
        let endpoint = self.endpoint();
        let fields = Fields::read(head.fields())?;
        let head_bytes = head.target_bytes() + fields.bytes;
        if head_bytes > MAX_HEAD_BYTES {
            return Err(Stop::new(Problem::HeadTooLarge, "path and header fields take more than 8 KiB"));
        }
        let path = path::decode(head.path())?;
        let address = path::below(&path, &endpoint.config.base_path).ok_or(Refusal::NoRoute)?;
        if head.lacks_length() {
            let detail = "HTTP/1.0 tells the length of a message only by Content-Length";
            return Err(Stop::new(Problem::LengthRequired, detail).and_close());
        }
        let length = match length {
            Some(length) if length > u64::from(endpoint.limits.max_message_bytes) => {
                return Err(self.too_large());
            }
            length => length.and_then(|length| usize::try_from(length).ok()),
        };
        // Who may not send is told so before its body is read.
        if self.identity.is_some() || fields.expects || length.is_none_or(|length| length > body::STEP_BYTES)
        {
            endpoint.intake.has_route(address, self.sender())?;
        }
        let skip = path.len() - address.len();
        Ok(Look { fields, path, skip, length, bytes: (head_bytes + length.unwrap_or(0)) as u64 })
    }

    /// Takes the message of a request.
    async fn message<'b>(&mut self, head: &impl Head, body: &mut impl Body<'b>) -> Result<Instant, Stop> {
        let look = self.look(head, body.length())?;
        self.hold(look.bytes)?;
        let mut reservation =
            self.endpoint().intake.budget().reserve(look.bytes).ok_or_else(Stop::exhausted)?;
        let payload = body::read(self, body, look.length, &mut reservation).await?;
        self.body_read = true;
        self.peer.activity().body_ends();

        let arrived = Instant::now();
        let seat = self.seat.get_or_insert_with(|| self.peer.sit());
        let arrival = Arrival {
            address: look.address(),
            subject: head.path(),
            payload: payload.as_slice(),
            id: look.fields.id.as_deref(),
            number: None,
            sender: Sender { client_id: "", source: self.peer.source(), identity: self.identity.as_deref() },
            arrived,
            allowed: false,
            tag: 0,
            ticket: 0,
            // The sender is told what is wrong and can mend it.
            dead_letter: false,
        };
        self.peer
            .endpoint()
            .intake
            .admit(seat.key, &seat.lane, &arrival, |record| fields::pass_on(head, record))
            .map_err(|refusal| match refusal {
                // What is coded would hardly match; say why instead of what the schema misses.
                Refusal::Schema(_) if look.fields.coded => {
                    let detail =
                        "the route's schema reads payloads as they are; send it without Content-Encoding";
                    Stop::new(Problem::CodedPayload, detail)
                }
                refusal => refusal.into(),
            })?;
        self.receive();
        // The producer has its own copy, and its own share of the budget.
        Ok(arrived)
    }

    /// Waits for the report of the message that arrived then.
    pub(super) async fn outcome(&mut self, arrived: Instant) -> Result<ReceiptText, Stop> {
        let deadline = arrived + self.endpoint().ack_timeout;
        let seat = self.seat();
        if !seat.reported(deadline).await {
            return Err(TransientCause::AckTimeout.into());
        }
        let mut outcome = Err(TransientCause::BrokerError.into());
        seat.lane.drain(|slot, reported| {
            outcome = match reported {
                Outcome::Persisted(receipt) => Ok(ReceiptText::write(&slot.back.id, &receipt)),
                Outcome::Transient(cause) => Err(cause.into()),
                Outcome::Refused => {
                    Err(Stop::new(Problem::RecordRefused, "the brokers named this record as invalid"))
                }
            };
            ControlFlow::Break(())
        });
        outcome
    }
}

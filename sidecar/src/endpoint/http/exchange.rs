//! One request and its answer.
//!
//! Only POST and PUT carry a message. It counts as received when it is whole, or when it is refused before; a client
//! that leaves in the middle of its body has sent none. No refusal reads the body first, so a client that asked with
//! `Expect: 100-continue` is spared sending it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::request::Parts;
use http::{Method, Request, Response, Uri, Version};
use hyper::body::{Body, Incoming};

use super::answer::{self, Answer, ReceiptText};
use super::fields::{self, Fields};
use super::peer::Peer;
use super::problem::Problem;
use super::stop::Stop;
use super::visit::Visit;
use super::{MAX_HEAD_BYTES, body, path};
use crate::auth::{CertificateNames, Credentials, Denied, Proof};
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal};
use crate::store::{Outcome, TransientCause};

/// Answers a request. It cannot fail: every end is an answer, or the connection's.
pub(super) async fn answer(
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (mut head, mut body) = request.into_parts();
    let mut visit = Visit::new(peer);
    let outcome = match (visit.enter(&head).await, &head.method) {
        (Ok(()), &Method::POST | &Method::PUT) => visit.message(&mut head, &mut body).await,
        (Ok(()), _) => Err(visit.no_message(&head)),
        (Err(stop), &Method::POST | &Method::PUT) => Err(stop),
        (Err(stop), _) => Err(stop.uncounted()),
    };
    let headers = std::mem::take(&mut head.headers);
    Ok(match outcome {
        Ok((receipt, arrived)) => receipt.into_response(visit.acknowledge(arrived), headers),
        Err(stop) => {
            visit.refuse(&stop);
            let goes_on = if head.version >= Version::HTTP_2 {
                body::await_small(&mut body, &headers).await;
                true
            } else {
                !stop.close && (visit.body_read || body::skim(&mut body, &headers).await)
            };
            answer::refuse(stop.problem, &stop.detail, !goes_on, stop.challenge, headers)
        }
    })
}

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
    async fn enter(&mut self, head: &Parts) -> Result<(), Stop> {
        let endpoint = Arc::clone(self.peer.endpoint());
        let Some(gate) = endpoint.intake.gate() else { return Ok(()) };
        let mut fields = head.headers.get_all(AUTHORIZATION).iter();
        let field = fields.next().map(http::HeaderValue::as_bytes);
        let result = if fields.next().is_some() {
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
    fn no_message(&self, head: &Parts) -> Stop {
        let route = || {
            let path = path::decode(head.uri.path())?;
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
    fn look<'h>(&self, head: &'h Parts, body: &Incoming) -> Result<Look<'h>, Stop> {
        let endpoint = self.endpoint();
        let fields = Fields::read(&head.headers)?;
        let head_bytes = head.uri.path_and_query().map_or(0, |path| path.as_str().len()) + fields.bytes;
        if head_bytes > MAX_HEAD_BYTES {
            return Err(Stop::new(Problem::HeadTooLarge, "path and header fields take more than 8 KiB"));
        }
        let path = path::decode(head.uri.path())?;
        let address = path::below(&path, &endpoint.config.base_path).ok_or(Refusal::NoRoute)?;
        if head.version < Version::HTTP_11 && !head.headers.contains_key(CONTENT_LENGTH) {
            let detail = "HTTP/1.0 tells the length of a message only by Content-Length";
            return Err(Stop::new(Problem::LengthRequired, detail).and_close());
        }
        let length = match body.size_hint().exact() {
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

    /// Takes the message of a request and waits until it is durable.
    async fn message(
        &mut self,
        head: &mut Parts,
        body: &mut Incoming,
    ) -> Result<(ReceiptText, Instant), Stop> {
        let endpoint = Arc::clone(self.peer.endpoint());
        let look = self.look(head, body)?;
        self.hold(look.bytes)?;
        let mut reservation = endpoint.intake.budget().reserve(look.bytes).ok_or_else(Stop::exhausted)?;
        let payload = body::read(self, body, look.length, &mut reservation).await?;
        self.body_read = true;
        self.peer.activity().body_ends();

        let arrived = Instant::now();
        let arrival = Arrival {
            address: look.address(),
            subject: head.uri.path(),
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
        let seat = self.seat.get_or_insert_with(|| self.peer.sit());
        endpoint
            .intake
            .admit(seat.key, &seat.lane, &arrival, |record| fields::pass_on(&head.headers, record))
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
        // The producer has its own copy, and its own share of the budget. What points into hyper's buffer goes before
        // the wait, or the buffer would stay.
        drop(payload);
        drop(reservation);
        head.headers.clear();
        head.uri = Uri::default();
        self.outcome(arrived + endpoint.ack_timeout).await.map(|receipt| (receipt, arrived))
    }

    /// Waits for the report of the message in the lane.
    async fn outcome(&mut self, deadline: Instant) -> Result<ReceiptText, Stop> {
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

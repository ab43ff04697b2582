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

use super::answer::{self, Answer, Due, ReceiptText};
use super::fields::{self, Fields};
use super::peer::Peer;
use super::problem::Problem;
use super::seat::Seat;
use super::{HttpEndpoint, MAX_HEAD_BYTES, body, path};
use crate::auth::{CertificateNames, Credentials, Denied, Identity, Proof};
use crate::intake::router::Sender;
use crate::intake::{Arrival, Refusal};
use crate::ledger::{Ending, Entry};
use crate::store::{Outcome, TransientCause};

/// Why a request ends without a receipt.
#[derive(Debug)]
pub(super) struct Stop {
    problem: Problem,
    detail: Cow<'static, str>,
    close: bool,
    counts: bool,
    challenge: Option<&'static str>,
}

impl Stop {
    pub(super) fn new(problem: Problem, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { problem, detail: detail.into(), close: false, counts: true, challenge: None }
    }

    pub(super) fn exhausted() -> Self {
        TransientCause::BudgetExhausted.into()
    }

    /// The connection cannot be used after this.
    pub(super) fn and_close(self) -> Self {
        Self { close: true, ..self }
    }

    /// There was no message.
    pub(super) fn uncounted(self) -> Self {
        Self { counts: false, ..self }
    }
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::new(Problem::NotAuthenticated, "this endpoint asks for credentials"),
            // Who guesses needs a new connection for each guess.
            Denied::Wrong => {
                Self::new(Problem::NotAuthenticated, "the credentials are not accepted").and_close()
            }
            Denied::NotAllowed => Self::new(Problem::NotAllowed, "the credentials name nobody"),
            Denied::Busy(_) => Self::new(Problem::CredentialsBusy, "try again later"),
            Denied::Limited(_) => Self::new(Problem::TooManyFailures, "try again later").and_close(),
        }
    }
}

impl From<TransientCause> for Stop {
    fn from(cause: TransientCause) -> Self {
        Self::new(cause.into(), cause.detail())
    }
}

impl From<path::Malformed> for Stop {
    fn from(malformed: path::Malformed) -> Self {
        Self::new(Problem::MalformedPath, malformed.0)
    }
}

impl From<fields::MalformedId> for Stop {
    fn from(malformed: fields::MalformedId) -> Self {
        Self::new(Problem::MalformedId, malformed.0)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRoute => Self::new(Problem::NoRoute, "no route of this endpoint takes this path"),
            Refusal::NotAllowed => {
                Self::new(Problem::NotAllowed, "the route does not let this sender send to this path")
            }
            Refusal::UncleanCapture => {
                let detail = "a captured segment of the path is empty or has '/', '+', '#' or U+0000";
                Self::new(Problem::UncleanCapture, detail)
            }
            Refusal::Schema(problem) => Self::new(Problem::Schema, problem),
            Refusal::TooLarge { limit_bytes } => Self::new(
                Problem::TooLarge,
                format!("the topic takes at most {limit_bytes} bytes, with key and headers"),
            ),
            Refusal::Transient(cause) => cause.into(),
        }
    }
}

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

/// A request in progress. What it holds goes back when it ends, however that is.
pub(super) struct Visit {
    peer: Arc<Peer>,
    /// Bytes of the connection's share.
    held: u64,
    seat: Option<Seat>,
    body_read: bool,
    /// Its message is received and has no end yet.
    open: bool,
    /// Who sends, where somebody asks.
    identity: Option<Arc<Identity>>,
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
    fn new(peer: Arc<Peer>) -> Self {
        peer.activity().request_begins();
        Self { peer, held: 0, seat: None, body_read: false, open: false, identity: None }
    }

    pub(super) fn endpoint(&self) -> &HttpEndpoint {
        self.peer.endpoint()
    }

    pub(super) fn seat(&mut self) -> &mut Seat {
        self.seat.get_or_insert_with(|| self.peer.sit())
    }

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

    fn sender(&self) -> Sender<'_> {
        Sender { client_id: "", source: self.peer.source(), identity: self.identity.as_deref() }
    }

    /// Takes `bytes` of what the connection may hold.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<(), Stop> {
        if !self.peer.try_hold(bytes, self.held) {
            return Err(Stop::exhausted());
        }
        self.held += bytes;
        Ok(())
    }

    pub(super) fn too_large(&self) -> Stop {
        let largest = self.endpoint().limits.max_message_bytes;
        Stop::new(Problem::TooLarge, format!("this endpoint takes at most {largest} bytes in a message"))
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

    /// The message is with the producer.
    fn receive(&mut self) {
        let mut entry = Entry::default();
        entry.receive();
        entry.occupy();
        self.peer.account().book(&mut entry);
        self.open = true;
    }

    /// The receipt is in hand; the message ends when its answer is written.
    fn acknowledge(&mut self, arrived: Instant) -> Due {
        self.open = false;
        Due { peer: Arc::clone(&self.peer), ending: Ending::Acknowledged, arrived }
    }

    /// The message, if there was one, is refused.
    fn refuse(&mut self, stop: &Stop) {
        if !stop.counts {
            return;
        }
        let mut entry = Entry::default();
        if std::mem::take(&mut self.open) {
            self.give_up();
            entry.leave(1);
        } else {
            entry.receive();
        }
        entry.end(Ending::Refused, 1);
        self.peer.account().book(&mut entry);
    }

    /// Waits no longer for a report; it will come late.
    fn give_up(&self) {
        if let Some(seat) = &self.seat {
            seat.lane.give_up();
        }
    }
}

impl Drop for Visit {
    /// hyper drops a request whose client left.
    fn drop(&mut self) {
        if self.open {
            self.give_up();
            self.peer.abandon(1);
        }
        if let Some(seat) = self.seat.take() {
            self.peer.leave(seat);
        }
        self.peer.let_go(self.held);
        self.peer.activity().request_ends();
    }
}

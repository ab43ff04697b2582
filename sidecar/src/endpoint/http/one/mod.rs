//! HTTP/1.0 and HTTP/1.1 (RFC 9112): one request at a time; what is pipelined waits in the socket and in one buffer.
//!
//! A whole request is used where it was read into, a buffer that the thread lends: a connection that rests, or waits for
//! Kafka, holds none. What is left of a head or of pipelined requests is kept in exactly its length.

mod body;
mod chunked;
mod head;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BufMut;
use tokio::io::AsyncWriteExt;
use tokio_util::io::poll_read_buf;

use super::answer::{self, Goes, ReceiptText};
use super::body::skim;
use super::exchange;
use super::peer::Peer;
use super::stop::Stop;
use super::stream::PeerStream;
use super::visit::Visit;
use crate::endpoint::wire::Wire;
use crate::spare::{self, Spares};
use body::Body;
use head::{Field, Head, Method, Request};

/// The largest head, and so what a client can send before a request is accepted (contract, rule 4).
const BUFFER_BYTES: usize = 16_384;

thread_local! {
    static SPARES: Spares<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection that speaks HTTP/1.
#[derive(Debug)]
pub(super) struct One {
    stream: PeerStream,
    peer: Arc<Peer>,
    /// What was read and not used yet.
    unused: Vec<u8>,
    fields: Vec<Field>,
}

impl One {
    pub(super) fn new(stream: PeerStream, peer: Arc<Peer>) -> Self {
        Self { stream, peer, unused: Vec::new(), fields: Vec::new() }
    }

    pub(super) fn into_inner(self) -> Wire {
        self.stream.into_inner()
    }

    /// Serves one request after another, until the client or the protocol ends the connection, or, `leaving`, between
    /// two requests.
    pub(super) async fn serve(&mut self, leaving: &AtomicBool) -> io::Result<()> {
        loop {
            let head = match self.next_head(leaving).await? {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(stop) => {
                    return self.answer(|text| answer::write_problem(text, &stop, Goes::Away, true)).await;
                }
            };
            let mut visit = Visit::new(Arc::clone(&self.peer));
            let (admitted, readable) = self.admit(&mut visit, &head).await;
            let outcome = match admitted {
                Ok(arrived) => match self.wait(&mut visit, arrived).await {
                    Some(outcome) => outcome.map(|receipt| (receipt, arrived)),
                    // The client has left; its message is abandoned.
                    None => return Ok(()),
                },
                Err(stop) => Err(stop),
            };
            let goes = match head.keep_alive && readable && !leaving.load(Ordering::Relaxed) {
                false => Goes::Away,
                true if head.is_1_1 => Goes::On,
                true => Goes::OnIfTold,
            };
            match outcome {
                Ok((receipt, arrived)) => {
                    visit.acknowledge(arrived).hand_over();
                    drop(visit);
                    self.answer(|text| receipt.write_answer(text, goes)).await?;
                }
                Err(stop) => {
                    visit.refuse(&stop);
                    drop(visit);
                    let with_body = head.method != Method::Head;
                    self.answer(|text| answer::write_problem(text, &stop, goes, with_body)).await?;
                }
            }
            if goes == Goes::Away {
                return Ok(());
            }
        }
    }

    /// Reads until a head is complete; none when the client has closed or nothing more is to be served.
    async fn next_head(&mut self, leaving: &AtomicBool) -> io::Result<Result<Option<Head>, Stop>> {
        poll_fn(|context| {
            loop {
                if !self.unused.is_empty() {
                    match head::read(&mut self.unused, &mut self.fields) {
                        Ok(None) => self.peer.activity().heard(),
                        known => return Poll::Ready(Ok(known)),
                    }
                } else if leaving.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(Ok(None)));
                }
                if ready!(self.poll_read(context))? == 0 {
                    return Poll::Ready(Ok(Ok(None)));
                }
            }
        })
        .await
    }

    /// Reads what is there behind what is unused. Returns how much that was; 0 when the client has closed its side.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unused.capacity() < BUFFER_BYTES {
            let mut roomy = spare::take(&SPARES);
            roomy.reserve_exact(BUFFER_BYTES);
            roomy.extend_from_slice(&self.unused);
            self.unused = roomy;
        }
        let left = BUFFER_BYTES - self.unused.len();
        let mut room = (&mut self.unused).limit(left);
        let result = poll_read_buf(Pin::new(&mut self.stream), context, &mut room);
        if result.is_pending() {
            self.rest();
        }
        result
    }

    /// Gives back the room that nothing is in.
    fn rest(&mut self) {
        let kept = self.unused.as_slice().to_vec();
        let mut roomy = std::mem::replace(&mut self.unused, kept);
        let bytes = roomy.capacity();
        roomy.clear();
        spare::give_back(&SPARES, roomy, bytes);
    }

    /// Takes the message of a request. Returns also whether another request can be read behind it.
    async fn admit(&mut self, visit: &mut Visit, head: &Head) -> (Result<Instant, Stop>, bool) {
        let came = self.unused.len().saturating_sub(head.length) as u64;
        if head.framing.length().is_none_or(|length| length > came) {
            // A client that has to be waited for holds what it has sent, and no more.
            self.rest();
        }
        let (bytes, rest) = self.unused.split_at(head.length.min(self.unused.len()));
        let request = Request { head, bytes, fields: &self.fields };
        let mut body = Body::new(head, rest, &mut self.stream);
        let admitted = exchange::admit(visit, &request, &mut body).await;
        let readable = match &admitted {
            Ok(_) => true,
            Err(stop) => !stop.close && (visit.body_read || skim(&request, &mut body).await),
        };
        let (kept, behind) = body.into_behind();
        let used = self.unused.len() - kept;
        self.unused.drain(..used);
        self.unused.extend_from_slice(&behind);
        (admitted, readable)
    }

    /// Waits for the outcome of a message; none when the client leaves.
    async fn wait(&mut self, visit: &mut Visit, arrived: Instant) -> Option<Result<ReceiptText, Stop>> {
        let mut outcome = pin!(visit.outcome(arrived));
        poll_fn(|context| {
            if let Poll::Ready(outcome) = outcome.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            // A client that closes its side has left, and not only finished: its message is not held for nobody.
            // Behind a pipelined request that is not seen.
            if self.unused.is_empty()
                && let Poll::Ready(Ok(0) | Err(_)) = self.poll_read(context)
            {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }

    /// Sends the answer that `write` writes; it is booked when the kernel has it.
    async fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut text = spare::take(&SPARES);
        write(&mut text);
        self.stream.write_all(&text).await?;
        self.stream.flush().await?;
        let bytes = text.capacity();
        text.clear();
        spare::give_back(&SPARES, text, bytes);
        Ok(())
    }
}

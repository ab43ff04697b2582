//! The body of an HTTP/1 request: what came with its head, and what is still in the socket.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::BUFFER_BYTES;
use super::chunked::Chunks;
use super::head::{Framing, Head};
use crate::endpoint::http::body::{self, Piece};
use crate::endpoint::http::problem::Problem;
use crate::endpoint::http::stop::Stop;
use crate::endpoint::http::stream::PeerStream;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    /// What a read of a body goes into, until it is where it belongs.
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Body<'c> {
    stream: &'c mut PeerStream,
    /// What came behind the head and is not used yet.
    rest: &'c [u8],
    left: Left,
    length: Option<u64>,
    /// What is still to be said to a client that waits to be asked.
    unsaid: &'static [u8],
    /// What came behind the end of a body in chunks.
    behind: Vec<u8>,
}

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
}

impl<'c> Body<'c> {
    pub(super) fn new(head: &Head, rest: &'c [u8], stream: &'c mut PeerStream) -> Self {
        let left = match head.framing {
            Framing::Chunked => Left::Chunks(Chunks::new()),
            framing => Left::Bytes(framing.length().unwrap_or(0)),
        };
        let unsaid = if head.expects_continue { CONTINUE } else { &[] };
        Self { stream, rest, left, length: head.framing.length(), unsaid, behind: Vec::new() }
    }

    /// What came behind the body: how much of what came with the head, and what came later.
    pub(super) fn into_behind(self) -> (usize, Vec<u8>) {
        (self.rest.len(), self.behind)
    }

    /// Says that the body can come.
    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        while !self.unsaid.is_empty() {
            match ready!(Pin::new(&mut *self.stream).poll_write(context, self.unsaid)) {
                Ok(count @ 1..) => self.unsaid = self.unsaid.get(count..).unwrap_or_default(),
                Ok(0) | Err(_) => return Poll::Ready(Err(ended())),
            }
            if self.unsaid.is_empty() {
                // What a layer keeps back goes out with the answer at the latest.
                let _ = Pin::new(&mut *self.stream).poll_flush(context);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Left {
    fn is_none(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_end(),
        }
    }

    /// Hands on what is of the body at the front of `bytes`.
    fn take(
        &mut self,
        bytes: &mut &[u8],
        place: &mut impl FnMut(Piece<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        match self {
            Self::Bytes(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                place(Piece::Lent(bytes.split_off(..length).unwrap_or_default()))
            }
            Self::Chunks(chunks) => loop {
                let data = chunks.next(bytes).map_err(|_| {
                    Stop::new(Problem::MalformedBody, "the framing of the body is broken").and_close()
                })?;
                if data.is_empty() {
                    return Ok(());
                }
                place(Piece::Lent(data))?;
            },
        }
    }
}

impl<'c> body::Body<'c> for Body<'c> {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn is_end(&self) -> bool {
        self.left.is_none()
    }

    fn lent(&mut self) -> Option<&'c [u8]> {
        let Left::Bytes(left) = &mut self.left else { return None };
        let (body, rest) = self.rest.split_at_checked(usize::try_from(*left).ok()?)?;
        (*left, self.rest) = (0, rest);
        Some(body)
    }

    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        mut place: impl FnMut(Piece<'_>) -> Result<(), Stop>,
    ) -> Poll<Result<bool, Stop>> {
        if !self.rest.is_empty() {
            return Poll::Ready(self.left.take(&mut self.rest, &mut place).map(|()| true));
        }
        ready!(self.poll_say(context))?;
        CHUNK.with_borrow_mut(|chunk| {
            let most = match self.left {
                Left::Bytes(left) => usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len()),
                Left::Chunks(_) => chunk.len(),
            };
            let mut buffer = ReadBuf::new(chunk.get_mut(..most).unwrap_or_default());
            let mut bytes = match ready!(Pin::new(&mut *self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => buffer.filled(),
                Ok(()) | Err(_) => return Poll::Ready(Err(ended())),
            };
            let result = self.left.take(&mut bytes, &mut place);
            self.behind.extend_from_slice(bytes);
            Poll::Ready(result.map(|()| true))
        })
    }
}

/// The client has left in the middle of its body: it has sent no message.
fn ended() -> Stop {
    Stop::new(Problem::MalformedBody, "the body ends too early").and_close().uncounted()
}

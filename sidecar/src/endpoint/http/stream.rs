//! The socket as HTTP/1 and HTTP/2 see it: it replays what was read to tell HTTP/1 from HTTP/2, and notes what moves.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::peer::Peer;
use crate::endpoint::wire::Wire;

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection, until it is known what it speaks.
#[derive(Debug, Default)]
pub(super) struct Opening {
    bytes: [u8; PREFACE.len()],
    read: usize,
    replayed: usize,
}

impl Opening {
    /// Reads until the protocol is known. Returns whether it is HTTP/2; none if the client closed.
    pub(super) async fn read(&mut self, stream: &mut Wire, peer: &Peer) -> io::Result<Option<bool>> {
        loop {
            let read = stream.read(self.bytes.get_mut(self.read..).unwrap_or_default()).await?;
            if read == 0 {
                return Ok(None);
            }
            peer.activity().heard();
            self.read += read;
            let bytes = self.bytes.get(..self.read).unwrap_or_default();
            if !PREFACE.starts_with(bytes) {
                return Ok(Some(false));
            }
            if bytes.len() == PREFACE.len() {
                return Ok(Some(true));
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.replayed..self.read).unwrap_or_default()
    }
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct PeerStream {
    stream: Wire,
    opening: Opening,
    peer: Arc<Peer>,
}

impl PeerStream {
    pub(super) fn new(stream: Wire, opening: Opening, peer: Arc<Peer>) -> Self {
        Self { stream, opening, peer }
    }

    pub(super) fn into_inner(self) -> Wire {
        self.stream
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(_)) => self.peer.activity().wrote(true),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.peer.activity().wrote(false),
        }
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.opening.rest();
        if !rest.is_empty() {
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..count).unwrap_or_default());
            self.opening.replayed += count;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = match ready!(self.peer.poll_allowance(context)) {
            None => Pin::new(&mut self.stream).poll_read(context, buffer),
            Some(allowance) => {
                let room = allowance.min(buffer.remaining());
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
                let result = Pin::new(&mut self.stream).poll_read(context, &mut part);
                let read = part.filled().len();
                buffer.advance(read);
                self.peer.read_unproved(read);
                result
            }
        };
        if buffer.filled().len() > before {
            self.peer.activity().heard();
        }
        result
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// When it is done, the kernel has all that was written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.peer.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

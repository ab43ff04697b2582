//! The bytes of a connection, whatever carries them: TCP, TLS over it, WebSocket over either.
//!
//! A [`Wire`] reads and writes without waiting, as [`TcpStream`] does, and says when it is worth trying again. Plain TCP
//! costs no more than the socket itself. What a layer keeps between two calls is taken from the endpoint's budget.

mod certificate;
pub mod credentials;
pub mod door;
mod handshake;
mod peer;
mod proxy;
mod rate;
mod tls;
mod unsent;
mod web_socket;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub use certificate::{ClientCertificate, UnreadableCertificate};
pub use peer::Peer;
use tls::TlsStream;
use web_socket::WebSocket;

/// What one read of [`Wire::try_read_more`] takes at most.
const STEP_BYTES: usize = 16_384;

/// A client's connection.
#[derive(Debug)]
pub enum Wire {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
    /// WebSocket over TCP or TLS.
    WebSocket(Box<WebSocket>),
}

impl Wire {
    /// Reads what is there. `WouldBlock` if that is nothing, or if there is no room for it
    /// ([`is_starved`](Self::is_starved)); 0 when the client has closed its side.
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(into),
            Self::Tls(tls) => tls.try_read(into),
            Self::WebSocket(web_socket) => web_socket.try_read(into),
        }
    }

    /// As [`try_read`](Self::try_read), at most `limit` bytes to the end of `into`.
    pub fn try_read_more(&mut self, into: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        if let Self::Plain(tcp) = self {
            return tcp.try_read_buf(&mut into.limit(limit));
        }
        let before = into.len();
        into.resize(before + limit.min(STEP_BYTES), 0);
        let read = self.try_read(into.get_mut(before..).unwrap_or_default());
        into.truncate(before + read.as_ref().copied().unwrap_or(0));
        read
    }

    /// Takes bytes for writing and returns how many; `WouldBlock` if that is none. The kernel has them when
    /// [`try_flush`](Self::try_flush) says so.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
            Self::WebSocket(web_socket) => web_socket.try_write(bytes),
        }
    }

    /// Gives the kernel what was taken for writing. `WouldBlock` while it does not take all of it.
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
            Self::WebSocket(web_socket) => web_socket.try_flush(),
        }
    }

    /// Whether reading waits for room in the budget, and not for the client.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.is_starved(),
            Self::WebSocket(web_socket) => web_socket.is_starved(),
        }
    }

    /// Waits until reading is worth a try.
    pub fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(context),
            Self::Tls(tls) => tls.poll_read_ready(context),
            Self::WebSocket(web_socket) => web_socket.poll_read_ready(context),
        }
    }

    /// Waits until writing is worth a try.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_write_ready(context),
            Self::Tls(tls) => tls.poll_write_ready(context),
            Self::WebSocket(web_socket) => web_socket.poll_write_ready(context),
        }
    }

    /// Says that nothing more follows, as far as that needs no waiting: `WouldBlock` if it does.
    fn try_close(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_close(),
            Self::WebSocket(web_socket) => web_socket.try_close(),
        }
    }

    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
            Self::WebSocket(web_socket) => web_socket.under().tcp(),
        }
    }

    /// The same connection, watched by the runtime that this is called on.
    fn rehome(self) -> io::Result<Self> {
        let move_over = |tcp: TcpStream| TcpStream::from_std(tcp.into_std()?);
        Ok(match self {
            Self::Plain(tcp) => Self::Plain(move_over(tcp)?),
            Self::Tls(tls) => Self::Tls(Box::new(tls.rehome()?)),
            Self::WebSocket(web_socket) => Self::WebSocket(Box::new(web_socket.rehome()?)),
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if let Self::Plain(tcp) = wire {
            return Pin::new(tcp).poll_read(context, buffer);
        }
        loop {
            match wire.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(wire.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if let Self::Plain(tcp) = wire {
            return Pin::new(tcp).poll_write(context, bytes);
        }
        wire.poll_until_written(context, |wire| wire.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            wire => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                Pin::new(wire).poll_write(context, first.map_or(&[][..], |slice| slice))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(tcp) if tcp.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_until_written(context, Self::try_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        ready!(wire.poll_until_written(context, Self::try_close))?;
        Pin::new(wire.tcp()).poll_shutdown(context)
    }
}

impl Wire {
    fn poll_until_written<T>(
        &mut self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match attempt(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_write_ready(context))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

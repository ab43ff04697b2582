//! The opening of a connection, before its protocol begins: PROXY header, TLS handshake, WebSocket upgrade.
//!
//! It runs on threads of its own, few of them: what a storm of handshakes costs is not taken from connections that are
//! established. When it is through the connection moves to the threads that serve it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::credentials::Credentials;
use super::proxy::ProxyError;
use super::tls::{TlsError, TlsStream};
use super::web_socket::UpgradeError;
use super::{ClientCertificate, UnreadableCertificate};
use crate::budget::EndpointBudget;

/// How long a client may take for all of it.
pub(super) const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long we wait for a client that was refused to read why.
const LINGER: Duration = Duration::from_millis(500);

/// The threads on which connections are opened.
#[derive(Debug)]
pub struct OpeningThreads(Option<Runtime>);

impl OpeningThreads {
    /// Starts them: half as many as there are processors.
    pub fn start() -> io::Result<Arc<Self>> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads((processors / 2).max(1))
            .thread_name("opening")
            .enable_all()
            .build()?;
        Ok(Arc::new(Self(Some(runtime))))
    }

    pub(super) fn spawn(&self, opening: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(opening);
        }
    }
}

impl Drop for OpeningThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It may be dropped on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

/// Why a connection does not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpeningError {
    #[error("the client did not get through with it in {} seconds", OPENING_TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("plain text on a port that speaks TLS: the first byte is {0:#04x}; let the client use TLS")]
    NotTls(u8),
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("TLS: the client's part of the handshake takes more than 16 KiB")]
    TooLarge,
    #[error(transparent)]
    Certificate(#[from] UnreadableCertificate),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error("the session was begun with a certificate that holds no longer")]
    CertificateHoldsNoLonger,
}

impl OpeningError {
    /// As a metric label.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Timeout => Reason::Timeout,
            Self::Lost(_) | Self::Proxy(ProxyError::Io(_)) | Self::Upgrade(UpgradeError::Io(_)) => {
                Reason::Lost
            }
            Self::Proxy(_) => Reason::ProxyHeader,
            Self::Upgrade(_) => Reason::Upgrade,
            Self::NotTls(_) => Reason::NotTls,
            Self::Tls(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
            | Self::Certificate(_)
            | Self::CertificateHoldsNoLonger => Reason::ClientCertificate,
            Self::Tls(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
                Reason::Incompatible
            }
            // Of what a client tells us the usual cause is that it does not trust our certificate.
            Self::Tls(rustls::Error::AlertReceived(_)) => Reason::RefusedByClient,
            Self::Tls(_) | Self::TooLarge => Reason::Malformed,
        }
    }
}

impl From<TlsError> for OpeningError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => Self::Lost(error),
            TlsError::NotTls(first) => Self::NotTls(first),
            TlsError::HandshakeTooLarge => Self::TooLarge,
            TlsError::Protocol(error) => Self::Tls(error),
        }
    }
}

/// How openings fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not through in time.
    Timeout,
    /// The client left.
    Lost,
    /// Plain text on a port that speaks TLS.
    NotTls,
    /// Missing, not signed by the CA, or expired.
    ClientCertificate,
    /// No version, cipher suite or ALPN protocol in common.
    Incompatible,
    /// The client ended the handshake; mostly because it does not trust our certificate.
    RefusedByClient,
    /// Not as TLS wants it.
    Malformed,
    /// A PROXY header is missing, or not as it must be.
    ProxyHeader,
    /// No upgrade to WebSocket.
    Upgrade,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Lost,
        Self::NotTls,
        Self::ClientCertificate,
        Self::Incompatible,
        Self::RefusedByClient,
        Self::Malformed,
        Self::ProxyHeader,
        Self::Upgrade,
    ];

    /// As a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::NotTls => "not_tls",
            Self::ClientCertificate => "client_certificate",
            Self::Incompatible => "incompatible",
            Self::RefusedByClient => "refused_by_client",
            Self::Malformed => "malformed",
            Self::ProxyHeader => "proxy_header",
            Self::Upgrade => "upgrade",
        }
    }
}

/// What came of a handshake.
pub(super) struct Secured {
    pub(super) stream: TlsStream,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    pub(super) resumed: bool,
}

/// Speaks TLS with a client until the handshake is through.
pub(super) async fn secure(
    tcp: TcpStream,
    credentials: &Credentials,
    budget: &Arc<EndpointBudget>,
    plain_text_answer: &[u8],
) -> Result<Secured, OpeningError> {
    let (server, generation) = credentials.server();
    let mut stream = TlsStream::new(tcp, server, Arc::clone(budget))?;
    loop {
        match stream.advance() {
            Ok(true) => break,
            Ok(false) => poll_fn(|context| stream.poll_progress(context)).await?,
            Err(error) => {
                let error = OpeningError::from(error);
                let answer = if matches!(error, OpeningError::NotTls(_)) { plain_text_answer } else { &[] };
                part(stream.tcp(), answer).await;
                return Err(error);
            }
        }
    }
    let resumed = stream.is_resumed();
    let certificate = match stream.peer_certificates() {
        Some(chain) => Some(Arc::new(ClientCertificate::read(chain, generation)?)),
        None => None,
    };
    // A ticket brings the certificate of the session's first handshake, unseen.
    if resumed && !certificate.as_ref().is_none_or(|certificate| credentials.holds(certificate)) {
        return Err(OpeningError::CertificateHoldsNoLonger);
    }
    Ok(Secured { stream, certificate, resumed })
}

/// Lets a client read why it was refused before a reset could overtake it.
pub(super) async fn part(tcp: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) {
    let last = async {
        if tcp.write_all(answer).await.is_ok() && tcp.shutdown().await.is_ok() {
            let mut rest = [0; 512];
            while let Ok(1..) = tcp.read(&mut rest).await {}
        }
    };
    let _ = tokio::time::timeout(LINGER, last).await;
}

//! The socket of a connection of the load, plain or with TLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What a client of the load trusts.
pub(crate) fn trust(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).expect("a CA in PEM");
    roots.add(ca).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version that ring has")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A TLS client before its handshake.
pub(crate) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a configuration of ours")
}

/// A connected socket.
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Connects, with TLS if a configuration is given, and lets `begin` say and hear what comes first; it may wait.
    pub(crate) fn open<T>(
        server: SocketAddr,
        config: Option<&Arc<ClientConfig>>,
        begin: impl FnOnce(&mut dyn ReadWrite) -> T,
    ) -> (Self, T) {
        let mut tcp = std::net::TcpStream::connect(server)
            .unwrap_or_else(|error| panic!("cannot connect to {server}: {error}"));
        tcp.set_nodelay(true).expect("an option of ours");
        let mut tls = config.map(|config| Box::new(client(config)));
        let begun = match &mut tls {
            Some(tls) => begin(&mut rustls::Stream::new(&mut **tls, &mut tcp)),
            None => begin(&mut tcp),
        };
        tcp.set_nonblocking(true).expect("an option of ours");
        (Self { tcp: TcpStream::from_std(tcp), tls }, begun)
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }
}

/// What a talk needs of a socket.
pub(crate) trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).read(buffer),
        }
    }
}

impl Write for Stream {
    /// With TLS all that is taken is written or kept by rustls, up to its bound.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).flush(),
        }
    }
}

//! A TLS client that a test holds in its hand, and OpenSSL's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::load::wire::{self, Connect, Packet, Publish, Version};
use crate::parts;
use crate::pki::Authority;
use crate::raw::ANSWER;
use crate::until::within;

/// What a client trusts and shows, and the sessions that it may resume.
#[derive(Clone, Debug)]
pub struct Identity(Arc<ClientConfig>);

impl Identity {
    /// Trusts an authority, and shows a certificate of it or none.
    #[track_caller]
    pub fn new(authority: &Authority, certificate: Option<&str>) -> Self {
        let own = certificate.map(|name| (authority, name));
        Self::of(authority, own)
    }

    /// Trusts one authority, and may show a certificate of another.
    #[track_caller]
    pub fn of(trusted: &Authority, own: Option<(&Authority, &str)>) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(trusted.read("ca.crt").as_bytes()).expect("a CA");
        roots.add(ca).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that ring has")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((authority, name)) => {
                let certificate = authority.read(&format!("{name}.crt"));
                let key = authority.read(&format!("{name}.key"));
                let chain =
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Self(Arc::new(config))
    }

    /// The same, and what is to be spoken over TLS (ALPN, RFC 7301). Sessions are shared.
    pub(crate) fn speaking(&self, protocol: &[u8]) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![protocol.to_vec()];
        Self(Arc::new(config))
    }

    /// Shakes hands on a connection of a task.
    pub(crate) async fn shake_hands(
        &self,
        connection: tokio::net::TcpStream,
    ) -> io::Result<TlsStream<tokio::net::TcpStream>> {
        TlsConnector::from(Arc::clone(&self.0)).connect(server_name(), connection).await
    }
}

/// Whether an error breaks TLS, and not only the connection: a certificate that is none, a record that nobody can read.
pub(crate) fn breaks_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// A certificate in PEM, as a server shows it.
#[track_caller]
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec()
}

/// What every server of a test is called in its certificate.
fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// An MQTT client over TLS that does one thing after the other.
pub struct SecureClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    input: BytesMut,
    version: Version,
}

impl SecureClient {
    /// Shakes hands, and says why if that fails.
    #[track_caller]
    pub fn open(address: SocketAddr, identity: &Identity) -> Result<Self, String> {
        Self::open_and_send(address, identity, &[])
    }

    /// Shakes hands, and sends bytes in one write with the last of it.
    #[track_caller]
    pub fn open_and_send(address: SocketAddr, identity: &Identity, bytes: &[u8]) -> Result<Self, String> {
        let tcp = TcpStream::connect_timeout(&address, ANSWER).expect("a connection");
        tcp.set_nodelay(true).expect("an option of ours");
        tcp.set_read_timeout(Some(ANSWER)).expect("an option of ours");
        let mut tls = ClientConnection::new(Arc::clone(&identity.0), server_name()).expect("a configuration");
        tls.writer().write_all(bytes).expect("room in a buffer");
        let mut tcp = tcp;
        while tls.is_handshaking() || tls.wants_write() {
            tls.complete_io(&mut tcp).map_err(|error| error.to_string())?;
        }
        Ok(Self { stream: StreamOwned::new(tls, tcp), input: BytesMut::new(), version: Version::V5 })
    }

    /// Shakes hands, sends a clean CONNECT, and takes a good CONNACK.
    #[track_caller]
    pub fn connect(
        address: SocketAddr,
        identity: &Identity,
        version: Version,
        id: &str,
    ) -> Result<Self, String> {
        let mut client = Self::open(address, identity)?;
        client.version = version;
        client.send(&Connect::new(version, id).encode())?;
        match client.packet()? {
            Packet::ConnAck { code: 0, .. } => Ok(client),
            other => Err(format!("{other:?}")),
        }
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).map_err(|error| error.to_string())
    }

    /// The next packet, or how the connection ended.
    pub fn packet(&mut self) -> Result<Packet, String> {
        loop {
            if let Some(packet) = wire::take(&mut self.input, self.version).expect("MQTT from the server") {
                return Ok(packet);
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("closed".to_owned()),
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Waits at most so long for each packet.
    #[track_caller]
    pub fn patience(&mut self, patience: Duration) {
        self.stream.sock.set_read_timeout(Some(patience)).expect("an option of ours");
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub fn publish(&mut self, topic: &str, payload: &[u8], packet_id: u16) -> Result<(), String> {
        self.send(&Publish::new(self.version, topic, payload, packet_id).encode())?;
        match self.packet()? {
            Packet::PubAck { id, .. } if id == packet_id => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// The server's certificate, in DER.
    #[track_caller]
    pub fn server_certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    }

    /// Whether the handshake took up an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// Runs `openssl s_client`, sends it `input`, gives the server a moment to answer, and returns all that it printed.
#[track_caller]
pub fn s_client(address: SocketAddr, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(parts::program("openssl"))
        .args(["s_client", "-connect", &address.to_string(), "-servername", "localhost"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may have ended already, refused.
    let _ = stdin.write_all(input).and_then(|()| stdin.flush());
    within(Duration::from_secs(1), || child.try_wait().expect("its state"));
    drop(stdin);
    let output = child.wait_with_output().expect("openssl ends");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

//! Who is at the other end of a connection, as far as the transport knows.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ClientCertificate;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: what the PROXY header said where one was taken, else that of the socket.
    pub address: SocketAddr,
    /// The certificate that it proved to hold, signed by a CA of the endpoint and valid when it connected.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Peer {
    /// A peer of which only the address is known.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }

    /// Its address as `{source}` shows it: without port, IPv4 as IPv4 also on a socket for both families.
    #[must_use]
    pub fn source(&self) -> String {
        self.address.ip().to_canonical().to_string()
    }
}

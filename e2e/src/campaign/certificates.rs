//! What the edges prove themselves with over TLS, and what clients are shown of it.

use crate::Sidecar;
use crate::pki::Authority;
use crate::secure::{Identity, SecureClient};

/// The endpoint that speaks MQTT over TLS.
pub const MQTTS: &str = "mqtts";
/// The endpoint that speaks HTTP over TLS.
pub const HTTPS: &str = "https";
/// The Secret that they name.
pub const SECRET: &str = "edge-tls";
/// In the authority's folder.
const NAME: &str = "edge";

/// An authority of the campaign's own, and what it issued last.
pub struct Certificates {
    authority: Authority,
    current: Pair,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    certificate: String,
    key: String,
}

impl Certificates {
    /// An authority, and a first certificate.
    pub fn fresh() -> Self {
        let authority = Authority::fresh();
        let current = Pair::issue(&authority);
        Self { authority, current }
    }

    /// Certificate and key of now.
    pub fn current(&self) -> &Pair {
        &self.current
    }

    /// Issues another certificate, with another key; the ones before.
    pub fn renew(&mut self) -> Pair {
        std::mem::replace(&mut self.current, Pair::issue(&self.authority))
    }

    /// Who trusts the authority.
    pub fn identity(&self) -> Identity {
        Identity::new(&self.authority, None)
    }

    /// Whether an edge shows this certificate to who comes now.
    pub fn is_shown(&self, pair: &Pair, edge: &Sidecar) -> bool {
        [MQTTS, HTTPS].into_iter().all(|endpoint| {
            // As somebody new: who takes up an earlier session is shown nothing.
            let client = SecureClient::open(edge.listener(endpoint), &self.identity());
            client.is_ok_and(|client| client.server_certificate() == pair.der())
        })
    }
}

impl Pair {
    fn issue(authority: &Authority) -> Self {
        authority.issue(NAME, "/CN=edge", &["DNS:localhost"]);
        let read = |ending: &str| authority.read(&format!("{NAME}.{ending}"));
        Self { certificate: read("crt"), key: read("key") }
    }

    /// This certificate, and the key of another.
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self { key: other.key.clone(), ..self.clone() }
    }

    /// As the Secret has it.
    pub fn files(&self) -> [(&str, &str); 2] {
        [("tls.crt", &self.certificate), ("tls.key", &self.key)]
    }

    fn der(&self) -> Vec<u8> {
        crate::secure::der(&self.certificate)
    }
}

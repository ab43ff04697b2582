//! A client's certificate: the names in it, and until when it holds.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a client's certificate says of it. Only made of certificates whose key the client has proved to hold.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Common Name of the subject; the last one, if there are several.
    pub common_name: Option<String>,
    /// Subject alternative names: DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names: URI, as SPIFFE uses.
    pub uris: Vec<String>,
    /// Subject alternative names: RFC 822.
    pub emails: Vec<String>,
    /// Subject alternative names: IP address.
    pub addresses: Vec<IpAddr>,
    /// `notAfter`.
    pub not_after: SystemTime,
    /// As the client sent it, its own certificate first.
    chain: Box<[CertificateDer<'static>]>,
    /// Up to which change of the endpoint's CA it was judged by it.
    pub(super) judged: AtomicU64,
}

/// A certificate that cannot be read although rustls took it.
#[derive(Debug, thiserror::Error)]
#[error("the client's certificate cannot be read: {0}; issue it anew")]
pub struct UnreadableCertificate(String);

impl ClientCertificate {
    /// Reads the first certificate of a chain that was verified by the CA of `generation`.
    pub(super) fn read(chain: &[CertificateDer<'_>], generation: u64) -> Result<Self, UnreadableCertificate> {
        let first = chain.first().ok_or_else(|| UnreadableCertificate("it is not there".to_owned()))?;
        let unreadable = |error: &dyn std::fmt::Display| UnreadableCertificate(error.to_string());
        let (_, certificate) = X509Certificate::from_der(first).map_err(|error| unreadable(&error))?;
        let common_name = certificate.subject().iter_common_name().last();
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let mut read = Self {
            common_name: common_name.and_then(|name| name.as_str().ok()).map(str::to_owned),
            dns_names: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            addresses: Vec::new(),
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            judged: AtomicU64::new(generation),
        };
        let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => read.dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => read.uris.push((*uri).to_owned()),
                GeneralName::RFC822Name(email) => read.emails.push((*email).to_owned()),
                GeneralName::IPAddress(bytes) => read.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(read)
    }

    /// As the client sent it, its own certificate first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

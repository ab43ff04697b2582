//! What an endpoint proves itself with, and by whom it knows its clients: certificate, key and CA, from files that are
//! read again when they change.
//!
//! The files are those of mounted Secrets. kubelet swaps one link for a new set of files, so files of one folder are
//! read through the folder that the link points to. What cannot be used is said and counted, and what was there stays.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use penstock_crds::cidr::NoRange;
use penstock_crds::edge::{ClientAuth, ReferencePath, TlsConfig, TlsVersion};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ClientCertificate;
use crate::endpoint::connections::Handle;

/// How often the files are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Why certificate, key or CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file.
    #[error("{field}: cannot read {}: {source}", path.display())]
    Unreadable {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a range of addresses.
    #[error("{field}: a range {error}")]
    TrustedSources {
        /// The field.
        field: String,
        /// What is wrong.
        error: NoRange,
    },
    /// A file does not hold what it should.
    #[error("{field}: {} {what}", path.display())]
    Unusable {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Certificate, key and CA of an endpoint, as they are now.
pub struct Credentials {
    endpoint: String,
    config: TlsConfig,
    references: PathBuf,
    protocols: Vec<Vec<u8>>,
    current: ArcSwap<Current>,
    /// What was read last, and whether it could be used.
    last: Mutex<(Files, bool)>,
    failing: AtomicU64,
}

/// What the files held.
#[derive(Clone, Default, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

struct Current {
    server: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    not_after: u64,
    ca: Option<Vec<u8>>,
    tickets: Arc<dyn ProducesTickets>,
    /// How many there were before.
    generation: u64,
}

impl Credentials {
    /// Reads them for the first time. `protocols` are offered by ALPN.
    pub fn load(
        endpoint: &str,
        config: TlsConfig,
        references: &Path,
        protocols: &[&str],
    ) -> Result<Arc<Self>, CredentialsError> {
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let source = Source { endpoint, config: &config, references, protocols: &protocols };
        let files = source.read()?;
        let current = source.make(&files, None)?;
        Ok(Arc::new(Self {
            endpoint: endpoint.to_owned(),
            references: references.to_owned(),
            current: ArcSwap::from_pointee(current),
            last: Mutex::new((files, true)),
            failing: AtomicU64::new(0),
            config,
            protocols,
        }))
    }

    /// For a new handshake, and of which generation it is.
    pub(super) fn server(&self) -> (Arc<ServerConfig>, u64) {
        let current = self.current.load();
        (Arc::clone(&current.server), current.generation)
    }

    /// Whether a client's certificate would be taken now.
    pub(super) fn holds(&self, certificate: &ClientCertificate) -> bool {
        let current = self.current.load();
        let Some(verifier) = &current.verifier else { return true };
        let Some((first, issuers)) = certificate.chain().split_first() else { return false };
        verifier.verify_client_cert(first, issuers, UnixTime::now()).is_ok()
    }

    /// Of clients that are connected, those whose certificate holds no longer.
    pub(super) fn fallen(&self, known: Vec<(Arc<Handle>, Arc<ClientCertificate>)>) -> Vec<Arc<Handle>> {
        let now = SystemTime::now();
        let generation = self.current.load().generation;
        let has_fallen = |certificate: &ClientCertificate| {
            certificate.not_after < now
                || (certificate.judged.swap(generation, Ordering::Relaxed) != generation
                    && !self.holds(certificate))
        };
        known
            .into_iter()
            .filter(|(_, certificate)| has_fallen(certificate))
            .map(|(handle, _)| handle)
            .collect()
    }

    /// When the endpoint's certificate expires, in Unix seconds.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.current.load().not_after
    }

    /// How many looks at the files in a row have found something new that cannot be used, or nothing: 0 while what is in
    /// use is what the files hold.
    #[must_use]
    pub fn failing(&self) -> u64 {
        self.failing.load(Ordering::Relaxed)
    }

    /// Reads the files again, and takes over what has changed.
    pub(super) fn look(&self) {
        let Self { endpoint, config, references, protocols, .. } = self;
        let source = Source { endpoint, config, references, protocols };
        let files = match source.read() {
            Ok(files) => files,
            Err(error) => return self.keep(&error, None),
        };
        {
            let last = self.last.lock();
            if last.0 == files {
                if last.1 {
                    self.failing.store(0, Ordering::Relaxed);
                }
                return;
            }
        }
        match source.make(&files, Some(&self.current.load())) {
            Ok(current) => {
                self.current.store(Arc::new(current));
                *self.last.lock() = (files, true);
                self.failing.store(0, Ordering::Relaxed);
                tracing::info!(
                    endpoint,
                    "the endpoint's certificate, key or CA has changed; new handshakes use it"
                );
            }
            Err(error) => self.keep(&error, Some(files)),
        }
    }

    /// What is there stays.
    fn keep(&self, error: &CredentialsError, files: Option<Files>) {
        // Said once for each change of the files.
        let first = self.failing.fetch_add(1, Ordering::Relaxed) == 0;
        let news = files.is_some();
        if let Some(files) = files {
            *self.last.lock() = (files, false);
        }
        if first || news {
            let endpoint = &self.endpoint;
            tracing::error!(endpoint, %error, "the new certificate, key or CA is not taken; the one before stays in use");
        }
    }
}

/// Where credentials come from.
struct Source<'s> {
    endpoint: &'s str,
    config: &'s TlsConfig,
    references: &'s Path,
    protocols: &'s [Vec<u8>],
}

impl Source<'_> {
    fn field(&self, field: &str) -> String {
        format!("spec.endpoints['{}'].tls.{field}", self.endpoint)
    }

    fn unusable(&self, field: &str, path: &ReferencePath, what: impl Into<String>) -> CredentialsError {
        let path = self.references.join(&path.0);
        CredentialsError::Unusable { field: self.field(field), path, what: what.into() }
    }

    fn read(&self) -> Result<Files, CredentialsError> {
        let read = |field, path: &Path| {
            std::fs::read(path).map_err(|source| CredentialsError::Unreadable {
                field: self.field(field),
                path: path.to_owned(),
                source,
            })
        };
        let certificate = self.references.join(&self.config.certificate.0);
        let key = self.references.join(&self.config.key.0);
        // Both from the same set of files: the link may be swapped between two reads.
        let folder = certificate.parent().and_then(|folder| folder.join("..data").canonicalize().ok());
        let of_one_set = |file: PathBuf| match (&folder, file.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => file,
        };
        let ca = self.config.client_ca.as_ref().map(|ca| self.references.join(&ca.0));
        Ok(Files {
            certificate: read("certificateSecret", &of_one_set(certificate))?,
            key: read("certificateSecret", &of_one_set(key))?,
            ca: ca.map(|ca| read("clientCaSecret", &ca)).transpose()?,
        })
    }

    fn make(&self, files: &Files, before: Option<&Current>) -> Result<Current, CredentialsError> {
        let TlsConfig { certificate, key, client_auth, client_ca, minimum_version } = self.config;
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&files.certificate)
            .map_err(|what| self.unusable("certificateSecret", certificate, what))?;
        let private_key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| {
            self.unusable("certificateSecret", key, "holds no private key in PEM (PKCS #8, PKCS #1 or SEC 1)")
        })?;
        let not_after = chain
            .first()
            .and_then(|first| X509Certificate::from_der(first).ok())
            .map_or(0, |(_, first)| u64::try_from(first.validity().not_after.timestamp()).unwrap_or(0));
        let verifier = match (client_ca, &files.ca) {
            (Some(path), Some(pem)) if *client_auth != ClientAuth::None => Some(
                verifier(pem, *client_auth, &provider)
                    .map_err(|what| self.unusable("clientCaSecret", path, what))?,
            ),
            _ => None,
        };
        // Tickets of a CA that has changed would let in whom it has let in before.
        let tickets = match before.filter(|before| before.ca == files.ca) {
            Some(before) => Arc::clone(&before.tickets),
            None => rustls::crypto::ring::Ticketer::new()
                .map_err(|error| self.unusable("certificateSecret", certificate, error.to_string()))?,
        };
        let versions: &[_] = match minimum_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let unfit = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                self.unusable("certificateSecret", key, "is not the key of the certificate")
            }
            error => self.unusable("certificateSecret", certificate, error.to_string()),
        };
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(unfit)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, private_key).map_err(unfit)?;
        server.alpn_protocols = self.protocols.to_vec();
        // What a session needs is with the client, sealed: resumption takes no memory here.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = Arc::clone(&tickets);
        // A device has one connection; each gives it the ticket for the next.
        server.send_tls13_tickets = 1;
        Ok(Current {
            server: Arc::new(server),
            verifier,
            not_after,
            ca: files.ca.clone(),
            tickets,
            generation: before.map_or(0, |before| before.generation + 1),
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("holds no certificate in PEM".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("is no PEM: {error}")),
    }
}

fn verifier(
    pem: &[u8],
    client_auth: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| format!("has a certificate that signs nothing: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map(|verifier| verifier as Arc<dyn ClientCertVerifier>).map_err(|error| error.to_string())
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Credentials").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

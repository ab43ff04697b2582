//! The client of the API server.

use kube::client::ClientBuilder;
use kube::{Client, Config};

/// A client for the API server of `config`.
///
/// # Errors
/// When its certificates or credentials cannot be read.
pub fn connect(config: Config) -> kube::Result<Client> {
    // Other crates of the workspace bring a second provider, and rustls would not choose between them. An error means
    // that this process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(ClientBuilder::try_from(config)?.build())
}

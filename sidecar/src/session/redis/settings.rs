//! How to reach Redis: addresses from the configuration; user, password and certificates from its references, read anew
//! for every connection, so that a new password is used from the next one on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_crds::edge::{RedisConfig, RedisServersConfig, RedisUser, ReferencePath};
use redis::aio::AsyncPushSender;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    TlsCertificates,
};

use super::address::Address;
use super::error::LinkError;

/// How long a connection may take, from the first packet to the answer to AUTH.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long without an answer a server is taken for away.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How to reach Redis.
#[derive(Debug)]
pub(super) struct Settings {
    config: RedisConfig,
    references: PathBuf,
}

impl Settings {
    pub(super) fn new(config: RedisConfig, references: &Path) -> Self {
        Self { config, references: references.to_owned() }
    }

    pub(super) fn servers(&self) -> &RedisServersConfig {
        &self.config.servers
    }

    /// Reads every reference once, so that one that is missing is told at the start.
    pub(super) fn check(&self) -> Result<(), LinkError> {
        self.config.references().try_for_each(|(field, path)| self.read(field, path).map(drop))
    }

    /// A client of a server that keeps sessions.
    pub(super) fn server(&self, address: &Address) -> Result<Client, LinkError> {
        let database = match &self.config.servers {
            RedisServersConfig::Standalone { database, .. } => i64::from(*database),
            _ => 0,
        };
        // RESP3 tells what is published on the connection that carries commands.
        let login = RedisConnectionInfo::default().set_db(database).set_protocol(ProtocolVersion::RESP3);
        self.client(address, &self.config.user, "spec.sessions.redis.passwordSecret", login)
    }

    /// A client of a Sentinel.
    pub(super) fn sentinel(&self, address: &Address, user: &RedisUser) -> Result<Client, LinkError> {
        let login = RedisConnectionInfo::default();
        self.client(address, user, "spec.sessions.redis.sentinel.passwordSecret", login)
    }

    fn client(
        &self,
        address: &Address,
        user: &RedisUser,
        field: &'static str,
        login: RedisConnectionInfo,
    ) -> Result<Client, LinkError> {
        let mut login = login.set_skip_set_lib_name();
        if let Some(name) = &user.name {
            login = login.set_username(name);
        }
        if let Some(password) = &user.password {
            let password = self.read(field, password)?;
            // Editors and `echo` end a file with a line break.
            login = login.set_password(password.trim_end_matches(['\r', '\n']));
        }
        let Address { host, port } = address.clone();
        let target = match &self.config.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let tcp = TcpSettings::default().set_nodelay(true);
        let misconfigured = |_| LinkError::Certificates;
        let info = target.into_connection_info().map_err(misconfigured)?;
        let info = info.set_tcp_settings(tcp).set_redis_settings(login);
        let Some(tls) = &self.config.tls else { return Client::open(info).map_err(misconfigured) };
        // Fails where it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = tls.ca.as_ref().map(|ca| self.read("spec.sessions.redis.tls.ca", ca)).transpose()?;
        let certificates = TlsCertificates { client_tls: None, root_cert: ca.map(String::into_bytes) };
        Client::build_with_tls(info, certificates).map_err(misconfigured)
    }

    fn read(&self, field: &'static str, reference: &ReferencePath) -> Result<String, LinkError> {
        let path = self.references.join(&reference.0);
        std::fs::read_to_string(&path).map_err(|source| LinkError::Reference {
            field,
            path: path.display().to_string(),
            kind: source.kind(),
        })
    }
}

/// Timeouts of a connection, and who is told what the server publishes.
pub(super) fn options(pushes: Option<impl AsyncPushSender>) -> AsyncConnectionConfig {
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    match pushes {
        Some(pushes) => options.set_push_sender(pushes),
        None => options,
    }
}

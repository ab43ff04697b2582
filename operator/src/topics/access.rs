//! How to reach a pipeline's Kafka: its `spec.kafka` with the values of the Secrets that it names.

use std::fmt;

use http::Uri;
use http::uri::Scheme;
use k8s_openapi::api::core::v1::Secret;
use penstock_crds::connection;
use penstock_crds::edge::{KafkaAuthentication, KafkaConfig, ReferencePath};
use penstock_crds::pipeline::Kafka;
use penstock_crds::resolve;

use super::error::KafkaError;

/// A key of a Secret that is needed to reach Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field that names it.
    pub field: &'static str,
    /// Name of the Secret, in the namespace of the pipeline.
    pub secret: String,
    /// Key in the Secret.
    pub key: String,
}

/// Everything that a client needs. Equal keys mean that one client may serve both.
#[derive(Clone)]
pub struct Access {
    key: Key,
    settings: Vec<connection::Setting>,
    user: String,
    /// The field of the credentials.
    credentials: &'static str,
}

/// What tells clients apart: who asks, where, as whom, and with which version of which Secret. A secret's value is not
/// part of it; a Secret of the same uid and resource version has the same content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    namespace: String,
    servers: Vec<String>,
    tls: bool,
    authentication: Option<KafkaAuthentication>,
    secrets: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    field: &'static str,
    name: String,
    key: String,
    uid: String,
    resource_version: String,
}

impl Access {
    /// Which Secrets [`Access::new`] needs.
    #[must_use]
    pub fn references(kafka: &Kafka) -> Vec<Reference> {
        let mut references = Vec::new();
        let read = |field, path: &ReferencePath| {
            references.extend(Reference::of(kafka, field, path));
            Ok::<_, std::convert::Infallible>(String::new())
        };
        match connection::settings(&resolve::admin(kafka), read) {
            Ok(_) => references,
            Err(never) => match never {},
        }
    }

    /// The access that `spec.kafka` of a pipeline in `namespace` means. `secrets` are those of that namespace; others
    /// than [`Access::references`] names are not looked at.
    ///
    /// # Errors
    /// When a Secret or a key is missing, or does not hold what is needed.
    pub fn new(namespace: &str, kafka: &Kafka, secrets: &[Secret]) -> Result<Self, KafkaError> {
        let config = resolve::admin(kafka);
        let mut versions = Vec::new();
        let settings = connection::settings(&config, |field, path| {
            let reference = Reference::of(kafka, field, path)
                .ok_or_else(|| wrong(field, format!("{} names no Secret", path.0)))?;
            let (version, value) = reference.read(secrets)?;
            versions.push(version);
            Ok::<_, KafkaError>(value)
        })?;
        let field = credentials(kafka);
        let user = match &config.authentication {
            Some(authentication) => format!("user {} ({field})", authentication.username),
            None => "clients without authentication".to_owned(),
        };
        Ok(Self { key: Key::new(namespace, &config, versions), settings, user, credentials: field })
    }

    /// What tells it from other ways to reach Kafka.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Settings of librdkafka, secrets among them.
    pub(super) fn settings(&self) -> &[connection::Setting] {
        &self.settings
    }

    /// Who asks, for messages.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The field of the credentials, for messages.
    pub(super) fn credentials(&self) -> &'static str {
        self.credentials
    }

    /// Where the token that authenticates comes from, as `host:port`.
    pub(super) fn token_server(&self) -> Option<String> {
        // Read as the client reads it that connects there. What it cannot read it does not ask.
        let url: Uri = self.key.authentication.as_ref()?.token.as_ref()?.url.parse().ok()?;
        let default = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        Some(format!("{}:{}", url.host()?, url.port_u16().unwrap_or(default)))
    }

    /// Where Kafka is.
    pub(super) fn servers(&self) -> &[String] {
        &self.key.servers
    }
}

const AUTHENTICATION: &str = "spec.kafka.authentication";
const ADMIN_AUTHENTICATION: &str = "spec.kafka.adminAuthentication";

/// The field that the operator's credentials come from.
fn credentials(kafka: &Kafka) -> &'static str {
    if kafka.admin_authentication.is_some() { ADMIN_AUTHENTICATION } else { AUTHENTICATION }
}

impl Reference {
    fn of(kafka: &Kafka, field: &'static str, path: &ReferencePath) -> Option<Self> {
        let (secret, key) = path.0.strip_prefix("secrets/")?.split_once('/')?;
        // The resolved configuration has one authentication, whichever field it comes from.
        let field = if field == AUTHENTICATION { credentials(kafka) } else { field };
        Some(Self { field, secret: secret.to_owned(), key: key.to_owned() })
    }

    fn read(&self, secrets: &[Secret]) -> Result<(Version, String), KafkaError> {
        let Self { field, secret: name, key } = self;
        let secret = secrets
            .iter()
            .find(|secret| secret.metadata.name.as_ref() == Some(name))
            .ok_or_else(|| wrong(field, format!("Secret {name} is not there: create it")))?;
        let value = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .ok_or_else(|| wrong(field, format!("Secret {name} has no key {key}: add it")))?;
        let value = String::from_utf8(value.0.clone())
            .ok()
            .filter(|value| !value.contains('\0'))
            .ok_or_else(|| wrong(field, format!("key {key} of Secret {name} is not text: correct it")))?;
        if value.trim().is_empty() {
            return Err(wrong(field, format!("key {key} of Secret {name} is empty: fill it")));
        }
        let version = Version {
            field,
            name: name.clone(),
            key: key.clone(),
            uid: secret.metadata.uid.clone().unwrap_or_default(),
            resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
        };
        Ok((version, value))
    }
}

fn wrong(field: &'static str, message: String) -> KafkaError {
    KafkaError::Reference { field, message }
}

impl Key {
    fn new(namespace: &str, config: &KafkaConfig, secrets: Vec<Version>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            servers: config.bootstrap_servers.clone(),
            tls: config.tls.is_some(),
            authentication: config.authentication.clone(),
            secrets,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;
    use crate::reason::Reason;

    fn kafka(spec: serde_json::Value) -> Kafka {
        serde_json::from_value(spec).unwrap()
    }

    fn secret(name: &str, key: &str, value: &[u8], version: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.uid = Some(format!("uid-of-{name}"));
        secret.metadata.resource_version = Some(version.to_owned());
        secret.data = Some([(key.to_owned(), ByteString(value.to_vec()))].into());
        secret
    }

    fn with_admin() -> Kafka {
        let credentials = |user: &str, secret: &str| json!({"plain": {"username": user, "passwordSecret": {"name": secret}}});
        kafka(json!({
            "bootstrapServers": ["kafka:9092"],
            "tls": {"ca": {"name": "ca"}},
            "authentication": credentials("producer", "producer"),
            "adminAuthentication": credentials("topics", "topics"),
        }))
    }

    const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\n";

    #[test]
    fn the_admin_client_has_its_own_credentials_and_needs_no_others() {
        let kafka = with_admin();
        let named: Vec<_> =
            Access::references(&kafka).into_iter().map(|r| (r.field, r.secret, r.key)).collect();
        assert_eq!(
            named,
            [
                ("spec.kafka.tls.ca", "ca".to_owned(), "ca.crt".to_owned()),
                ("spec.kafka.adminAuthentication", "topics".to_owned(), "password".to_owned()),
            ]
        );
        let secrets = [secret("ca", "ca.crt", PEM, "1"), secret("topics", "password", b"pa55\n", "1")];
        let access = Access::new("iot", &kafka, &secrets).unwrap();
        assert!(access.settings().contains(&("sasl.username", "topics".to_owned())));
        assert!(access.settings().contains(&("sasl.password", "pa55".to_owned())));
        assert_eq!(access.credentials(), "spec.kafka.adminAuthentication");
        assert!(!format!("{access:?}").contains("pa55"), "a secret in {access:?}");
    }

    #[test]
    fn the_server_of_tokens_has_the_port_of_its_url_or_of_its_scheme() {
        for (url, server) in [
            ("https://sso/realms/iot/token", "sso:443"),
            ("http://sso", "sso:80"),
            ("https://sso.example.com:8443/token", "sso.example.com:8443"),
            ("https://[::1]/token", "[::1]:443"),
            ("https://[::1]:8443/token", "[::1]:8443"),
        ] {
            let client = json!({"tokenEndpoint": url, "clientId": "edge", "clientSecret": {"name": "edge"}});
            let kafka =
                kafka(json!({"bootstrapServers": ["k:1"], "authentication": {"oauthBearer": client}}));
            let access = Access::new("iot", &kafka, &[secret("edge", "clientSecret", b"pa55", "1")]).unwrap();
            assert_eq!(access.token_server().as_deref(), Some(server));
            assert_eq!(access.user(), "user edge (spec.kafka.authentication)");
        }
        assert_eq!(
            Access::new("iot", &with_plain(), &[secret("p", "password", b"x", "1")]).unwrap().token_server(),
            None
        );
    }

    fn with_plain() -> Kafka {
        let plain = json!({"plain": {"username": "u", "passwordSecret": {"name": "p"}}});
        kafka(json!({"bootstrapServers": ["k:1"], "authentication": plain}))
    }

    #[test]
    fn a_missing_or_unusable_secret_is_named_with_its_field() {
        let kafka = with_admin();
        let ca = || secret("ca", "ca.crt", PEM, "1");
        for (secrets, told) in [
            (vec![], "Secret ca is not there"),
            (vec![secret("ca", "tls.crt", PEM, "1")], "no key ca.crt"),
            (vec![secret("ca", "ca.crt", b"\n", "1")], "is empty"),
            (vec![ca()], "spec.kafka.adminAuthentication: Secret topics is not there"),
            (vec![ca(), secret("topics", "password", b"\xff", "1")], "not text"),
            (vec![ca(), secret("topics", "password", b"a\0b", "1")], "not text"),
        ] {
            let error = Access::new("iot", &kafka, &secrets).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(error.reason(), Reason::ReferenceNotFound);
            assert!(error.is_retryable());
        }
    }

    #[test]
    fn whatever_could_change_the_answer_is_another_client() {
        let kafka = with_admin();
        let access = |namespace: &str, kafka: &Kafka, version: &str| {
            let secrets = [secret("ca", "ca.crt", PEM, "1"), secret("topics", "password", b"pa55", version)];
            Access::new(namespace, kafka, &secrets).unwrap()
        };
        let one = access("iot", &kafka, "1");
        assert_eq!(one.key(), access("iot", &kafka, "1").key());
        let mut other_user = kafka.clone();
        other_user.admin_authentication = serde_json::from_value(
            json!({"plain": {"username": "admin", "passwordSecret": {"name": "topics"}}}),
        )
        .unwrap();
        let mut other_server = kafka.clone();
        other_server.bootstrap_servers = vec!["kafka:9093".to_owned()];
        let mut no_tls = kafka.clone();
        no_tls.tls = None;
        for other in [
            access("other", &kafka, "1"),
            access("iot", &kafka, "2"),
            access("iot", &other_user, "1"),
            access("iot", &other_server, "1"),
            access("iot", &no_tls, "1"),
        ] {
            assert_ne!(one.key(), other.key());
        }
    }
}

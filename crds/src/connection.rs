//! How a client of a pipeline's Kafka cluster connects, as settings of librdkafka. Sidecar and operator both go by this.

use serde::{Deserialize, Serialize};

use crate::edge::{KafkaAuthentication, KafkaConfig, ReferencePath, SaslMechanism};

/// A setting of librdkafka: name and value.
pub type Setting = (&'static str, String);

/// How a client of an authorization server asks for a token: JSON in the setting `sasl.oauthbearer.config`, whose content
/// librdkafka leaves to the client and hands back when it needs a token. It holds a secret.
#[derive(Serialize, Deserialize)]
pub struct TokenRequest {
    /// The token endpoint.
    pub url: String,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: String,
    /// Scope to ask for.
    pub scope: Option<String>,
    /// PEM bundle that signs the server's certificate; none means the system's.
    pub ca: Option<String>,
}

/// Addresses, TLS and SASL of a client. `secret` reads a reference, and is told the field that names it.
///
/// Nothing else that a pipeline says reaches librdkafka by this way: no setting can be given by its name.
///
/// # Errors
/// What `secret` answers.
pub fn settings<E>(
    kafka: &KafkaConfig,
    mut secret: impl FnMut(&'static str, &ReferencePath) -> Result<String, E>,
) -> Result<Vec<Setting>, E> {
    let protocol = match (&kafka.tls, &kafka.authentication) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    let mut settings = vec![
        ("client.id", "penstock".to_owned()),
        ("bootstrap.servers", kafka.bootstrap_servers.join(",")),
        ("socket.keepalive.enable", "true".to_owned()),
        ("reconnect.backoff.ms", "50".to_owned()),
        ("reconnect.backoff.max.ms", "1000".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
        ("security.protocol", protocol.to_owned()),
    ];
    if let Some(ca) = kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        settings.push(("ssl.ca.pem", secret("spec.kafka.tls.ca", ca)?));
    }
    if let Some(shown) = kafka.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
        settings.extend([
            ("ssl.certificate.pem", secret("spec.kafka.tls.certificateSecret", &shown.chain)?),
            ("ssl.key.pem", secret("spec.kafka.tls.certificateSecret", &shown.key)?),
        ]);
    }
    if let Some(authentication) = &kafka.authentication {
        settings.extend(sasl(authentication, |path| secret("spec.kafka.authentication", path))?);
    }
    Ok(settings)
}

fn sasl<E>(
    authentication: &KafkaAuthentication,
    mut secret: impl FnMut(&ReferencePath) -> Result<String, E>,
) -> Result<Vec<Setting>, E> {
    let KafkaAuthentication { mechanism, username, password, token } = authentication;
    let mechanism = match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        SaslMechanism::OauthBearer => "OAUTHBEARER",
    };
    // Editors and `echo` end a file with a line break.
    let password = secret(password)?.trim_end_matches(['\r', '\n']).to_owned();
    let mut settings = vec![("sasl.mechanism", mechanism.to_owned())];
    match token {
        None => settings.extend([("sasl.username", username.clone()), ("sasl.password", password)]),
        Some(token) => {
            let request = TokenRequest {
                url: token.url.clone(),
                client_id: username.clone(),
                client_secret: password,
                scope: token.scope.clone(),
                ca: token.ca.as_ref().map(secret).transpose()?,
            };
            // Five strings: nothing that could fail.
            settings.push(("sasl.oauthbearer.config", serde_json::to_string(&request).unwrap_or_default()));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{Compression, KafkaCertificate, KafkaTls, TokenEndpoint};

    fn kafka() -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: vec!["a:9092".to_owned(), "b:9092".to_owned()],
            tls: None,
            authentication: None,
            linger_milliseconds: 5,
            compression: Compression::Lz4,
        }
    }

    fn value(settings: &[Setting], name: &str) -> Option<String> {
        settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_plain_client_reads_no_secret() {
        let settings = settings(&kafka(), |field, _| Err(field)).unwrap();
        assert_eq!(value(&settings, "bootstrap.servers").as_deref(), Some("a:9092,b:9092"));
        assert_eq!(value(&settings, "security.protocol").as_deref(), Some("plaintext"));
        assert_eq!(value(&settings, "sasl.mechanism"), None);
    }

    #[test]
    fn tls_and_sasl_take_what_the_references_hold() {
        let mut kafka = kafka();
        let path = |path: &str| ReferencePath(path.to_owned());
        kafka.tls = Some(KafkaTls {
            ca: Some(path("secrets/ca/ca.crt")),
            certificate: Some(KafkaCertificate {
                chain: path("secrets/own/tls.crt"),
                key: path("secrets/own/tls.key"),
            }),
        });
        kafka.authentication = Some(KafkaAuthentication {
            mechanism: SaslMechanism::ScramSha512,
            username: "u".to_owned(),
            password: ReferencePath("secrets/user/password".to_owned()),
            token: None,
        });
        let read = |_: &'static str, path: &ReferencePath| Ok::<_, ()>(format!("[{}]\r\n", path.0));
        let found = settings(&kafka, read).unwrap();
        assert_eq!(value(&found, "security.protocol").as_deref(), Some("sasl_ssl"));
        assert_eq!(value(&found, "ssl.ca.pem").as_deref(), Some("[secrets/ca/ca.crt]\r\n"));
        assert_eq!(value(&found, "ssl.certificate.pem").as_deref(), Some("[secrets/own/tls.crt]\r\n"));
        assert_eq!(value(&found, "ssl.key.pem").as_deref(), Some("[secrets/own/tls.key]\r\n"));
        assert_eq!(value(&found, "sasl.password").as_deref(), Some("[secrets/user/password]"));
        let failed = settings(&kafka, |field, _| Err(field));
        assert_eq!(failed, Err("spec.kafka.tls.ca"));
    }

    #[test]
    fn oauthbearer_is_a_request_for_a_token_and_no_password() {
        let mut kafka = kafka();
        kafka.authentication = Some(KafkaAuthentication {
            mechanism: SaslMechanism::OauthBearer,
            username: "edge".to_owned(),
            password: ReferencePath("secrets/edge/clientSecret".to_owned()),
            token: Some(TokenEndpoint {
                url: "https://sso/token".to_owned(),
                scope: None,
                ca: Some(ReferencePath("secrets/sso/ca.crt".to_owned())),
            }),
        });
        let read = |_: &'static str, path: &ReferencePath| Ok::<_, ()>(format!("[{}]\n", path.0));
        let found = settings(&kafka, read).unwrap();
        assert_eq!(value(&found, "security.protocol").as_deref(), Some("sasl_plaintext"));
        assert_eq!(value(&found, "sasl.mechanism").as_deref(), Some("OAUTHBEARER"));
        assert_eq!((value(&found, "sasl.username"), value(&found, "sasl.password")), (None, None));
        let request = value(&found, "sasl.oauthbearer.config").unwrap();
        let request: TokenRequest = serde_json::from_str(&request).unwrap();
        assert_eq!((&*request.url, &*request.client_id), ("https://sso/token", "edge"));
        assert_eq!(request.client_secret, "[secrets/edge/clientSecret]");
        assert_eq!((request.scope, request.ca.as_deref()), (None, Some("[secrets/sso/ca.crt]\n")));
    }
}

//! How a client of a pipeline's Kafka cluster connects, as settings of librdkafka. Sidecar and operator both go by this.

use crate::edge::{KafkaConfig, ReferencePath, SaslMechanism};

/// A setting of librdkafka: name and value.
pub type Setting = (&'static str, String);

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
        let mechanism = match authentication.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        let password = secret("spec.kafka.authentication", &authentication.password)?;
        settings.extend([
            ("sasl.mechanism", mechanism.to_owned()),
            ("sasl.username", authentication.username.clone()),
            // Editors and `echo` end a file with a line break.
            ("sasl.password", password.trim_end_matches(['\r', '\n']).to_owned()),
        ]);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{Compression, KafkaAuthentication, KafkaCertificate, KafkaTls};

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
}

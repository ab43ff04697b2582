//! `--allowed-bootstrap-servers`: where the operator may connect to. It has rights and a place in the network that whoever
//! writes a pipeline may lack.

use std::str::FromStr;

use super::error::KafkaError;

/// A server, `host:port`, or all servers of a domain, `*.domain:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPattern {
    /// In lower case; of a domain with its leading dot.
    host: String,
    domain: bool,
    port: u16,
}

/// A pattern that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither host:port nor *.domain:port")]
pub struct InvalidPattern(String);

impl FromStr for ServerPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.to_owned());
        let (host, port) = split(text).ok_or_else(invalid)?;
        let domain = host.starts_with("*.");
        let host = host.strip_prefix('*').unwrap_or(&host).to_owned();
        if host.contains('*') || host.is_empty() || host == "." || (!domain && host.starts_with('.')) {
            return Err(invalid());
        }
        Ok(Self { host, domain, port })
    }
}

impl ServerPattern {
    fn matches(&self, host: &str, port: u16) -> bool {
        let fits = if self.domain {
            host.len() > self.host.len() && host.ends_with(&self.host)
        } else {
            host == self.host
        };
        fits && port == self.port
    }
}

/// Where the operator may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedServers(Vec<ServerPattern>);

impl AllowedServers {
    /// Those that a pattern matches; without patterns, anywhere.
    #[must_use]
    pub fn new(patterns: Vec<ServerPattern>) -> Self {
        Self(patterns)
    }

    /// Refuses the first server that is not allowed. `field` names them.
    ///
    /// # Errors
    /// [`KafkaError::ServerNotAllowed`].
    pub fn check(&self, field: &'static str, servers: &[String]) -> Result<(), KafkaError> {
        let allowed = |server: &&String| {
            split(server)
                .is_some_and(|(host, port)| self.0.iter().any(|pattern| pattern.matches(&host, port)))
        };
        match servers.iter().find(|server| !self.0.is_empty() && !allowed(server)) {
            Some(server) => Err(KafkaError::ServerNotAllowed { field, server: server.clone() }),
            None => Ok(()),
        }
    }
}

/// Host in lower case, and port.
fn split(server: &str) -> Option<(String, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    Some((host.to_ascii_lowercase(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(patterns: &[&str], server: &str) -> bool {
        let patterns = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        AllowedServers::new(patterns).check("spec.kafka.bootstrapServers", &[server.to_owned()]).is_ok()
    }

    #[test]
    fn only_named_servers_and_domains_are_allowed() {
        let patterns = ["kafka:9092", "*.kafka.svc:9093", "[::1]:9092"];
        for server in ["kafka:9092", "KAFKA:9092", "a.kafka.svc:9093", "a.b.kafka.svc:9093", "[::1]:9092"] {
            assert!(allowed(&patterns, server), "{server}");
        }
        for server in [
            "kafka:9093",
            "xkafka:9092",
            "kafka.svc:9093",
            ".kafka.svc:9093",
            "kafka.svc.evil:9093",
            "a.kafka.svc:9092",
            "kafka",
            "",
        ] {
            assert!(!allowed(&patterns, server), "{server}");
        }
        assert!(allowed(&[], "anything:1"));
    }

    #[test]
    fn one_server_that_is_not_allowed_refuses_all() {
        let allowed = AllowedServers::new(vec!["a:1".parse().unwrap()]);
        let error =
            allowed.check("spec.kafka.bootstrapServers", &["a:1".to_owned(), "b:1".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("b:1"), "{error}");
        assert_eq!(error.reason(), crate::reason::Reason::BootstrapServersNotAllowed);
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for text in
            ["", "kafka", "kafka:", "kafka:x", "*:9092", "*.:9092", "a.*.b:9092", ":9092", ".a:1", "a:70000"]
        {
            assert!(text.parse::<ServerPattern>().is_err(), "{text}");
        }
    }
}

//! `spec.sessions`, and the URL in it.

use crate::edge::{RedisConfig, RedisServersConfig, RedisTlsConfig, RedisUser, SessionsConfig};
use crate::pipeline::{PasswordSecret, Redis, RedisServers, Sessions};

/// The port of Redis where a URL names none.
const PORT: u16 = 6_379;

pub(super) fn resolve(sessions: Option<&Sessions>) -> SessionsConfig {
    match sessions {
        None | Some(Sessions::Memory(_)) => SessionsConfig::Memory,
        Some(Sessions::Redis(redis)) => SessionsConfig::Redis(self::redis(redis)),
    }
}

fn redis(redis: &Redis) -> RedisConfig {
    let (servers, encrypted) = match &redis.servers {
        RedisServers::Url(url) => {
            let Url { encrypted, address, database } = Url::parse(url);
            (RedisServersConfig::Standalone { address, database }, encrypted)
        }
        RedisServers::Sentinel(sentinel) => {
            let servers = RedisServersConfig::Sentinel {
                addresses: sentinel.addresses.clone(),
                primary_name: sentinel.primary_name.clone(),
                user: user(sentinel.username.as_ref(), sentinel.password_secret.as_ref()),
            };
            (servers, false)
        }
        RedisServers::Cluster(cluster) => {
            (RedisServersConfig::Cluster { addresses: cluster.addresses.clone() }, false)
        }
    };
    let ca = redis.tls.as_ref().and_then(|tls| tls.ca.as_ref()).map(|ca| ca.path());
    RedisConfig {
        servers,
        user: user(redis.username.as_ref(), redis.password_secret.as_ref()),
        tls: (encrypted || redis.tls.is_some()).then_some(RedisTlsConfig { ca }),
    }
}

fn user(name: Option<&String>, password: Option<&PasswordSecret>) -> RedisUser {
    RedisUser { name: name.cloned(), password: password.map(PasswordSecret::path) }
}

/// `host:port` of a URL that the schema admits.
pub(crate) fn redis_address(url: &str) -> String {
    Url::parse(url).address
}

/// What a URL says that [`crate::pipeline::bounds::REDIS_URL`] admits.
struct Url {
    encrypted: bool,
    address: String,
    database: u16,
}

impl Url {
    fn parse(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
        // A colon in brackets belongs to an IPv6 address.
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        Self {
            encrypted: scheme == "rediss",
            address: if has_port { server.to_owned() } else { format!("{server}:{PORT}") },
            database: database.parse().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn a_url_names_server_database_and_tls() {
        for (url, encrypted, address, database) in [
            ("redis://sessions", false, "sessions:6379", 0),
            ("rediss://sessions:7000", true, "sessions:7000", 0),
            ("redis://[fd00::1]/3", false, "[fd00::1]:6379", 3),
            ("rediss://[fd00::1]:7000/15", true, "[fd00::1]:7000", 15),
        ] {
            let found = Url::parse(url);
            let expected = (encrypted, address, database);
            assert_eq!((found.encrypted, found.address.as_str(), found.database), expected, "{url}");
        }
    }
}

//! The URL of a Redis server.

/// The port where a URL names none.
const PORT: u16 = 6_379;

/// What a URL says that [`crate::pipeline::bounds::REDIS_URL`] admits.
pub(crate) struct RedisUrl {
    pub(crate) encrypted: bool,
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) database: u16,
}

impl RedisUrl {
    pub(crate) fn parse(url: &str) -> Self {
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
    use super::RedisUrl;

    #[test]
    fn a_url_names_server_database_and_tls() {
        for (url, encrypted, address, database) in [
            ("redis://sessions", false, "sessions:6379", 0),
            ("rediss://sessions:7000", true, "sessions:7000", 0),
            ("redis://[fd00::1]/3", false, "[fd00::1]:6379", 3),
            ("rediss://[fd00::1]:7000/15", true, "[fd00::1]:7000", 15),
        ] {
            let found = RedisUrl::parse(url);
            let expected = (encrypted, address, database);
            assert_eq!((found.encrypted, found.address.as_str(), found.database), expected, "{url}");
        }
    }
}

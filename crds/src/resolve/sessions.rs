//! `spec.sessions`.

use crate::edge::{RedisConfig, RedisServersConfig, RedisTlsConfig, RedisUser, SessionsConfig};
use crate::pipeline::{PasswordSecret, Redis, RedisServers, Sessions};
use crate::redis_url::RedisUrl;

pub(super) fn resolve(sessions: Option<&Sessions>) -> SessionsConfig {
    match sessions {
        None | Some(Sessions::Memory(_)) => SessionsConfig::Memory,
        Some(Sessions::Redis(redis)) => SessionsConfig::Redis(self::redis(redis)),
    }
}

fn redis(redis: &Redis) -> RedisConfig {
    let (servers, encrypted) = match &redis.servers {
        RedisServers::Url(url) => {
            let RedisUrl { encrypted, address, database } = RedisUrl::parse(url);
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

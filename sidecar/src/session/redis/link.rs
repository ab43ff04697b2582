//! A connection to the server that keeps a shard: found, opened, and known by its epoch. It is never replaced in silence:
//! when it is lost, it is lost to every command that was sent on it.

use penstock_crds::edge::{RedisServersConfig, RedisUser};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{Client, FromRedisValue, InfoDict, Pipeline, Value, cmd, pipe};
use sha2::{Digest, Sha256};

use super::address::Address;
use super::error::LinkError;
use super::settings::{Settings, options};

/// An open connection to a primary.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) address: Address,
    /// Stands for everything that this server has been told: one that has restarted, or a replica in the place of its
    /// primary, has another, and may have forgotten the end of it.
    pub(super) epoch: u64,
}

impl Link {
    /// Finds the primary that keeps `key`, and connects. What it publishes on `channel` goes to `pushes`.
    pub(super) async fn open(
        settings: &Settings,
        key: &str,
        channel: &str,
        pushes: impl AsyncPushSender,
    ) -> Result<Self, LinkError> {
        let address = find(settings, key).await?;
        let client = settings.server(&address)?;
        let failed = |error: &redis::RedisError| LinkError::new(&address, error);
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&options(Some(pushes)))
            .await
            .map_err(|error| failed(&error))?;
        // Before anything is sent that the epoch is meant for.
        let (server, replication): (InfoDict, InfoDict) = pipe()
            .cmd("INFO")
            .arg("server")
            .cmd("INFO")
            .arg("replication")
            .query_async(&mut connection)
            .await
            .map_err(|error| failed(&error))?;
        if replication.get::<String>("role").as_deref() != Some("master") {
            return Err(LinkError::Replica { address: address.to_string() });
        }
        let part = |info: &InfoDict, name: &str| info.get::<String>(name).unwrap_or_default();
        let epoch = epoch(&part(&server, "run_id"), &part(&replication, "master_replid"));
        connection.subscribe(channel).await.map_err(|error| failed(&error))?;
        Ok(Self { connection, address, epoch })
    }

    /// Whether the server is still the one to ask.
    pub(super) async fn is_current(&mut self, settings: &Settings, key: &str) -> bool {
        if cmd("PING").exec_async(&mut self.connection).await.is_err() {
            return false;
        }
        match settings.servers() {
            // Sentinels may be away while the primary is not.
            RedisServersConfig::Sentinel { .. } => {
                find(settings, key).await.map_or(true, |primary| primary == self.address)
            }
            _ => true,
        }
    }

    /// Sends commands in one piece, and waits for the answers, one each.
    pub(super) async fn send(
        mut connection: MultiplexedConnection,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, redis::RedisError> {
        let count = pipeline.len();
        connection.send_packed_commands(pipeline, 0, count).await
    }
}

fn epoch(run_id: &str, replication_id: &str) -> u64 {
    let digest = Sha256::digest(format!("{run_id} {replication_id}"));
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The server that takes writes of `key`.
async fn find(settings: &Settings, key: &str) -> Result<Address, LinkError> {
    match settings.servers() {
        RedisServersConfig::Standalone { address, .. } => parse(address),
        RedisServersConfig::Sentinel { addresses, primary_name, user } => {
            let mut last = String::new();
            for address in addresses {
                match ask_sentinel(settings, &parse(address)?, user, primary_name).await {
                    Ok(primary) => return Ok(primary),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(LinkError::NoPrimary { last })
        }
        RedisServersConfig::Cluster { addresses } => {
            let mut last = String::new();
            for address in addresses {
                match ask_cluster(settings, &parse(address)?, key).await {
                    Ok(owner) => return Ok(owner),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(LinkError::NoOwner { last })
        }
    }
}

fn parse(address: &str) -> Result<Address, LinkError> {
    // The pipeline was validated.
    Address::parse(address)
        .ok_or_else(|| LinkError::Connect { address: address.to_owned(), wrong: "not an address" })
}

async fn connect(client: &Client, address: &Address) -> Result<MultiplexedConnection, LinkError> {
    let none: Option<fn(redis::PushInfo) -> Result<(), ()>> = None;
    client
        .get_multiplexed_async_connection_with_config(&options(none))
        .await
        .map_err(|error| LinkError::new(address, &error))
}

async fn ask_sentinel(
    settings: &Settings,
    address: &Address,
    user: &RedisUser,
    name: &str,
) -> Result<Address, LinkError> {
    let mut connection = connect(&settings.sentinel(address, user)?, address).await?;
    let found: Option<(String, u16)> = cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name)
        .query_async(&mut connection)
        .await
        .map_err(|error| LinkError::new(address, &error))?;
    let wrong = "it watches no primary of that name";
    let (host, port) = found.ok_or_else(|| LinkError::Connect { address: address.to_string(), wrong })?;
    Ok(Address { host, port })
}

async fn ask_cluster(settings: &Settings, address: &Address, key: &str) -> Result<Address, LinkError> {
    let mut connection = connect(&settings.server(address)?, address).await?;
    // The server counts slots, so that we need not.
    let (slot, ranges): (u16, Vec<Value>) = pipe()
        .cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg(key)
        .cmd("CLUSTER")
        .arg("SLOTS")
        .query_async(&mut connection)
        .await
        .map_err(|error| LinkError::new(address, &error))?;
    let owner = ranges.into_iter().find_map(|range| owner(range, slot, address));
    let wrong = "it knows nobody who serves the slot";
    owner.ok_or_else(|| LinkError::Connect { address: address.to_string(), wrong })
}

/// The primary of a range of slots (from, to, primary, replicas…), if `slot` is in it.
fn owner(range: Value, slot: u16, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let mut number = || u16::from_redis_value(parts.next()?).ok();
    let (from, to) = (number()?, number()?);
    if !(from..=to).contains(&slot) {
        return None;
    }
    let Value::Array(primary) = parts.next()? else { return None };
    let mut primary = primary.into_iter();
    // A server that does not know its own name means the one under which it was asked.
    let host = Option::<String>::from_redis_value(primary.next()?).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.host.clone());
    Some(Address { host, port: u16::from_redis_value(primary.next()?).ok()? })
}

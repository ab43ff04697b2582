//! MQTT sessions: what outlives a connection, and who owns it.

mod error;
pub mod handshake;
pub mod memory;
mod pod;
pub mod record;
pub mod redis;
pub mod store;
mod will;

#[cfg(test)]
mod model;

use ring::rand::{SecureRandom, SystemRandom};

/// A random number that nobody had before, and nobody can guess. None if the system gives none.
#[must_use]
pub fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

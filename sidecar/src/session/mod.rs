//! MQTT sessions: what outlives a connection, and who owns it.

mod error;
pub mod handshake;
pub mod memory;
pub mod record;
pub mod redis;
pub mod store;
mod will;

#[cfg(test)]
mod model;

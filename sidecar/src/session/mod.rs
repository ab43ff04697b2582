//! MQTT sessions: what outlives a connection, and who owns it.

pub mod handshake;
pub mod record;
pub mod redis;

#[cfg(test)]
mod model;

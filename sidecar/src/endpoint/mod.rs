//! Endpoints: listeners, connections, and the protocols they speak.

pub mod connections;
pub mod listener;

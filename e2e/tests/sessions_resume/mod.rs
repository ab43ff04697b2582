//! Sessions that outlive their connection, their pod, or both: what a client finds when it comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod expiry;
mod identity;
mod memory;
mod pod_lost;
mod same_pod;
mod taken_over;
mod to_and_fro;

use penstock_e2e::Redis;
use penstock_e2e::load::wire::Version;

const BOTH: [Version; 2] = [Version::V311, Version::V5];

/// The packet identifiers of the handshakes that Redis keeps for a client; none where it keeps no session.
#[track_caller]
fn handshakes(redis: &Redis, client_id: &str) -> Option<Vec<u16>> {
    let fields = redis.server(0).cli(&["HKEYS", &session_key(client_id)]);
    let fields: Vec<_> = fields.lines().filter(|field| !field.is_empty()).collect();
    (!fields.is_empty()).then(|| fields.iter().filter_map(|field| field.parse().ok()).collect())
}

fn session_key(client_id: &str) -> String {
    format!("penstock:{{e2e/telemetry/0}}:s:{client_id}")
}

//! Looking after a gate: its file is read again, and connections end whose credentials are gone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Gate;
use crate::endpoint::connections::Connections;

/// How often the file is looked at. From a change of the file to the last order it takes this long, and 50 ms for
/// each thousand of connections that end: within a minute for a million.
const LOOK: Duration = Duration::from_secs(5);

/// Looks after a gate until it is gone.
pub async fn watch(gate: Weak<Gate>, connections: Arc<Connections>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Some(gate) = gate.upgrade() else { return };
        let reading = Arc::clone(&gate);
        let changed = tokio::task::spawn_blocking(move || reading.reload()).await.unwrap_or(false);
        if changed {
            connections.revoke(|identity| gate.holds(identity)).await;
        }
    }
}

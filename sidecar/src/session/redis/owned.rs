//! The sessions of a shard that this pod has, for as long as their clients are connected.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::session::record::Fence;

/// A session is renewed at least so often, however long it is kept…
const LONGEST_TURN: Duration = Duration::from_secs(300);
/// … and not more often than this.
const SHORTEST_TURN: Duration = Duration::from_secs(10);

/// How often a session is renewed that is kept for `expiry`.
fn turn(expiry: Duration) -> Duration {
    (expiry / 3).clamp(SHORTEST_TURN, LONGEST_TURN)
}

/// How long a session lives of which nothing is heard: no less than its expiry, should the pod die at any moment, and a
/// turn that is late does no harm.
pub(super) fn life(expiry: Duration) -> Duration {
    expiry + 2 * turn(expiry)
}

/// The sessions.
#[derive(Default)]
pub(super) struct Owned(Mutex<HashMap<Box<str>, Session>>);

struct Session {
    fence: Fence,
    expiry: Duration,
    due: Instant,
}

/// A session that is to be renewed.
pub(super) struct Renewal {
    pub(super) client_id: Box<str>,
    pub(super) fence: Fence,
    pub(super) life: Duration,
}

impl Owned {
    pub(super) fn add(&self, client_id: &str, fence: Fence, expiry: Duration) {
        let session = Session { fence, expiry, due: Instant::now() + turn(expiry) };
        self.0.lock().insert(client_id.into(), session);
    }

    /// Removes a session, unless a later owner here has it.
    pub(super) fn remove(&self, client_id: &str, fence: Fence) {
        let mut sessions = self.0.lock();
        if sessions.get(client_id).is_some_and(|session| session.fence == fence) {
            sessions.remove(client_id);
        }
    }

    /// Those that are due for renewal, or all; they are not due again before their next turn.
    pub(super) fn due(&self, now: Instant, all: bool) -> Vec<Renewal> {
        let mut sessions = self.0.lock();
        let due = sessions.iter_mut().filter(|(_, session)| all || session.due <= now);
        due.map(|(client_id, session)| {
            session.due = now + turn(session.expiry);
            Renewal { client_id: client_id.clone(), fence: session.fence, life: life(session.expiry) }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: Fence = Fence { count: 1, token: 7 };

    #[test]
    fn a_session_outlives_its_pod_by_its_expiry_and_not_by_much_more() {
        for seconds in [0, 1, 60, 3_600, 86_400] {
            let expiry = Duration::from_secs(seconds);
            assert!(life(expiry) >= expiry + turn(expiry));
            assert!(life(expiry) <= expiry + 2 * LONGEST_TURN);
        }
    }

    #[test]
    fn what_is_due_is_renewed_once_a_turn() {
        let owned = Owned::default();
        let start = Instant::now();
        owned.add("a", FENCE, Duration::from_secs(60));
        assert_eq!(owned.due(start, false).len(), 0);
        assert_eq!(owned.due(start, true).len(), 1);
        let later = start + Duration::from_secs(21);
        assert_eq!(owned.due(later, false).len(), 1);
        assert_eq!(owned.due(later, false).len(), 0);
        owned.remove("a", Fence { count: 0, token: 7 });
        assert_eq!(owned.due(start, true).len(), 1);
        owned.remove("a", FENCE);
        assert_eq!(owned.due(start, true).len(), 0);
    }
}

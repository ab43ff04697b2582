//! Wills, as a store keeps them: a message that is published when its client is gone and does not come back.

use std::time::Duration;

/// A Will that is kept with its session.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptWill {
    /// Its id, and that of the record: whoever publishes it, however often.
    pub id: Box<str>,
    /// Will Delay Interval (MQTT 5 §3.1.3.2.2).
    pub delay: Duration,
    /// How long it waits at least if the pod is gone, not the client.
    pub grace: Duration,
    /// The message, in whatever form; the store does not read it.
    pub message: Box<[u8]>,
}

impl std::fmt::Debug for KeptWill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the message.
        f.debug_struct("KeptWill").field("id", &self.id).field("delay", &self.delay).finish_non_exhaustive()
    }
}

/// A Will that is due.
#[derive(Clone, PartialEq, Eq)]
pub struct Due {
    /// By what its store knows it.
    pub(super) name: Box<[u8]>,
    /// Its id.
    pub id: Box<str>,
    /// The message, as [`KeptWill::message`] had it.
    pub message: Box<[u8]>,
}

impl std::fmt::Debug for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Due").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What becomes of the Will when a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It is discarded: the client said DISCONNECT (`[MQTT-3.1.2-10]`), or there is none.
    Discard,
    /// It is published after a while, unless the client comes back.
    Due {
        /// After how long.
        wait: Duration,
        /// The client is away because its pod is: it has not ended its session by coming back with Clean Start.
        for_grace: bool,
    },
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// DISCONNECT with reason 0x00.
    Said,
    /// In any other way, also by DISCONNECT with Will (0x04).
    Lost,
    /// The pod told it to go, because the pod itself goes.
    Drained,
}

impl Farewell {
    /// What becomes of a Will with `delay` and `grace`; `expiry` is for how long the session is kept from now on.
    #[must_use]
    pub fn after(departure: Departure, delay: Duration, grace: Duration, expiry: Duration) -> Self {
        match departure {
            Departure::Said => Self::Discard,
            // The session's end is the latest time for its Will ([MQTT-3.1.3-9] and §3.1.3.2.2).
            Departure::Lost => Self::Due { wait: delay.min(expiry), for_grace: false },
            // The client has done nothing: it has the time to come back, also where its session has not.
            Departure::Drained => Self::Due { wait: delay.min(expiry).max(grace), for_grace: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_will_waits_for_its_delay_its_session_and_a_pods_grace() {
        let after = |departure, delay, grace, expiry| {
            let seconds = Duration::from_secs;
            match Farewell::after(departure, seconds(delay), seconds(grace), seconds(expiry)) {
                Farewell::Discard => None,
                Farewell::Due { wait, for_grace } => Some((wait.as_secs(), for_grace)),
            }
        };
        assert_eq!(after(Departure::Said, 5, 30, 60), None);
        assert_eq!(after(Departure::Lost, 5, 30, 60), Some((5, false)));
        assert_eq!(after(Departure::Lost, 90, 30, 60), Some((60, false)));
        assert_eq!(after(Departure::Lost, 90, 30, 0), Some((0, false)));
        assert_eq!(after(Departure::Drained, 5, 30, 60), Some((30, true)));
        assert_eq!(after(Departure::Drained, 50, 30, 60), Some((50, true)));
        assert_eq!(after(Departure::Drained, 0, 30, 0), Some((30, true)));
    }
}

//! Failed attempts by the address that they come from.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::generations::Generations;

/// How many failures an address may have at once, and how long it takes until one of them is forgotten.
const BURST: u32 = 20;
const EACH: Duration = Duration::from_secs(2);
/// Addresses that are remembered, at most twice as many.
const ADDRESSES: usize = 16_384;

/// Who has failed lately (a leaky bucket each, kept as the time at which it is empty: GCRA).
#[derive(Debug)]
pub(super) struct Attempts(Mutex<Generations<u64, Instant>>);

impl Attempts {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Generations::new(ADDRESSES, EACH * BURST * 2, now)))
    }

    /// Whether an address may fail once more; else how long until it may.
    pub(super) fn may_fail(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(empty) = self.0.lock().get(&network(source), now) else { return Ok(()) };
        let full = EACH * (BURST - 1);
        match empty.saturating_duration_since(now).checked_sub(full) {
            Some(over) if !over.is_zero() => Err(over),
            _ => Ok(()),
        }
    }

    /// Notes a failure. Returns whether it was the one that is too many.
    pub(super) fn failed(&self, source: IpAddr, now: Instant) -> bool {
        let network = network(source);
        let mut table = self.0.lock();
        let before = table.get(&network, now).unwrap_or(now).max(now);
        // Failures on quick ways are noted too, and must not shut the door for ever.
        let empty = (before + EACH).min(now + EACH * BURST);
        table.insert(network, empty, now);
        let limit = now + EACH * (BURST - 1);
        before <= limit && empty > limit
    }
}

/// An IPv4 address, or the /64 of an IPv6 address: the smallest that one site has.
fn network(source: IpAddr) -> u64 {
    match source.to_canonical() {
        // Below 2^32: in the unassigned ::/8 of IPv6.
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let now = Instant::now();
        let attempts = Attempts::new(now);
        let source: IpAddr = "2001:db8::1".parse().unwrap();
        let mut told = 0;
        for _ in 0..BURST {
            assert_eq!(attempts.may_fail(source, now), Ok(()));
            told += u32::from(attempts.failed(source, now));
        }
        assert_eq!(told, 1, "said once");
        for same in ["2001:db8::1", "2001:db8::ffff:1"] {
            let wait = attempts.may_fail(same.parse().unwrap(), now).unwrap_err();
            assert!(wait <= EACH, "{wait:?}");
        }
        for other in ["2001:db8:0:1::1", "192.0.2.1"] {
            assert_eq!(attempts.may_fail(other.parse().unwrap(), now), Ok(()));
        }
        for _ in 0..1_000 {
            attempts.failed(source, now);
        }
        assert!(attempts.may_fail(source, now + EACH).is_ok(), "it never waits longer than for one");
        assert!(attempts.may_fail(source, now + EACH / 2).is_err());
    }
}

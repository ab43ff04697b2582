//! Proofs that have been found right, by a keyed hash of what was shown. The key is random and of this process; a
//! password or token is never kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;

use super::generations::Generations;
use super::identity::Identity;

/// How long a proof is remembered after its last use, at least; at most twice as long.
const LIFE: Duration = Duration::from_secs(150);
/// Proofs that are remembered, at most twice as many: those of the largest endpoint, half of them.
const PROOFS: usize = 65_536;

/// The keyed hash of a proof.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 16]);

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mark")
    }
}

impl Mark {
    /// A number that is the same for the same proof.
    pub(super) fn number(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What has been found right.
pub(super) struct Remembered {
    mac: Hmac<Sha256>,
    proofs: Mutex<Generations<Mark, Arc<Identity>>>,
}

impl Remembered {
    /// None when the system gives no random numbers.
    pub(super) fn new(now: Instant) -> Option<Self> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).ok()?;
        // HMAC takes a key of any length.
        let mac = Hmac::new_from_slice(&key).ok()?;
        Some(Self { mac, proofs: Mutex::new(Generations::new(PROOFS, LIFE, now)) })
    }

    /// The mark of a name and a secret.
    pub(super) fn mark(&self, name: &[u8], secret: &[u8]) -> Mark {
        let mut mac = self.mac.clone();
        // The length first: or `ab`, `c` would be `a`, `bc`.
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name);
        mac.update(secret);
        let hash = mac.finalize().into_bytes();
        let mut mark = [0; 16];
        mark.iter_mut().zip(hash).for_each(|(place, byte)| *place = byte);
        Mark(mark)
    }

    pub(super) fn get(&self, mark: Mark, now: Instant) -> Option<Arc<Identity>> {
        self.proofs.lock().get(&mark, now)
    }

    pub(super) fn insert(&self, mark: Mark, identity: Arc<Identity>, now: Instant) {
        self.proofs.lock().insert(mark, identity, now);
    }

    pub(super) fn forget(&self, mark: Mark) {
        self.proofs.lock().remove(&mark);
    }

    pub(super) fn len(&self) -> usize {
        self.proofs.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_name_and_secret_and_of_this_process() {
        let (one, two) = (Remembered::new(Instant::now()).unwrap(), Remembered::new(Instant::now()).unwrap());
        let number = |remembered: &Remembered, name, secret| remembered.mark(name, secret).number();
        assert_eq!(number(&one, b"ab", b"c"), number(&one, b"ab", b"c"));
        assert_ne!(number(&one, b"ab", b"c"), number(&one, b"a", b"bc"));
        assert_ne!(number(&one, b"ab", b"c"), number(&two, b"ab", b"c"));
    }
}

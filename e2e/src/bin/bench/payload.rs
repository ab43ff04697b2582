//! The same messages for everyone: 100 bytes of telemetry, different from one to the next, so that compression finds
//! in them what it would find in the field.

use std::fmt::Write as _;

/// Size of every payload.
pub(crate) const BYTES: usize = 100;
/// More than any batch holds, and little enough for the second-level cache.
const POOL: usize = 4096;

/// Payloads in turn.
pub(crate) struct Payloads {
    pool: Vec<[u8; BYTES]>,
    next: usize,
}

impl Payloads {
    pub(crate) fn new() -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let pool = (0..POOL)
            .map(|number| {
                let mut text = format!(
                    "{{\"ts\":{},\"temperature\":{}.{:03},\"humidity\":{}.{},\"pressure\":{}.{},\"id\":\"",
                    1_764_000_000_000_u64 + 1000 * number as u64,
                    random.below(40),
                    random.below(1000),
                    random.below(100),
                    random.below(10),
                    950 + random.below(100),
                    random.below(10),
                );
                while text.len() < BYTES - 2 {
                    let _ = write!(text, "{:x}", random.below(16));
                }
                text.push_str("\"}");
                text.into_bytes().try_into().expect("100 bytes")
            })
            .collect();
        Self { pool, next: 0 }
    }

    pub(crate) fn next(&mut self) -> &[u8; BYTES] {
        self.next = (self.next + 1) % POOL;
        &self.pool[self.next]
    }
}

/// The device of connection or key `number`: the second level of its topic, and half of its key.
pub(crate) fn device(number: usize) -> String {
    format!("device-{number:05}")
}

/// The topic name and path of a device.
pub(crate) fn topic(number: usize) -> String {
    format!("v1/bench/{}/telemetry", device(number))
}

/// The record key that the pipeline's template makes of [`topic`].
pub(crate) fn key(number: usize) -> String {
    format!("bench/{}", device(number))
}

/// xorshift64 (Marsaglia 2003): the same payloads in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_of_the_stated_size_and_differ() {
        let mut payloads = Payloads::new();
        let all: std::collections::HashSet<_> = (0..POOL).map(|_| *payloads.next()).collect();
        assert_eq!(all.len(), POOL);
        for payload in all {
            serde_json::from_slice::<serde_json::Value>(&payload).unwrap();
        }
    }
}

//! The same messages for everyone: telemetry, of 100 bytes unless asked for more or fewer, different from one to the next, so that compression finds
//! in them what it would find in the field.

use std::fmt::Write as _;

/// The usual size of a payload.
pub(crate) const BYTES: usize = 100;
/// More than any batch holds, and little enough for the second-level cache.
const POOL: usize = 4096;
/// Of large payloads there are fewer.
const POOL_BYTES: usize = 8 << 20;

/// Payloads in turn.
pub(crate) struct Payloads {
    pool: Vec<Vec<u8>>,
    next: usize,
}

impl Payloads {
    /// Payloads of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let pool = (0..POOL.min(POOL_BYTES / bytes))
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
                if bytes < text.len() {
                    text = "{\"id\":\"".to_owned();
                }
                while text.len() < bytes - 2 {
                    let _ = write!(text, "{:x}", random.below(16));
                }
                text.push_str("\"}");
                text.into_bytes()
            })
            .collect();
        Self { pool, next: 0 }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.next = (self.next + 1) % self.pool.len();
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
        for bytes in [16, BYTES, 64 << 10] {
            let mut payloads = Payloads::new(bytes);
            let count = payloads.pool.len();
            let all: std::collections::HashSet<_> = (0..count).map(|_| payloads.next().to_vec()).collect();
            assert_eq!(all.len(), count);
            for payload in all {
                assert_eq!(payload.len(), bytes);
                serde_json::from_slice::<serde_json::Value>(&payload).unwrap();
            }
        }
    }
}

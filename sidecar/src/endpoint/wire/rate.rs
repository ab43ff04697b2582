//! How many connections are accepted in a second.

use std::time::Instant;

/// A bucket that fills at a rate and holds what a second brings.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, tokens: per_second, filled: now }
    }

    /// Whether one more is within the rate.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.per_second);
        let within = self.tokens >= 1.0;
        if within {
            self.tokens -= 1.0;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_brings_as_many_as_the_rate_says() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        let taken = |rate: &mut Rate, now| (0..50).filter(|_| rate.take(now)).count();
        assert_eq!(taken(&mut rate, start), 10);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(500)), 5);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(60)), 10, "a quiet minute saves nothing up");
    }
}

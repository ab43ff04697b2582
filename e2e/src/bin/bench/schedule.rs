//! How long the spans of a run are, and how often they are repeated.

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) rounds: usize,
    pub(crate) latency_rounds: usize,
    pub(crate) idle_starts: usize,
    pub(crate) kafka_warmup_millis: u64,
    pub(crate) warmup_millis: u64,
    pub(crate) measure_millis: u64,
}

impl Schedule {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        latency_rounds: 3,
        idle_starts: 3,
        kafka_warmup_millis: 15_000,
        warmup_millis: 1_000,
        measure_millis: 3_000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 2,
        latency_rounds: 1,
        idle_starts: 1,
        kafka_warmup_millis: 5_000,
        warmup_millis: 500,
        measure_millis: 1_000,
    };
}

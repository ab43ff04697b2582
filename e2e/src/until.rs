//! Waiting: a condition, asked again and again until a deadline.

use std::time::{Duration, Instant};

/// How long parts may take to start on a machine that is busy with other things.
pub const START: Duration = Duration::from_secs(120);
/// How long an effect may take that is normally there within a second or a few.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks `condition` until it yields a value.
///
/// # Panics
/// When `deadline` has passed, with `what`.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    within(deadline, condition).unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// Asks `condition` until it yields a value; none when `deadline` has passed.
pub fn within<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        pause(Duration::from_millis(20));
    }
}

/// Asks `condition` throughout `period` and returns when it held all the time.
///
/// # Panics
/// As soon as it does not hold, with `what`.
#[track_caller]
pub fn throughout(what: &str, period: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < period {
        assert!(condition(), "{what}: no longer so after {:?}", started.elapsed());
        pause(Duration::from_millis(20));
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that sleeps: between two looks at a condition")]
fn pause(period: Duration) {
    std::thread::sleep(period);
}

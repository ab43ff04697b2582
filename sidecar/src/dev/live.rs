//! The live line of dev mode: what goes through, once a second, on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::ledger::{Columns, Latency, Ledger};

/// The books at a moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When they were read.
    pub at: Instant,
    /// The sum of all endpoints.
    pub columns: Columns,
    /// Acknowledgement latency since the start.
    pub latency: Latency,
}

impl Sample {
    /// Reads the books.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let (columns, latency) = ledger.total();
        Self { at: Instant::now(), columns, latency }
    }
}

/// Writes the line once a second; never returns. Silent for ever when standard output is not a terminal.
pub async fn run(ledger: &Ledger) {
    if !std::io::stdout().is_terminal() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks.tick().await;
    let mut before = Sample::of(ledger);
    loop {
        ticks.tick().await;
        let now = Sample::of(ledger);
        // The cursor goes back to the beginning, so that a log line takes the place of this one.
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\r\x1b[2K{}\r", line(&before, &now)).and_then(|()| out.flush());
        before = now;
    }
}

/// `in 1,204/s · acked 1,204/s · in flight 3 · p99 7.5 ms · 48,113 acked`; other endings only when there are any.
#[must_use]
pub fn line(before: &Sample, now: &Sample) -> String {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let per_second = |column: fn(&Columns) -> u64| {
        let count = column(&now.columns).saturating_sub(column(&before.columns));
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = (count as f64 / seconds).round() as u64;
        grouped(rate)
    };
    let mut text = format!(
        "in {}/s · acked {}/s · in flight {} · p99 {} · {} acked",
        per_second(|columns| columns.received),
        per_second(|columns| columns.acknowledged),
        grouped(now.columns.in_flight),
        p99(&before.latency, &now.latency),
        grouped(now.columns.acknowledged),
    );
    for (name, count) in [
        ("dead-lettered", now.columns.dead_lettered),
        ("refused", now.columns.refused),
        ("abandoned", now.columns.abandoned),
        ("dropped", now.columns.dropped),
    ] {
        if count > 0 {
            text.push_str(&format!(" · {} {name}", grouped(count)));
        }
    }
    text
}

/// Of the acknowledgements between two samples; a bound from above, as the histogram knows it.
fn p99(before: &Latency, now: &Latency) -> String {
    let mut between = now.clone();
    between
        .buckets
        .iter_mut()
        .zip(&before.buckets)
        .for_each(|(now, before)| *now = now.saturating_sub(*before));
    match between.quantile(0.99) {
        None => "–".to_owned(),
        Some(Duration::MAX) => "over 10 s".to_owned(),
        Some(bound) if bound < Duration::from_secs(1) => format!("{} ms", bound.as_secs_f64() * 1_000.0),
        Some(bound) => format!("{} s", bound.as_secs_f64()),
    }
}

/// With a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ending, EndpointLedger, Entry};

    fn acknowledge(ledger: &Ledger, count: u64, latency: Duration) {
        let mut entry = Entry::default();
        for _ in 0..count {
            entry.receive();
            entry.occupy();
            entry.latency(latency);
        }
        entry.leave(count);
        entry.end(Ending::Acknowledged, count);
        ledger.endpoints()[0].account(0).book(&mut entry);
    }

    #[test]
    fn the_line_shows_what_happened_in_between() {
        let ledger = Ledger::new(vec![EndpointLedger::new("mqtt")]);
        acknowledge(&ledger, 1_000, Duration::from_secs(3));
        let before = Sample::of(&ledger);
        acknowledge(&ledger, 3_000, Duration::from_millis(6));
        let now = Sample { at: before.at + Duration::from_secs(2), ..Sample::of(&ledger) };
        assert_eq!(
            line(&before, &now),
            "in 1,500/s · acked 1,500/s · in flight 0 · p99 7.5 ms · 4,000 acked"
        );
    }

    #[test]
    fn quiet_slow_and_bad_times_show() {
        let ledger = Ledger::new(vec![EndpointLedger::new("mqtt")]);
        let start = Sample::of(&ledger);
        let second = |sample: Sample| Sample { at: start.at + Duration::from_secs(1), ..sample };
        let idle = line(&start, &second(Sample::of(&ledger)));
        assert_eq!(idle, "in 0/s · acked 0/s · in flight 0 · p99 – · 0 acked");
        acknowledge(&ledger, 1, Duration::from_secs(30));
        let mut entry = Entry::default();
        entry.receive();
        entry.end(Ending::Refused, 1);
        ledger.endpoints()[0].account(0).book(&mut entry);
        let bad = line(&start, &second(Sample::of(&ledger)));
        assert_eq!(bad, "in 2/s · acked 1/s · in flight 0 · p99 over 10 s · 1 acked · 1 refused");
    }

    #[test]
    fn digits_come_in_threes() {
        let texts: Vec<_> = [0, 999, 1_000, 12_345, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}

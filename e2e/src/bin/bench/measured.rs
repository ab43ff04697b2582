//! What one process finds out in one span of load, and how it measures it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use penstock_e2e::sidecar;
use serde::{Deserialize, Serialize};

use crate::machine::{self, Busy, cpu_seconds};

/// What [`Measured::store`] has.
const STORE: [&str; 2] =
    ["penstock_session_store_commands_total", "penstock_session_store_round_trips_total"];

/// How long to warm up, then to measure; and whose CPU.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Times {
    #[arg(long)]
    pub(crate) warmup_millis: u64,
    #[arg(long)]
    pub(crate) measure_millis: u64,
    /// Processes to read the CPU time of at both ends of the span.
    #[arg(long, value_delimiter = ',')]
    pub(crate) watch: Vec<u32>,
    /// The admin port of a sidecar whose dealings with its session store are read at both ends of the span.
    #[arg(long)]
    pub(crate) admin: Option<SocketAddr>,
}

/// One span.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Acknowledged in the span.
    pub(crate) messages: u64,
    /// Length of the span.
    pub(crate) seconds: f64,
    /// CPU seconds of the watched processes, in the order given.
    pub(crate) watched: Vec<f64>,
    /// CPU seconds of the process that measured.
    pub(crate) own: f64,
    /// 50th and 99th percentile of the time from sending to the answer, in milliseconds; 0 where it was not taken.
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
    /// Answers out of order.
    pub(crate) irregular: u64,
    /// CPU seconds of all other processes on the machine.
    pub(crate) others: f64,
    /// CPU seconds that the hypervisor gave to other machines.
    pub(crate) stolen: f64,
    /// Commands to the session store, and round trips in which they went.
    pub(crate) store: [f64; 2],
}

impl Measured {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// CPU of the watched process of this index, in microseconds a message.
    pub(crate) fn watched_micros(&self, index: usize) -> f64 {
        self.watched[index] * 1e6 / self.messages as f64
    }

    /// CPU of the process that measured, in microseconds a message.
    pub(crate) fn own_micros(&self) -> f64 {
        self.own * 1e6 / self.messages as f64
    }
}

/// Where a run of load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Warming,
    Measuring,
    Over,
}

/// Leads from warm-up through the span to the end.
pub(crate) struct Clock {
    times: Times,
    started: Instant,
    phase: Phase,
    begin: Reading,
    end: Reading,
}

#[derive(Clone)]
struct Reading {
    at: Instant,
    messages: u64,
    watched: Vec<f64>,
    own: f64,
    machine: Busy,
    store: [f64; 2],
}

impl Clock {
    pub(crate) fn start(times: &Times) -> Self {
        let reading = read(times, 0);
        let started = reading.at;
        Self { times: times.clone(), started, phase: Phase::Warming, begin: reading.clone(), end: reading }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Tells the phase at `now`, when `messages` have been acknowledged since the start.
    pub(crate) fn phase(&mut self, now: Instant, messages: u64) -> Phase {
        let warmup = Duration::from_millis(self.times.warmup_millis);
        let measure = Duration::from_millis(self.times.measure_millis);
        if self.phase == Phase::Warming && now - self.started >= warmup {
            self.phase = Phase::Measuring;
            self.begin = read(&self.times, messages);
        } else if self.phase == Phase::Measuring && now - self.begin.at >= measure {
            self.phase = Phase::Over;
            self.end = read(&self.times, messages);
        }
        self.phase
    }

    /// The span, with the latencies of its messages in microseconds.
    pub(crate) fn finish(self, mut latencies: Vec<u32>, irregular: u64) -> Measured {
        let (begin, end) = (self.begin, self.end);
        let watched: Vec<_> =
            end.watched.iter().zip(&begin.watched).map(|(end, begin)| end - begin).collect();
        let own = end.own - begin.own;
        let busy = end.machine.busy - begin.machine.busy;
        Measured {
            messages: end.messages - begin.messages,
            seconds: (end.at - begin.at).as_secs_f64(),
            own,
            p50_millis: percentile(&mut latencies, 0.50),
            p99_millis: percentile(&mut latencies, 0.99),
            irregular,
            // Ticks are counted apart for machine and process, so a small difference may be below zero.
            others: (busy - own - watched.iter().sum::<f64>()).max(0.0),
            stolen: end.machine.stolen - begin.machine.stolen,
            store: [0, 1].map(|index| end.store[index] - begin.store[index]),
            watched,
        }
    }
}

fn read(times: &Times, messages: u64) -> Reading {
    Reading {
        at: Instant::now(),
        messages,
        watched: times.watch.iter().map(|&pid| cpu_seconds(pid)).collect(),
        own: cpu_seconds(std::process::id()),
        machine: machine::busy(),
        store: times.admin.map_or([0.0; 2], |admin| {
            let metrics = sidecar::metrics(admin);
            STORE.map(|name| sidecar::metric(&metrics, name))
        }),
    }
}

/// In milliseconds, of latencies in microseconds; 0 of none.
pub(crate) fn percentile(latencies: &mut [u32], share: f64) -> f64 {
    if latencies.is_empty() {
        return 0.0;
    }
    let rank = (latencies.len() as f64 * share).ceil() as usize;
    let (_, &mut value, _) = latencies.select_nth_unstable(rank.clamp(1, latencies.len()) - 1);
    f64::from(value) / 1e3
}

/// How late a message may be released and still count from its release: the grain of timers.
const GRAIN: Duration = Duration::from_millis(4);

/// Releases messages at an even rate.
pub(crate) struct Pace {
    started: Instant,
    per_second: f64,
    released: u64,
}

impl Pace {
    pub(crate) fn new(started: Instant, per_second: u32) -> Self {
        Self { started, per_second: f64::from(per_second), released: 0 }
    }

    /// How many are due at `now` and have not been released.
    pub(crate) fn due(&self, now: Instant) -> u64 {
        (((now - self.started).as_secs_f64() * self.per_second) as u64).saturating_sub(self.released)
    }

    /// Releases one and returns the instant from which its latency counts: `now`, or when it was due if something has
    /// held it up. A server that stands still is so charged for what could not even be sent.
    pub(crate) fn release(&mut self, now: Instant) -> Instant {
        self.released += 1;
        let due = self.started + Duration::from_secs_f64(self.released as f64 / self.per_second);
        if now.saturating_duration_since(due) > GRAIN { due } else { now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        let mut latencies: Vec<u32> = (1..=1000).rev().collect();
        assert_eq!(percentile(&mut latencies, 0.99), 0.990);
        assert_eq!(percentile(&mut latencies, 0.50), 0.500);
        assert_eq!(percentile(&mut [7], 0.99), 0.007);
        assert_eq!(percentile(&mut [], 0.99), 0.0);
    }

    #[test]
    fn a_pace_releases_what_is_due_and_counts_delays_from_then() {
        let start = Instant::now();
        let millis = |count| start + Duration::from_millis(count);
        let mut pace = Pace::new(start, 1000);
        assert_eq!(pace.due(start), 0);
        assert_eq!(pace.due(millis(3)), 3);
        assert_eq!(pace.release(millis(3)), millis(3));
        assert_eq!(pace.due(millis(3)), 2);
        assert_eq!(pace.release(millis(50)), millis(2));
    }
}

//! How much may be under way to Kafka at a time: what Kafka is seen to confirm within half the ack timeout.
//!
//! Budgets bound memory, not time. With more under way than Kafka confirms within the ack timeout, every message would be
//! given up before its report is there and be sent again, behind more of the same: Kafka works as hard as before, and
//! nobody gets an answer. So the bound follows Kafka, like the window of TCP: it doubles while reports come quickly, and
//! falls to what came back of late when they come late. What finds no room is refused (HTTP) or not read yet (MQTT).
//!
//! Where there is not room for everybody, the last part of it is for those who hold less than their share, and whoever holds
//! nothing may go as much beyond, so that nobody who sends without an end keeps the others out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Before Kafka has been seen: small enough for a slow one, and doubled within milliseconds by a quick one.
const FIRST_BYTES: u64 = 512 << 10;
/// There is room for this at least: some batches, so that a Kafka that recovers can be seen to.
const LEAST_BYTES: u64 = 64 << 10;
/// The part of the bound that is kept for those who hold less than their share; a part as large, beyond the bound, is for
/// those who hold nothing.
const SPARED: u64 = 4;
/// Reports are quick that take less than this part of the target.
const QUICK: u32 = 4;
/// How finely reports are remembered, as parts of the target.
const GRAINS: u32 = 50;

/// The bound, and what is under way.
#[derive(Debug)]
pub(super) struct Window {
    /// How long a message should be under way at most.
    target: Duration,
    most_bytes: u64,
    limit: AtomicU64,
    under_way: AtomicU64,
    persisted: Mutex<Persisted>,
}

/// What was persisted within the last target time, by when.
#[derive(Debug, Default)]
struct Persisted {
    grains: VecDeque<(Instant, u64)>,
    bytes: u64,
}

impl Window {
    /// For messages that are given up after `ack_timeout`; the bound is never more than `most_bytes`.
    pub(super) fn new(ack_timeout: Duration, most_bytes: u64) -> Self {
        Self {
            target: ack_timeout / 2,
            most_bytes,
            limit: AtomicU64::new(FIRST_BYTES.min(most_bytes)),
            under_way: AtomicU64::new(0),
            persisted: Mutex::default(),
        }
    }

    /// The bound, bytes.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// As large as it can be, for tests of what else refuses.
    #[cfg(test)]
    pub(super) fn open(&self) {
        self.limit.store(self.most_bytes, Ordering::Relaxed);
    }

    /// Takes room for a message; the last one may go beyond the bound, for a large one must find room some time. `share`
    /// tells how many bytes its connection has under way, and how many connections have some; it is asked where room is
    /// short.
    pub(super) fn try_take(&self, bytes: u64, share: impl FnOnce() -> (u64, usize)) -> bool {
        let (under_way, limit) = (self.under_way.load(Ordering::Relaxed), self.limit_bytes());
        let spared = limit / SPARED;
        let room = under_way < limit - spared
            || match share() {
                (0, _) => under_way < limit + spared,
                (own, connections) => under_way < limit && own < limit / connections.max(1) as u64,
            };
        if room {
            self.under_way.fetch_add(bytes, Ordering::Relaxed);
        }
        room
    }

    /// Gives back the room of messages whose reports are there, or that were not taken after all.
    pub(super) fn give_back(&self, bytes: u64) {
        self.under_way.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Learns from reports of so many bytes that are stored, of which the oldest message was under way for so long. Before
    /// [`give_back`](Self::give_back).
    pub(super) fn learn(&self, bytes: u64, took: Duration, now: Instant) {
        let lately = self.persisted.lock().add(bytes, now, self.target);
        let limit = self.limit_bytes();
        let new = if took > self.target {
            lately.max(LEAST_BYTES)
        } else if took < self.target / QUICK && self.under_way.load(Ordering::Relaxed) >= limit / 2 {
            limit + bytes
        } else {
            return;
        };
        self.limit.store(new.min(self.most_bytes), Ordering::Relaxed);
    }
}

impl Persisted {
    /// Adds bytes, and returns how many there were within `time`.
    fn add(&mut self, bytes: u64, now: Instant, time: Duration) -> u64 {
        match self.grains.back_mut() {
            Some((since, last)) if now.duration_since(*since) < time / GRAINS => *last += bytes,
            _ => self.grains.push_back((now, bytes)),
        }
        self.bytes += bytes;
        while let Some(&(since, oldest)) = self.grains.front()
            && now.duration_since(since) > time
        {
            self.bytes -= oldest;
            self.grains.pop_front();
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_TIMEOUT: Duration = Duration::from_secs(4);
    const MESSAGE: u64 = 1_000;
    const TICK: Duration = Duration::from_millis(10);

    fn nobody_else() -> (u64, usize) {
        (0, 0)
    }

    /// A Kafka that confirms so many messages in 10 ms, in order, and senders who fill every room at once.
    struct Story {
        window: Window,
        queue: VecDeque<Instant>,
        now: Instant,
        longest: Duration,
    }

    impl Story {
        fn new() -> Self {
            let window = Window::new(ACK_TIMEOUT, 1 << 30);
            Self { window, queue: VecDeque::new(), now: Instant::now(), longest: Duration::ZERO }
        }

        fn run(&mut self, time: Duration, confirms: usize) {
            let end = self.now + time;
            self.longest = Duration::ZERO;
            while self.now < end {
                while self.window.try_take(MESSAGE, nobody_else) {
                    self.queue.push_back(self.now);
                }
                self.now += TICK;
                let reported: Vec<_> = self.queue.drain(..confirms.min(self.queue.len())).collect();
                let Some(oldest) = reported.first() else { continue };
                let took = self.now.duration_since(*oldest);
                self.longest = self.longest.max(took);
                let bytes = reported.len() as u64 * MESSAGE;
                self.window.learn(bytes, took, self.now);
                self.window.give_back(bytes);
            }
        }
    }

    #[test]
    fn a_quick_kafka_is_given_all_within_a_moment() {
        let mut story = Story::new();
        story.run(Duration::from_secs(1), 1_000_000);
        assert!(story.window.limit_bytes() >= 1 << 30, "{}", story.window.limit_bytes());
    }

    #[test]
    fn a_slow_kafka_confirms_everything_in_time_however_much_comes() {
        let mut story = Story::new();
        // 300 messages a second, and room for 500 at first.
        story.run(Duration::from_secs(30), 3);
        assert!(story.longest < ACK_TIMEOUT, "{:?}", story.longest);
        story.run(Duration::from_secs(30), 3);
        assert!(story.longest < ACK_TIMEOUT * 3 / 4, "{:?}", story.longest);
        assert!(story.queue.len() > 300, "and is kept busy: {}", story.queue.len());
    }

    #[test]
    fn a_kafka_that_becomes_slow_is_given_less_and_one_that_recovers_more() {
        let mut story = Story::new();
        story.run(Duration::from_secs(10), 100);
        // What was under way when it became slow comes late, once.
        story.run(Duration::from_secs(20), 10);
        story.run(Duration::from_secs(20), 10);
        assert!(story.longest < ACK_TIMEOUT, "{:?}", story.longest);
        let slow = story.window.limit_bytes();
        story.run(Duration::from_secs(10), 100);
        assert!(story.longest < ACK_TIMEOUT, "{:?}", story.longest);
        assert!(story.window.limit_bytes() > 2 * slow, "{} after {slow}", story.window.limit_bytes());
    }

    #[test]
    fn a_pause_of_kafka_is_forgotten_when_it_is_over() {
        let mut story = Story::new();
        story.run(Duration::from_secs(5), 1_000);
        story.run(Duration::from_secs(3), 0);
        story.run(Duration::from_secs(2), 1_000);
        story.run(Duration::from_secs(1), 1_000);
        assert!(story.longest < ACK_TIMEOUT / 2, "{:?}", story.longest);
        assert!(story.queue.len() > 1_000, "{}", story.queue.len());
    }

    #[test]
    fn a_message_larger_than_the_bound_finds_room_when_nothing_else_is_under_way() {
        let window = Window::new(ACK_TIMEOUT, 1_000);
        assert!(window.try_take(5_000, nobody_else));
        assert!(!window.try_take(1, nobody_else));
        window.give_back(5_000);
        assert!(window.try_take(1, nobody_else));
    }

    #[test]
    fn who_holds_more_than_a_share_leaves_the_last_room_to_others() {
        let window = Window::new(ACK_TIMEOUT, 100 * MESSAGE);
        let take = |own: u64, connections| window.try_take(MESSAGE, || (own * MESSAGE, connections));
        let greedy = (0..).take_while(|own| take(*own, 2)).count();
        assert_eq!(greedy, 75, "of all connections it is the one that may have half");
        let modest = (0..).take_while(|own| take(*own, 10)).count();
        assert_eq!(modest, 10, "a tenth is its share");
        let late = (0..).take_while(|own| take(*own, 10)).count();
        assert_eq!(late, 10, "there is room for another");
        assert_eq!(
            (0..).take_while(|own| take(own + 1, 10)).count(),
            5,
            "and no more than is left of the bound"
        );
        assert_eq!(
            (0..).take_while(|_| take(0, 10)).count(),
            25,
            "whoever holds nothing goes a quarter beyond it"
        );
    }
}

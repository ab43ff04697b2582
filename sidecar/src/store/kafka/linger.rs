//! One linger for all partitions.
//!
//! librdkafka lingers for each partition by itself. When few messages come, the batches of the partitions leave one after
//! another, and for each of them the broker thread, the report thread and the workers wake up. So what comes while little
//! comes gathers here and is handed over all at once; what comes while much comes goes straight to librdkafka, whose
//! batches are full then. One message more than may gather ends the gathering, and a report thread that sees little
//! come begins it again.
//!
//! The order of a lane holds across both ways: whoever finds that nothing gathers any more finds also that all that had
//! gathered is with librdkafka, or that its lane knows that it failed
//! ([`hand_over`](super::KafkaStore::hand_over)).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::store::lane::Ticket;
use crate::store::record::{Headers, Record};

/// No shorter linger is worth it: handing over takes the report thread a millisecond.
const SHORTEST: Duration = Duration::from_millis(2);
/// What comes after a pause waits this long for what comes with it.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// More messages than this do not gather within one linger.
const MOST_MESSAGES: usize = 256;
/// Nor do more bytes.
const MOST_BYTES: usize = 256 << 10;
/// How long little must come until messages gather again; one linger if that is longer.
const QUIET: Duration = Duration::from_millis(100);

/// The place where messages gather.
pub(super) struct Linger {
    time: Duration,
    /// Changes under the lock of `gathered` only.
    gathers: AtomicBool,
    gathered: Mutex<Gathered>,
}

/// Messages that wait to be handed over together, in the order of their coming.
pub(super) struct Gathered {
    places: Vec<Place>,
    /// Keys and payloads.
    bytes: Vec<u8>,
    headers: Headers,
    /// The report thread comes at the time that is `due`, without being told.
    attended: bool,
    due: Instant,
    /// What gathered last was handed over before it was due, and is to be sent all the same.
    unsent: bool,
    /// While nothing gathers: how many reports have come, and since when.
    reports: usize,
    since: Instant,
}

/// A message within [`Gathered`], where it begins where the one before it ends.
struct Place {
    ticket: Ticket,
    topic: usize,
    timestamp_millis: i64,
    key_bytes: Option<usize>,
    payload_bytes: usize,
    headers: usize,
}

/// What the report thread has to do about what gathers.
pub(super) enum Turn<'a> {
    /// Nothing, until it is told.
    Wait,
    /// To come again in so long.
    WaitFor(Duration),
    /// To hand this over, and to have all sent that librdkafka holds.
    HandOver(MutexGuard<'a, Gathered>),
}

impl Linger {
    pub(super) fn new(time: Duration) -> Self {
        let now = Instant::now();
        Self {
            time,
            gathers: AtomicBool::new(time >= SHORTEST),
            gathered: Mutex::new(Gathered {
                places: Vec::new(),
                bytes: Vec::new(),
                headers: Headers::default(),
                attended: false,
                due: now,
                unsent: false,
                reports: 0,
                since: now,
            }),
        }
    }

    /// What has gathered, if the next message is to gather with it.
    pub(super) fn join(&self) -> Option<MutexGuard<'_, Gathered>> {
        if !self.gathers.load(Ordering::Acquire) {
            return None;
        }
        let gathered = self.gathered.lock();
        self.gathers.load(Ordering::Relaxed).then_some(gathered)
    }

    /// What has gathered, whether anything gathers any more or not.
    pub(super) fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock()
    }

    /// Lets messages go straight to librdkafka from here on. What has gathered must have been handed over, and the report
    /// thread has to be told to have it sent.
    pub(super) fn end(&self, mut gathered: MutexGuard<'_, Gathered>) {
        debug_assert!(gathered.places.is_empty(), "they would be overtaken");
        let now = Instant::now();
        (gathered.attended, gathered.due, gathered.unsent) = (true, now, true);
        (gathered.reports, gathered.since) = (0, now);
        self.gathers.store(false, Ordering::Release);
    }

    /// What the report thread has to do, which has just taken so many reports. `at_once`: what has gathered does not
    /// wait for more.
    pub(super) fn turn(&self, reports: usize, at_once: bool) -> Turn<'_> {
        let mut gathered = self.gathered.lock();
        let now = Instant::now();
        if !self.gathers.load(Ordering::Relaxed)
            && self.time >= SHORTEST
            && gathered.is_quiet(reports, now, self.time)
        {
            self.gathers.store(true, Ordering::Release);
        }
        if !gathered.attended {
            return Turn::Wait;
        }
        let left = gathered.due.saturating_duration_since(now);
        let anything = !gathered.places.is_empty() || gathered.unsent;
        if anything && (left.is_zero() || at_once) {
            gathered.unsent = false;
            gathered.due = now + self.time;
            Turn::HandOver(gathered)
        } else if left.is_zero() {
            gathered.attended = false;
            Turn::Wait
        } else {
            Turn::WaitFor(left)
        }
    }
}

impl Gathered {
    /// Whether a message may gather that takes so many bytes on the broker ([`Record::stored_bytes`]).
    pub(super) fn has_room_for(&self, stored_bytes: usize) -> bool {
        let bytes = self.bytes.len() + self.headers.bytes() + stored_bytes;
        self.places.len() < MOST_MESSAGES && bytes <= MOST_BYTES
    }

    /// Adds a copy of a message. Returns whether the report thread has to be told that it is there.
    pub(super) fn add(&mut self, record: &Record<'_>, ticket: Ticket) -> bool {
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        self.bytes.extend_from_slice(record.payload);
        self.headers.extend(record.headers);
        self.places.push(Place {
            ticket,
            topic: record.topic,
            timestamp_millis: record.timestamp_millis,
            key_bytes: record.key.map(<[u8]>::len),
            payload_bytes: record.payload.len(),
            headers: record.headers.len(),
        });
        let tell = !self.attended;
        if tell {
            self.attended = true;
            self.due = Instant::now() + LEAST_WAIT;
        }
        tell
    }

    /// Hands on the messages, in order, and forgets them.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&Record<'_>, Ticket)) {
        let (mut bytes, mut headers) = (self.bytes.as_slice(), self.headers.list());
        for place in self.places.drain(..) {
            let key = place.key_bytes.map(|length| bytes.split_off(..length).unwrap_or_default());
            let payload = bytes.split_off(..place.payload_bytes).unwrap_or_default();
            let headers = headers.split_off_front(place.headers);
            let (topic, timestamp_millis) = (place.topic, place.timestamp_millis);
            each(&Record { topic, key, payload, headers, timestamp_millis }, place.ticket);
        }
        self.bytes.clear();
        self.headers.clear();
    }

    /// Whether few reports have come for a while.
    fn is_quiet(&mut self, reports: usize, now: Instant, linger: Duration) -> bool {
        self.reports += reports;
        let passed = now.duration_since(self.since);
        if passed < QUIET.max(linger) {
            return false;
        }
        let lingers = passed.as_secs_f64() / linger.as_secs_f64();
        let few = self.reports as f64 <= lingers * MOST_MESSAGES as f64 / 2.0;
        (self.reports, self.since) = (0, now);
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HeaderList;

    const TIME: Duration = Duration::from_secs(3_600);

    fn record<'a>(key: Option<&'a [u8]>, payload: &'a [u8], headers: &'a Headers) -> Record<'a> {
        Record { topic: 1, key, payload, headers: headers.list(), timestamp_millis: 7 }
    }

    #[test]
    fn what_gathers_comes_out_as_it_was_and_in_order() {
        let linger = Linger::new(TIME);
        let mut gathered = linger.join().unwrap();
        let headers = |count: usize| {
            let mut headers = Headers::default();
            (0..count).for_each(|index| headers.push(&format!("name-{index}"), &[b'x'; 9][..index]));
            headers
        };
        let all = [headers(0), headers(3), headers(1), headers(0), headers(9)];
        let keys: [Option<&[u8]>; 5] = [None, Some(b"key"), Some(b""), None, Some(b"k")];
        for turn in 0..2 {
            for (number, (headers, key)) in all.iter().zip(keys).enumerate() {
                let payload = vec![b'p'; number * 10];
                gathered.add(&record(key, &payload, headers), Ticket::from_bits(number as u64));
            }
            let mut number = 0;
            gathered.drain(|record, ticket| {
                assert_eq!(ticket, Ticket::from_bits(number as u64), "turn {turn}");
                assert_eq!((record.topic, record.timestamp_millis, record.key), (1, 7, keys[number]));
                assert_eq!(record.payload, vec![b'p'; number * 10]);
                let list = |headers: HeaderList<'_>| {
                    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>()
                };
                assert_eq!(list(record.headers), list(all[number].list()));
                assert_eq!(record.headers.bytes(), all[number].bytes());
                number += 1;
            });
            assert_eq!(number, 5);
        }
    }

    #[test]
    fn only_so_many_messages_and_bytes_gather() {
        let headers = Headers::default();
        let small = record(None, b"x", &headers);
        let linger = Linger::new(TIME);
        let mut gathered = linger.join().unwrap();
        for number in 0..MOST_MESSAGES {
            assert!(gathered.has_room_for(small.stored_bytes()), "{number}");
            gathered.add(&small, Ticket::from_bits(0));
        }
        assert!(!gathered.has_room_for(small.stored_bytes()));
        gathered.drain(|_, _| {});
        assert!(gathered.has_room_for(small.stored_bytes()));
        assert!(!gathered.has_room_for(record(None, &vec![0; MOST_BYTES], &headers).stored_bytes()));
    }

    #[test]
    fn the_report_thread_is_told_once_and_comes_when_it_is_due() {
        let headers = Headers::default();
        let linger = Linger::new(TIME);
        assert!(matches!(linger.turn(0, false), Turn::Wait));
        let add = || linger.join().unwrap().add(&record(None, b"x", &headers), Ticket::from_bits(0));
        assert!(add(), "after a pause");
        assert!(!add(), "it knows");
        let handed_over = |turn: Turn<'_>| {
            let Turn::HandOver(mut gathered) = turn else { panic!("nothing is due") };
            let mut count = 0;
            gathered.drain(|_, _| count += 1);
            count
        };
        std::thread::park_timeout(LEAST_WAIT);
        while !matches!(linger.turn(0, false), Turn::HandOver(_)) {
            std::thread::yield_now();
        }
        // The guard above was let go without handing anything over; the next turn is one linger later.
        let Turn::WaitFor(left) = linger.turn(0, false) else { panic!("it comes again by itself") };
        assert!(left > TIME / 2);
        assert!(!add(), "it comes by itself");
        assert_eq!(handed_over(linger.turn(0, true)), 3, "of a producer that takes nothing more, at once");
        linger.gathered().due = Instant::now();
        assert!(matches!(linger.turn(0, false), Turn::Wait), "nothing came: it comes no more");
        assert!(add(), "and has to be told");
    }

    #[test]
    fn messages_go_straight_until_few_have_come_for_a_while() {
        let linger = Linger::new(Duration::from_millis(5));
        linger.end(linger.join().unwrap());
        assert!(linger.join().is_none());
        assert!(
            matches!(linger.turn(0, false), Turn::HandOver(_)),
            "what was handed over before it was due is sent"
        );
        let later = |reports: usize| {
            let mut gathered = linger.gathered();
            let since = gathered.since;
            gathered.is_quiet(reports, since + QUIET, Duration::from_millis(5))
        };
        assert!(!later(20 * MOST_MESSAGES), "20 lingers, in each as many as may gather");
        assert!(!later(11 * MOST_MESSAGES));
        assert!(later(10 * MOST_MESSAGES), "half as many");
        assert!(later(0));
    }

    #[test]
    fn a_linger_that_is_too_short_gathers_nothing() {
        for millis in [0, 1] {
            let linger = Linger::new(Duration::from_millis(millis));
            assert!(linger.join().is_none());
            assert!(matches!(linger.turn(0, false), Turn::Wait));
            assert!(linger.join().is_none());
        }
    }
}

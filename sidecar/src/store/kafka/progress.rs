//! Whether the producer goes on. librdkafka keeps messages for as long as it takes, for we set it no time-out; so a
//! partition that it no longer serves, for whatever reason within it, would hold its messages for ever while the pod
//! counts as ready. A new producer serves it again.
//!
//! To send is not to go on: librdkafka repeats for ever what a broker refuses for the moment, also where it turns to a
//! broker that leads no longer. It takes word of a leader for old that has a lower epoch (KIP-320) than the one it knows,
//! as that of a topic which was made anew has.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::statistics::Statistics;

/// How long a partition may stand still for no reason that the statistics show. Far beyond every pause of librdkafka:
/// back-off of half a second, a new look for leaders every five.
const PATIENCE: Duration = Duration::from_secs(30);
/// The patience doubles with each producer that did not help, this many times.
const DOUBLINGS: u32 = 5;

/// What the statistics of one producer after another have shown.
#[derive(Debug)]
pub(super) struct Progress {
    /// Partitions with messages, by topic and number.
    waiting: HashMap<(String, i32), Waiting>,
    pub(super) patience: Duration,
    /// Producers replaced one soon after the other, and when the last of them was.
    replaced: u32,
    replaced_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    figures: Figures,
    since: Instant,
}

/// What changes as long as the producer goes on: it has a message confirmed, or tries to reach the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    acknowledged: u64,
    connects: u64,
}

/// A partition that the producer does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) messages: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { waiting: HashMap::new(), patience: PATIENCE, replaced: 0, replaced_at: None }
    }
}

impl Progress {
    /// A new producer counts from nothing.
    pub(super) fn begin(&mut self) {
        self.waiting.clear();
    }

    /// Takes in statistics, and returns a partition that has stood still for too long, if there is one.
    pub(super) fn observe(&mut self, statistics: &Statistics, now: Instant) -> Option<Stall> {
        let patience = self.patience * 2_u32.pow(self.replaced.min(DOUBLINGS));
        if self.replaced_at.is_some_and(|at| now.duration_since(at) > 2 * patience) {
            (self.replaced, self.replaced_at) = (0, None);
        }
        let mut before = std::mem::take(&mut self.waiting);
        for (topic, number, partition, connects) in statistics.held_up() {
            let place = (topic.to_owned(), number);
            let figures = Figures { acknowledged: partition.acknowledged, connects };
            let known = before.remove(&place).filter(|known| known.figures == figures);
            let this = known.unwrap_or(Waiting { figures, since: now });
            if now.duration_since(this.since) >= patience {
                self.replaced += 1;
                self.replaced_at = Some(now);
                return Some(Stall { topic: place.0, partition: number, messages: partition.waiting() });
            }
            self.waiting.insert(place, this);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A partition of the topic `t`, led by broker 1: so many messages taken and acknowledged.
    fn statistics(taken: u64, acknowledged: u64) -> serde_json::Value {
        json!({
            "brokers": {"b": {"nodeid": 1, "state": "UP", "outbuf_msg_cnt": 0, "waitresp_msg_cnt": 0}},
            "topics": {"t": {"partitions": {
                "0": {"leader": 1, "msgs": taken, "msgs_inflight": 0, "acked_msgid": acknowledged},
            }}},
        })
    }

    fn observe(progress: &mut Progress, statistics: serde_json::Value, now: Instant) -> Option<Stall> {
        progress.observe(&serde_json::from_value(statistics).unwrap(), now)
    }

    #[test]
    fn a_partition_that_has_nothing_confirmed_although_it_could_is_a_stall() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        assert_eq!(observe(&mut progress, statistics(9, 7), start), None);
        assert_eq!(observe(&mut progress, statistics(10, 7), start + PATIENCE / 2), None);
        let stall = Stall { topic: "t".to_owned(), partition: 0, messages: 5 };
        assert_eq!(observe(&mut progress, statistics(12, 7), start + PATIENCE), Some(stall));
    }

    #[test]
    fn a_partition_that_has_something_confirmed_goes_on() {
        let (mut progress, mut now) = (Progress::default(), Instant::now());
        for acknowledged in 7..12 {
            assert_eq!(observe(&mut progress, statistics(12, acknowledged), now), None);
            now += PATIENCE;
        }
    }

    #[test]
    fn a_partition_waits_for_its_leader_for_an_answer_and_for_messages() {
        let mut on_the_way_there = statistics(9, 7);
        on_the_way_there["brokers"]["b"]["state"] = json!("CONNECT");
        let mut assigned_since = statistics(9, 9);
        assigned_since["topics"]["t"]["partitions"]["-1"] = json!({"leader": -1, "msgs": 9});
        let mut on_the_way = statistics(9, 7);
        on_the_way["topics"]["t"]["partitions"]["0"]["msgs_inflight"] = json!(2);
        on_the_way["brokers"]["b"]["waitresp_msg_cnt"] = json!(2);
        for well in [on_the_way_there, assigned_since, on_the_way, statistics(9, 9)] {
            let (mut progress, start) = (Progress::default(), Instant::now());
            assert_eq!(observe(&mut progress, well.clone(), start), None);
            assert_eq!(observe(&mut progress, well, start + 2 * PATIENCE), None);
        }
    }

    #[test]
    fn a_leader_that_is_tried_again_and_again_is_waited_for_and_one_that_is_not_tried_is_not() {
        let away = |connects: u64| {
            let mut away = statistics(9, 7);
            away["brokers"]["b"]["state"] = json!("DOWN");
            away["brokers"]["b"]["connects"] = json!(connects);
            away
        };
        let (mut progress, start) = (Progress::default(), Instant::now());
        for turn in 0..10 {
            assert_eq!(observe(&mut progress, away(turn.into()), start + PATIENCE * turn), None);
        }
        let (mut progress, start) = (Progress::default(), Instant::now());
        assert_eq!(observe(&mut progress, away(7), start), None);
        assert!(observe(&mut progress, away(7), start + PATIENCE).is_some());
        let (mut without_broker, mut without_leader) = (statistics(9, 7), statistics(9, 7));
        without_broker["brokers"] = json!({});
        without_leader["topics"]["t"]["partitions"]["0"]["leader"] = json!(-1);
        for forgotten in [without_broker, without_leader] {
            let (mut progress, start) = (Progress::default(), Instant::now());
            assert_eq!(observe(&mut progress, forgotten.clone(), start), None);
            assert!(observe(&mut progress, forgotten, start + PATIENCE).is_some());
        }
    }

    #[test]
    fn what_is_on_the_way_nowhere_is_not_waited_for() {
        let mut leaked = statistics(9, 7);
        leaked["topics"]["t"]["partitions"]["0"]["msgs_inflight"] = json!(2);
        let (mut progress, start) = (Progress::default(), Instant::now());
        assert_eq!(observe(&mut progress, leaked.clone(), start), None);
        assert!(observe(&mut progress, leaked, start + PATIENCE).is_some());
    }

    #[test]
    fn producers_that_do_not_help_are_replaced_ever_more_rarely_until_one_does() {
        let (mut progress, mut now) = (Progress::default(), Instant::now());
        for doubling in [1, 2, 4] {
            progress.begin();
            assert_eq!(observe(&mut progress, statistics(2, 0), now), None);
            now += PATIENCE * doubling;
            assert_eq!(observe(&mut progress, statistics(2, 0), now - Duration::from_secs(1)), None);
            assert!(observe(&mut progress, statistics(2, 0), now).is_some());
        }
        now += PATIENCE * 17;
        assert_eq!(observe(&mut progress, statistics(3, 2), now), None);
        assert!(observe(&mut progress, statistics(3, 2), now + PATIENCE).is_some());
    }
}

//! What we read of librdkafka's statistics (its STATISTICS.md); everything else there is ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A snapshot of the producer, every five seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Messages in the producer's queues.
    #[serde(rename = "msg_cnt", deserialize_with = "count")]
    pub messages: u64,
    /// Bytes in the producer's queues.
    #[serde(rename = "msg_size", deserialize_with = "count")]
    pub bytes: u64,
    /// Messages sent since the producer was made.
    #[serde(rename = "txmsgs", deserialize_with = "count")]
    pub sent_messages: u64,
    /// By broker.
    pub brokers: BTreeMap<String, BrokerStatistics>,
    /// By topic.
    pub topics: BTreeMap<String, TopicStatistics>,
}

/// A topic as the producer sees it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TopicStatistics {
    /// By number; -1 holds what is not assigned yet.
    pub partitions: BTreeMap<i32, PartitionStatistics>,
}

/// A partition as the producer sees it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PartitionStatistics {
    /// Node id of its leader, -1 while there is none.
    pub leader: i32,
    /// Messages that the producer has taken for it.
    #[serde(rename = "msgs", deserialize_with = "count")]
    pub taken: u64,
    /// Messages in requests that have no answer.
    #[serde(rename = "msgs_inflight", deserialize_with = "count")]
    pub in_flight: u64,
    /// Number of the last message that the broker has acknowledged; they are counted from 1, in order.
    #[serde(rename = "acked_msgid", deserialize_with = "count")]
    pub acknowledged: u64,
}

impl PartitionStatistics {
    /// Messages without a positive answer.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.taken.saturating_sub(self.acknowledged)
    }
}

impl Statistics {
    /// The partitions with messages of which none is on its way, and whose leader is connected or not being connected
    /// to; each with how often connections to its leader were tried. A partition whose leader is not known is one of
    /// them, for the producer may have forgotten it.
    pub fn held_up(&self) -> impl Iterator<Item = (&str, i32, &PartitionStatistics, u64)> {
        let all = self.topics.iter().flat_map(|(name, topic)| {
            topic.partitions.iter().map(move |(&number, partition)| (name.as_str(), number, partition))
        });
        all.filter_map(|(name, number, partition)| {
            let mut brokers = self.brokers.values().filter(|broker| broker.node_id >= 0);
            let leader = brokers.find(|broker| broker.node_id == i64::from(partition.leader));
            // What partition -1 has taken has gone to others since, and is counted there.
            let is_held_up = number >= 0
                && partition.waiting() > 0
                && leader.is_none_or(|leader| {
                    (partition.in_flight == 0 || leader.messages_under_way() == 0)
                        && matches!(&*leader.state, "UP" | "INIT" | "DOWN" | "TRY_CONNECT")
                });
            is_held_up.then_some((name, number, partition, leader.map_or(0, |leader| leader.connects)))
        })
    }
}

/// A broker as the producer sees it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BrokerStatistics {
    /// Node id, -1 for a bootstrap address.
    #[serde(rename = "nodeid")]
    pub node_id: i64,
    /// `UP`, `DOWN`, ...
    pub state: String,
    /// Requests sent that wait for their answer.
    #[serde(rename = "waitresp_cnt", deserialize_with = "count")]
    pub requests_waiting: u64,
    /// Messages in requests that wait to be sent.
    #[serde(rename = "outbuf_msg_cnt", deserialize_with = "count")]
    pub messages_to_send: u64,
    /// Messages in requests that wait for their answer.
    #[serde(rename = "waitresp_msg_cnt", deserialize_with = "count")]
    pub messages_waiting: u64,
    /// Connections that were tried.
    #[serde(rename = "connects", deserialize_with = "count")]
    pub connects: u64,
    /// Requests that failed.
    #[serde(rename = "txerrs", deserialize_with = "count")]
    pub request_errors: u64,
    /// Requests that got no answer in time.
    #[serde(rename = "req_timeouts", deserialize_with = "count")]
    pub request_timeouts: u64,
    /// Round trip times, microseconds.
    pub rtt: Window,
    /// How long the broker asked us to pause, milliseconds.
    pub throttle: Window,
}

impl BrokerStatistics {
    fn messages_under_way(&self) -> u64 {
        self.messages_to_send + self.messages_waiting
    }
}

/// A rolling window of values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Mean.
    #[serde(deserialize_with = "count")]
    pub avg: u64,
    /// 99th percentile.
    #[serde(deserialize_with = "count")]
    pub p99: u64,
}

/// librdkafka counts with signed numbers; one that is below zero for a moment must not cost the other figures.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    i64::deserialize(deserializer).map(|count| u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_odd_or_absent_costs_no_other_figure() {
        let text = r#"{"name": "x", "msg_cnt": -1, "txmsgs": 7, "topics": {"t": {}}, "brokers": {"b": {"nodeid": -1,
            "state": "UP", "rtt": {"avg": -5, "p99": 3, "hdrsize": 1}, "new": [1.5]}}}"#;
        let statistics: Statistics = serde_json::from_str(text).unwrap();
        assert_eq!((statistics.messages, statistics.sent_messages), (0, 7));
        let broker = &statistics.brokers["b"];
        assert_eq!((broker.node_id, broker.rtt.avg, broker.rtt.p99, broker.request_errors), (-1, 0, 3, 0));
    }
}

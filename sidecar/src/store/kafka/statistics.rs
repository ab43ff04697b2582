//! What we read of librdkafka's statistics (its STATISTICS.md); everything else there is ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A snapshot of the producer, every five seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Messages in the producer's queues.
    #[serde(rename = "msg_cnt")]
    pub messages: u64,
    /// Bytes in the producer's queues.
    #[serde(rename = "msg_size")]
    pub bytes: u64,
    /// Messages sent since the producer was made.
    #[serde(rename = "txmsgs")]
    pub sent_messages: u64,
    /// By broker.
    pub brokers: BTreeMap<String, BrokerStatistics>,
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
    #[serde(rename = "waitresp_cnt")]
    pub requests_waiting: u64,
    /// Requests that failed.
    #[serde(rename = "txerrs")]
    pub request_errors: u64,
    /// Requests that got no answer in time.
    #[serde(rename = "req_timeouts")]
    pub request_timeouts: u64,
    /// Round trip times, microseconds.
    pub rtt: Window,
    /// How long the broker asked us to pause, milliseconds.
    pub throttle: Window,
}

/// A rolling window of values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Mean.
    pub avg: u64,
    /// 99th percentile.
    pub p99: u64,
}

//! The calls into librdkafka's mock cluster that the `rdkafka` crate does not offer; for tests.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ops::Deref;

use rdkafka::bindings as sys;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaApiKey;

/// A mock cluster, with the switches of [`MockCluster`] and some more; the brokers have the ids 1, 2, ...
pub(crate) struct Cluster {
    switches: MockCluster<'static, DefaultProducerContext>,
    native: *mut sys::rd_kafka_mock_cluster_t,
}

impl Deref for Cluster {
    type Target = MockCluster<'static, DefaultProducerContext>;

    fn deref(&self) -> &Self::Target {
        &self.switches
    }
}

impl Cluster {
    pub(crate) fn start(brokers: i32) -> Self {
        let client: BaseProducer =
            ClientConfig::new().set("test.mock.num.brokers", brokers.to_string()).create().unwrap();
        // The cluster borrows the client that it runs in, and the test process ends soon.
        let client: &'static BaseProducer = Box::leak(Box::new(client));
        // SAFETY: the client is alive, and stays so.
        let native = unsafe { sys::rd_kafka_handle_mock_cluster(client.client().native_ptr()) };
        // SAFETY: the client was made with a cluster.
        unsafe { sys::rd_kafka_mock_start_request_tracking(native) };
        Self { switches: client.client().mock_cluster().unwrap(), native }
    }

    /// How many requests of this kind the brokers have had.
    pub(crate) fn requests(&self, kind: RDKafkaApiKey) -> usize {
        let mut count = 0;
        // SAFETY: the cluster is alive; the list has `count` elements and is destroyed below.
        unsafe {
            let requests = sys::rd_kafka_mock_get_requests(self.native, &mut count);
            let of_kind = (0..count)
                .filter(|at| sys::rd_kafka_mock_request_api_key(*requests.add(*at)) == kind as i16)
                .count();
            sys::rd_kafka_mock_request_destroy_array(requests, count);
            of_kind
        }
    }

    /// Has clients connect to another port of this machine in place of the broker's own.
    pub(crate) fn advertise(&self, broker: i32, port: u16) {
        let host = CString::new("127.0.0.1").unwrap();
        // SAFETY: the cluster is alive and copies the name.
        unsafe {
            sys::rd_kafka_mock_broker_set_host_port(self.native, broker, host.as_ptr(), i32::from(port))
        };
    }
}

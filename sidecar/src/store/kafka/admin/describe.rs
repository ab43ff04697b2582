//! Asking about the cluster, topics and their configuration.

use std::ffi::{CString, c_char};
use std::time::Instant;

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;

use super::{Admin, code, slice, text};

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Why nothing else is known of it.
    pub error: Option<RDKafkaErrorCode>,
    /// KIP-516, in base 64; absent from brokers without topic ids.
    pub id: Option<String>,
    /// How many there are.
    pub partitions: i32,
    /// The smallest number of replicas of a partition.
    pub replication_factor: i32,
    /// Whether we may write to it; absent when the broker does not say (KIP-430).
    pub may_write: Option<bool>,
}

/// A topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDescription {
    /// Name of the topic.
    pub name: String,
    /// Each setting and its value in effect, wherever it was set; or why they may not be read.
    pub entries: Result<Vec<(String, String)>, RDKafkaErrorCode>,
}

impl Admin<'_> {
    /// The id of the cluster; absent from brokers that have none.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn cluster_id(&self, deadline: Instant) -> Result<Option<String>, RDKafkaErrorCode> {
        // SAFETY: the id is copied before the event is destroyed.
        unsafe {
            self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER,
                deadline,
                |options, queue| sys::rd_kafka_DescribeCluster(self.client, options, queue),
                |event| {
                    let result = sys::rd_kafka_event_DescribeCluster_result(event);
                    let id = sys::rd_kafka_DescribeCluster_result_cluster_id(result);
                    (!id.is_null()).then(|| text(id).into_owned())
                },
            )
        }
    }

    /// Describes topics. No name may be given twice.
    ///
    /// # Errors
    /// When nobody answers; what is wrong with one topic stands in its description.
    pub fn describe_topics(
        &self,
        names: &[CString],
        deadline: Instant,
    ) -> Result<Vec<TopicDescription>, RDKafkaErrorCode> {
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the collection copies the names; it is destroyed here; the result and its parts are read before the
        // event is destroyed.
        unsafe {
            let collection =
                sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                deadline,
                |options, queue| {
                    let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                    if !refused.is_null() {
                        sys::rd_kafka_error_destroy(refused);
                    }
                    sys::rd_kafka_DescribeTopics(self.client, collection, options, queue);
                },
                |event| {
                    let result = sys::rd_kafka_event_DescribeTopics_result(event);
                    let mut count = 0;
                    let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                    slice(topics, count).iter().map(|topic| TopicDescription::read(*topic)).collect()
                },
            );
            sys::rd_kafka_TopicCollection_destroy(collection);
            answer
        }
    }

    /// The configuration of topics.
    ///
    /// # Errors
    /// When nobody answers; what is wrong with one topic stands in its description.
    pub fn describe_configs(
        &self,
        names: &[CString],
        deadline: Instant,
    ) -> Result<Vec<ConfigDescription>, RDKafkaErrorCode> {
        // SAFETY: the resources copy the names and are destroyed here; the result and its parts are read before the
        // event is destroyed.
        unsafe {
            let mut resources: Vec<_> = names
                .iter()
                .map(|name| {
                    sys::rd_kafka_ConfigResource_new(
                        sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                        name.as_ptr(),
                    )
                })
                .collect();
            let (list, count) = (resources.as_mut_ptr(), resources.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
                deadline,
                |options, queue| sys::rd_kafka_DescribeConfigs(self.client, list, count, options, queue),
                |event| {
                    let result = sys::rd_kafka_event_DescribeConfigs_result(event);
                    let mut count = 0;
                    let answers = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
                    slice(answers, count).iter().map(|resource| ConfigDescription::read(*resource)).collect()
                },
            );
            sys::rd_kafka_ConfigResource_destroy_array(list, count);
            answer
        }
    }
}

impl TopicDescription {
    /// # Safety
    /// `topic` must be a live part of an event.
    unsafe fn read(topic: *const sys::rd_kafka_TopicDescription_t) -> Self {
        // SAFETY: the caller's promise holds for all parts of the description.
        unsafe {
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let error = sys::rd_kafka_TopicDescription_error(topic);
            let mut count = 0;
            let partitions = slice(sys::rd_kafka_TopicDescription_partitions(topic, &mut count), count);
            Self {
                name: text(sys::rd_kafka_TopicDescription_name(topic)).into_owned(),
                error: if error.is_null() { None } else { code(sys::rd_kafka_error_code(error)) },
                id: (!id.is_null())
                    .then(|| text(sys::rd_kafka_Uuid_base64str(id)).into_owned())
                    .filter(|id| id.bytes().any(|byte| byte != b'A')),
                partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                replication_factor: partitions.iter().map(|each| replicas(*each)).min().unwrap_or(0),
                may_write: may_write(topic),
            }
        }
    }
}

/// # Safety
/// `partition` must be a live part of an event.
unsafe fn replicas(partition: *const sys::rd_kafka_TopicPartitionInfo_t) -> i32 {
    let mut count = 0;
    // SAFETY: the caller's promise.
    unsafe {
        sys::rd_kafka_TopicPartitionInfo_replicas(partition, &mut count);
    }
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// # Safety
/// `topic` must be a live part of an event.
unsafe fn may_write(topic: *const sys::rd_kafka_TopicDescription_t) -> Option<bool> {
    use sys::rd_kafka_AclOperation_t::{RD_KAFKA_ACL_OPERATION_ALL, RD_KAFKA_ACL_OPERATION_WRITE};
    let mut count = 0;
    // SAFETY: the caller's promise.
    let operations =
        unsafe { slice(sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut count), count) };
    // Who may describe a topic may do something with it: nothing at all means that the broker does not say.
    (!operations.is_empty()).then(|| {
        operations
            .iter()
            .any(|operation| matches!(operation, RD_KAFKA_ACL_OPERATION_ALL | RD_KAFKA_ACL_OPERATION_WRITE))
    })
}

impl ConfigDescription {
    /// # Safety
    /// `resource` must be a live part of an event.
    unsafe fn read(resource: *const sys::rd_kafka_ConfigResource_t) -> Self {
        // SAFETY: the caller's promise holds for all parts of the resource.
        unsafe {
            let entries = match code(sys::rd_kafka_ConfigResource_error(resource)) {
                Some(error) => Err(error),
                None => {
                    let mut count = 0;
                    let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
                    Ok(slice(entries, count)
                        .iter()
                        .map(|entry| {
                            let name = text(sys::rd_kafka_ConfigEntry_name(*entry)).into_owned();
                            (name, text(sys::rd_kafka_ConfigEntry_value(*entry)).into_owned())
                        })
                        .collect())
                }
            };
            Self { name: text(sys::rd_kafka_ConfigResource_name(resource)).into_owned(), entries }
        }
    }
}

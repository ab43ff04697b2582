//! Creating and changing topics. Each call takes several, and answers for each by its name.

use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::time::Instant;

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;

use super::{Admin, code, millis_until, slice, text};

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: CString,
    /// How many; absent means as many as the brokers choose (KIP-464).
    pub partitions: Option<i32>,
    /// On how many brokers; absent means as many as the brokers choose.
    pub replication_factor: Option<i32>,
    /// Settings by name.
    pub configs: Vec<(CString, CString)>,
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the topic.
    pub topic: String,
    /// What the broker answers.
    pub code: RDKafkaErrorCode,
    /// Its own words.
    pub message: String,
}

impl Admin<'_> {
    /// Creates topics, and waits until that is done in the cluster.
    ///
    /// # Errors
    /// When nobody answers; then any of them may have been created.
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        deadline: Instant,
    ) -> Result<Vec<Refusal>, RDKafkaErrorCode> {
        let mut refusals = Vec::new();
        // SAFETY: names and values are copied; the list is destroyed here; the result and its parts are read before
        // the event is destroyed. Only what librdkafka has made stands in the list.
        unsafe {
            let mut list = Vec::with_capacity(topics.len());
            for topic in topics {
                let (partitions, replicas) =
                    (topic.partitions.unwrap_or(-1), topic.replication_factor.unwrap_or(-1));
                let native =
                    sys::rd_kafka_NewTopic_new(topic.name.as_ptr(), partitions, replicas, ptr::null_mut(), 0);
                if native.is_null() {
                    refusals.push(Refusal::of(&topic.name, "the number of partitions or replicas"));
                    continue;
                }
                for (name, value) in &topic.configs {
                    sys::rd_kafka_NewTopic_set_config(native, name.as_ptr(), value.as_ptr());
                }
                list.push(native);
            }
            let (pointer, count) = (list.as_mut_ptr(), list.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS,
                deadline,
                |options, queue| {
                    set_operation_timeout(options, deadline);
                    sys::rd_kafka_CreateTopics(self.client, pointer, count, options, queue);
                },
                |event| {
                    let result = sys::rd_kafka_event_CreateTopics_result(event);
                    let mut count = 0;
                    let topics = sys::rd_kafka_CreateTopics_result_topics(result, &mut count);
                    Refusal::of_topics(slice(topics, count))
                },
            );
            sys::rd_kafka_NewTopic_destroy_array(pointer, count);
            refusals.extend(answer?);
        }
        Ok(refusals)
    }

    /// Raises the number of partitions of topics to the one given.
    ///
    /// # Errors
    /// When nobody answers; then any of them may have been changed.
    pub fn create_partitions(
        &self,
        topics: &[(CString, usize)],
        deadline: Instant,
    ) -> Result<Vec<Refusal>, RDKafkaErrorCode> {
        let mut refusals = Vec::new();
        // SAFETY: as in `create_topics`.
        unsafe {
            let mut list = Vec::with_capacity(topics.len());
            for (name, partitions) in topics {
                let native = sys::rd_kafka_NewPartitions_new(name.as_ptr(), *partitions, ptr::null_mut(), 0);
                if native.is_null() {
                    refusals.push(Refusal::of(name, "the number of partitions"));
                } else {
                    list.push(native);
                }
            }
            let (pointer, count) = (list.as_mut_ptr(), list.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS,
                deadline,
                |options, queue| {
                    set_operation_timeout(options, deadline);
                    sys::rd_kafka_CreatePartitions(self.client, pointer, count, options, queue);
                },
                |event| {
                    let result = sys::rd_kafka_event_CreatePartitions_result(event);
                    let mut count = 0;
                    let topics = sys::rd_kafka_CreatePartitions_result_topics(result, &mut count);
                    Refusal::of_topics(slice(topics, count))
                },
            );
            sys::rd_kafka_NewPartitions_destroy_array(pointer, count);
            refusals.extend(answer?);
        }
        Ok(refusals)
    }

    /// Sets single settings of topics and leaves all others as they are (KIP-339, Kafka 2.3).
    ///
    /// # Errors
    /// When nobody answers; then any of them may have been changed.
    pub fn set_configs(
        &self,
        topics: &[(CString, Vec<(CString, CString)>)],
        deadline: Instant,
    ) -> Result<Vec<Refusal>, RDKafkaErrorCode> {
        // SAFETY: as in `create_topics`.
        unsafe {
            let mut list = Vec::with_capacity(topics.len());
            for (topic, settings) in topics {
                let native = sys::rd_kafka_ConfigResource_new(
                    sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                    topic.as_ptr(),
                );
                for (name, value) in settings {
                    // It only refuses operations that it does not know.
                    let refused = sys::rd_kafka_ConfigResource_add_incremental_config(
                        native,
                        name.as_ptr(),
                        sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
                        value.as_ptr(),
                    );
                    if !refused.is_null() {
                        sys::rd_kafka_error_destroy(refused);
                    }
                }
                list.push(native);
            }
            let (pointer, count) = (list.as_mut_ptr(), list.len());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS,
                deadline,
                |options, queue| {
                    sys::rd_kafka_IncrementalAlterConfigs(self.client, pointer, count, options, queue);
                },
                |event| {
                    let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event);
                    let mut count = 0;
                    let answers = sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &mut count);
                    Refusal::of_resources(slice(answers, count))
                },
            );
            sys::rd_kafka_ConfigResource_destroy_array(pointer, count);
            answer
        }
    }
}

/// How long the controller may wait for the change to be done, before it answers.
///
/// # Safety
/// `options` must be alive.
unsafe fn set_operation_timeout(options: *mut sys::rd_kafka_AdminOptions_t, deadline: Instant) {
    let millis: c_int = millis_until(deadline);
    // SAFETY: the caller's promise.
    unsafe {
        sys::rd_kafka_AdminOptions_set_operation_timeout(options, millis, ptr::null_mut(), 0);
    }
}

impl Refusal {
    fn of(topic: &CStr, what: &str) -> Self {
        Self {
            topic: topic.to_string_lossy().into_owned(),
            code: RDKafkaErrorCode::InvalidArgument,
            message: format!("{what} is out of range"),
        }
    }

    /// # Safety
    /// All of them must be live parts of an event.
    unsafe fn of_topics(topics: &[*const sys::rd_kafka_topic_result_t]) -> Vec<Self> {
        topics
            .iter()
            .filter_map(|topic| {
                // SAFETY: the caller's promise.
                unsafe {
                    let code = code(sys::rd_kafka_topic_result_error(*topic))?;
                    Some(Self {
                        topic: text(sys::rd_kafka_topic_result_name(*topic)).into_owned(),
                        code,
                        message: text(sys::rd_kafka_topic_result_error_string(*topic)).into_owned(),
                    })
                }
            })
            .collect()
    }

    /// # Safety
    /// All of them must be live parts of an event.
    unsafe fn of_resources(resources: &[*const sys::rd_kafka_ConfigResource_t]) -> Vec<Self> {
        resources
            .iter()
            .filter_map(|resource| {
                // SAFETY: the caller's promise.
                unsafe {
                    let code = code(sys::rd_kafka_ConfigResource_error(*resource))?;
                    Some(Self {
                        topic: text(sys::rd_kafka_ConfigResource_name(*resource)).into_owned(),
                        code,
                        message: text(sys::rd_kafka_ConfigResource_error_string(*resource)).into_owned(),
                    })
                }
            })
            .collect()
    }
}

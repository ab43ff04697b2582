//! What there is: the broker, topics and their configuration.

use tansu_sans_io::create_topics_request::CreatableTopic;
use tansu_sans_io::create_topics_response::CreatableTopicResult;
use tansu_sans_io::describe_configs_request::DescribeConfigsResource;
use tansu_sans_io::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use tansu_sans_io::metadata_request::MetadataRequestTopic;
use tansu_sans_io::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tansu_sans_io::{
    CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, ErrorCode,
    MetadataRequest, MetadataResponse, NULL_TOPIC_ID,
};

use super::{NODE, Shared};
use crate::dev::DevError;
use crate::dev::log::{MAX_BATCH_BYTES, MAX_PARTITIONS, Topic};

/// "Not asked for" in a field of authorized operations.
const NO_OPERATIONS: i32 = i32::MIN;

pub(super) fn metadata(shared: &Shared, request: MetadataRequest) -> MetadataResponse {
    let topics = match request.topics {
        None => shared.folder.topics().iter().map(|topic| describe(topic)).collect(),
        Some(wanted) => wanted.into_iter().map(|wanted| find(shared, wanted)).collect(),
    };
    let broker = MetadataResponseBroker::default()
        .node_id(NODE)
        .host(shared.address.ip().to_string())
        .port(shared.address.port().into());
    MetadataResponse::default()
        .throttle_time_ms(Some(0))
        .brokers(Some(vec![broker]))
        .cluster_id(Some(shared.folder.cluster_id().to_owned()))
        .controller_id(Some(NODE))
        .topics(Some(topics))
        .cluster_authorized_operations(Some(NO_OPERATIONS))
}

fn find(shared: &Shared, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
    let id = wanted.topic_id.filter(|id| *id != NULL_TOPIC_ID);
    let topic = match (&wanted.name, id) {
        (Some(name), _) => shared.folder.topic(name),
        (None, Some(id)) => shared.folder.topics().into_iter().find(|topic| *topic.id.as_bytes() == id),
        (None, None) => None,
    };
    topic.map_or_else(
        || {
            let code = if wanted.name.is_some() {
                ErrorCode::UnknownTopicOrPartition
            } else {
                ErrorCode::UnknownTopicId
            };
            MetadataResponseTopic::default()
                .error_code(code.into())
                .name(wanted.name)
                .topic_id(Some(id.unwrap_or(NULL_TOPIC_ID)))
                .is_internal(Some(false))
                .partitions(Some(Vec::new()))
                .topic_authorized_operations(Some(NO_OPERATIONS))
        },
        |topic| describe(&topic),
    )
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions()).map(|number| {
        MetadataResponsePartition::default()
            .error_code(ErrorCode::None.into())
            .partition_index(number)
            .leader_id(NODE)
            .leader_epoch(Some(0))
            .replica_nodes(Some(vec![NODE]))
            .isr_nodes(Some(vec![NODE]))
            .offline_replicas(Some(Vec::new()))
    });
    MetadataResponseTopic::default()
        .error_code(ErrorCode::None.into())
        .name(Some(topic.name.clone()))
        .topic_id(Some(topic.id.into_bytes()))
        .is_internal(Some(false))
        .partitions(Some(partitions.collect()))
        .topic_authorized_operations(Some(NO_OPERATIONS))
}

/// For tools: the pipeline's topics are there before the first client is.
pub(super) fn create_topics(shared: &Shared, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let validate_only = request.validate_only.unwrap_or(false);
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
        let partitions = if topic.num_partitions < 0 { 1 } else { topic.num_partitions };
        let result = create(shared, &topic, partitions, validate_only);
        let code = result.as_ref().err().map_or(ErrorCode::None, |(code, _)| *code);
        let id = shared.folder.topic(&topic.name).map_or(NULL_TOPIC_ID, |topic| topic.id.into_bytes());
        CreatableTopicResult::default()
            .name(topic.name)
            .topic_id(Some(id))
            .error_code(code.into())
            .error_message(result.err().map(|(_, message)| message))
            .topic_config_error_code(Some(ErrorCode::None.into()))
            .num_partitions(Some(partitions))
            .replication_factor(Some(1))
            .configs(Some(Vec::new()))
    });
    CreateTopicsResponse::default().throttle_time_ms(Some(0)).topics(Some(topics.collect()))
}

fn create(
    shared: &Shared,
    topic: &CreatableTopic,
    partitions: i32,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    if shared.folder.topic(&topic.name).is_some() {
        return Err((ErrorCode::TopicAlreadyExists, format!("topic {} exists", topic.name)));
    }
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err((ErrorCode::InvalidPartitions, format!("1 to {MAX_PARTITIONS} partitions are allowed")));
    }
    if topic.replication_factor > 1 {
        return Err((ErrorCode::InvalidReplicationFactor, "there is one broker".to_owned()));
    }
    if validate_only {
        return Ok(());
    }
    shared.folder.ensure_topic(&topic.name, partitions).map(|_| ()).map_err(|error| {
        let code = match error {
            DevError::TopicName { .. } => ErrorCode::InvalidTopicException,
            _ => ErrorCode::KafkaStorageError,
        };
        (code, error.to_string())
    })
}

pub(super) fn describe_configs(shared: &Shared, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results =
        request.resources.unwrap_or_default().into_iter().map(|resource| describe_config(shared, resource));
    DescribeConfigsResponse::default().throttle_time_ms(0).results(Some(results.collect()))
}

fn describe_config(shared: &Shared, resource: DescribeConfigsResource) -> DescribeConfigsResult {
    const TOPIC: i8 = 2;
    const DEFAULT_CONFIG: i8 = 5;
    const UNKNOWN_TYPE: i8 = 0;
    let exists = resource.resource_type == TOPIC && shared.folder.topic(&resource.resource_name).is_some();
    let code = if exists { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
    let max_message_bytes = MAX_BATCH_BYTES.to_string();
    let entries = [
        ("cleanup.policy", "delete"),
        ("max.message.bytes", &max_message_bytes),
        ("min.insync.replicas", "1"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-1"),
        ("unclean.leader.election.enable", "false"),
    ];
    let wanted = |name: &str| {
        exists && resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name))
    };
    let configs = entries.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| {
        DescribeConfigsResourceResult::default()
            .name((*name).to_owned())
            .value(Some((*value).to_owned()))
            .read_only(true)
            .config_source(Some(DEFAULT_CONFIG))
            .is_sensitive(false)
            .synonyms(Some(Vec::new()))
            .config_type(Some(UNKNOWN_TYPE))
            .documentation(Some(String::new()))
    });
    let configs = Some(configs.collect());
    DescribeConfigsResult::default()
        .error_code(code.into())
        .resource_type(resource.resource_type)
        .configs(configs)
        .resource_name(resource.resource_name)
}

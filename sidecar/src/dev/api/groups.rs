//! Where a consumer group is coordinated, and the offsets it has committed.

use tansu_sans_io::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use tansu_sans_io::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use tansu_sans_io::{
    ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};

use super::{NODE, Shared};
use crate::dev::log::Committed;

pub(super) fn find_coordinator(shared: &Shared, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    const GROUP: i8 = 0;
    let response = FindCoordinatorResponse::default().throttle_time_ms(Some(0));
    if request.key_type.unwrap_or(GROUP) != GROUP {
        return response
            .error_code(Some(ErrorCode::TransactionalIdAuthorizationFailed.into()))
            .error_message(Some("the embedded broker has no transactions".to_owned()))
            .node_id(Some(-1))
            .host(Some(String::new()))
            .port(Some(-1));
    }
    response
        .error_code(Some(ErrorCode::None.into()))
        .node_id(Some(NODE))
        .host(Some(shared.address.ip().to_string()))
        .port(Some(shared.address.port().into()))
}

pub(super) fn offset_commit(shared: &Shared, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let topics = request.topics.unwrap_or_default();
    let offsets = topics.iter().flat_map(|topic| {
        topic.partitions.iter().flatten().map(|partition| {
            let committed = Committed {
                offset: partition.committed_offset,
                metadata: partition.committed_metadata.clone().filter(|text| !text.is_empty()),
            };
            (topic.name.clone(), partition.partition_index, committed)
        })
    });
    let code = match shared.folder.consumers().lock().commit(&request.group_id, offsets) {
        Ok(()) => ErrorCode::None,
        Err(error) => {
            tracing::error!(group = request.group_id, "a consumer group's offsets cannot be kept: {error}");
            ErrorCode::CoordinatorNotAvailable
        }
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().flatten().map(|partition| {
            OffsetCommitResponsePartition::default()
                .partition_index(partition.partition_index)
                .error_code(code.into())
        });
        let partitions = Some(partitions.collect());
        OffsetCommitResponseTopic::default().partitions(partitions).name(topic.name)
    });
    OffsetCommitResponse::default().throttle_time_ms(Some(0)).topics(Some(topics.collect()))
}

pub(super) fn offset_fetch(shared: &Shared, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let group = request.group_id.unwrap_or_default();
    let consumers = shared.folder.consumers().lock();
    let wanted = match request.topics {
        Some(topics) => topics
            .into_iter()
            .map(|topic| (topic.name, topic.partition_indexes.unwrap_or_default()))
            .collect(),
        None => consumers.partitions(&group),
    };
    let topics = wanted.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|number| {
            let committed = consumers.committed(&group, &topic, number);
            OffsetFetchResponsePartition::default()
                .partition_index(number)
                .committed_offset(committed.map_or(-1, |committed| committed.offset))
                .committed_leader_epoch(Some(-1))
                .metadata(Some(
                    committed.and_then(|committed| committed.metadata.clone()).unwrap_or_default(),
                ))
                .error_code(ErrorCode::None.into())
        });
        let partitions = Some(partitions.collect());
        OffsetFetchResponseTopic::default().partitions(partitions).name(topic)
    });
    OffsetFetchResponse::default()
        .throttle_time_ms(Some(0))
        .topics(Some(topics.collect()))
        .error_code(Some(ErrorCode::None.into()))
}

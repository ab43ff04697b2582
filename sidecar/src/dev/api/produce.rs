//! Taking records in.

use bytes::Bytes;
use tansu_sans_io::produce_request::PartitionProduceData;
use tansu_sans_io::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use tansu_sans_io::record::deflated;
use tansu_sans_io::{
    ErrorCode, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
};
use uuid::Uuid;

use super::Shared;
use crate::dev::log::{AppendError, Topic};

/// Each partition is answered when its batch is written.
pub(super) fn produce(shared: &Shared, request: ProduceRequest) -> ProduceResponse {
    let responses = request
        .topic_data
        .unwrap_or_default()
        .into_iter()
        .map(|data| {
            let topic = shared.folder.topic(&data.name);
            let partitions = data
                .partition_data
                .unwrap_or_default()
                .into_iter()
                .map(|partition| produce_partition(shared, topic.as_deref(), partition))
                .collect();
            TopicProduceResponse::default().name(data.name).partition_responses(Some(partitions))
        })
        .collect();
    ProduceResponse::default().responses(Some(responses)).throttle_time_ms(Some(0))
}

fn produce_partition(
    shared: &Shared,
    topic: Option<&Topic>,
    data: PartitionProduceData,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default()
        .index(data.index)
        .log_append_time_ms(Some(-1))
        .log_start_offset(Some(0))
        .record_errors(Some(Vec::new()));
    match append(shared, topic, data) {
        Ok(offset) => answer.error_code(ErrorCode::None.into()).base_offset(offset),
        Err(code) => answer.error_code(code.into()).base_offset(-1),
    }
}

fn append(shared: &Shared, topic: Option<&Topic>, data: PartitionProduceData) -> Result<i64, ErrorCode> {
    let partition =
        topic.and_then(|topic| topic.partition(data.index)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    // Since message format 2 a request has exactly one batch per partition.
    let batches: [deflated::Batch; 1] =
        data.records.unwrap_or_default().batches.try_into().map_err(|_| ErrorCode::InvalidRecord)?;
    let [batch] = batches;
    let mut batch = Vec::from(Bytes::from(batch));
    shared.folder.append(partition, &mut batch).map_err(|error| code_of(&error))
}

/// A failed write is answered so that producers keep the batch and send it again, in order: the other codes for a
/// broken disk make them give it up and go on with the next.
fn code_of(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Corrupt => ErrorCode::CorruptMessage,
        AppendError::TooLarge => ErrorCode::MessageTooLarge,
        AppendError::Transactional => ErrorCode::InvalidTxnState,
        AppendError::OutOfOrder => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::StaleEpoch => ErrorCode::InvalidProducerEpoch,
        AppendError::Write(_) => ErrorCode::KafkaStorageError,
    }
}

/// Gives out producer ids. They are random, so that none is used again by a later run, whose first batch would then be
/// taken for a repeat.
pub(super) fn init_producer_id(_: &Shared, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default().throttle_time_ms(0).producer_epoch(0);
    if request.transactional_id.is_some() {
        return response
            .error_code(ErrorCode::TransactionalIdAuthorizationFailed.into())
            .producer_id(-1)
            .producer_epoch(-1);
    }
    let (_, low) = Uuid::new_v4().as_u64_pair();
    response.error_code(ErrorCode::None.into()).producer_id((low >> 2).cast_signed())
}

//! Giving records out.

use std::time::Duration;

use bytes::Bytes;
use rama::{Context, Service};
use tansu_broker::Error;
use tansu_sans_io::fetch_request::FetchPartition;
use tansu_sans_io::fetch_response::{FetchableTopicResponse, PartitionData};
use tansu_sans_io::list_offsets_request::ListOffsetsPartition;
use tansu_sans_io::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use tansu_sans_io::record::Record;
use tansu_sans_io::record::deflated::{Batch, Frame};
use tansu_sans_io::{ErrorCode, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use tokio::time::{Instant, timeout_at};

use super::Shared;
use crate::dev::log::{Partition, Topic};

/// The most that one answer carries, whatever the client asks for.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// Answers when there is enough to answer with, or the client's patience is over.
#[derive(Clone, Debug)]
pub(super) struct Fetch(pub(super) Shared);

impl Service<(), FetchRequest> for Fetch {
    type Response = FetchResponse;
    type Error = Error;

    async fn serve(&self, _: Context<()>, request: FetchRequest) -> Result<FetchResponse, Error> {
        let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let deadline = Instant::now() + patience;
        let wanted = usize::try_from(request.min_bytes).unwrap_or(0);
        let mut appends = self.0.folder.watch();
        loop {
            appends.mark_unchanged();
            let (response, bytes, failed) = self.read(&request);
            if bytes >= wanted
                || failed
                || !matches!(timeout_at(deadline, appends.changed()).await, Ok(Ok(())))
            {
                return Ok(response);
            }
        }
    }
}

impl Fetch {
    /// What is there now, its size, and whether a partition cannot be read.
    fn read(&self, request: &FetchRequest) -> (FetchResponse, usize, bool) {
        let limit = request.max_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let mut room = limit.unwrap_or(MAX_RESPONSE_BYTES).min(MAX_RESPONSE_BYTES);
        let (mut bytes, mut failed) = (0, false);
        let mut responses = Vec::new();
        for wanted in request.topics.iter().flatten() {
            let topic = wanted.topic.as_deref().and_then(|name| self.0.folder.topic(name));
            let mut partitions = Vec::new();
            for partition in wanted.partitions.iter().flatten() {
                let data = PartitionData::default()
                    .partition_index(partition.partition)
                    .log_start_offset(Some(0))
                    .aborted_transactions(Some(Vec::new()))
                    .preferred_read_replica(Some(-1));
                partitions.push(match read(topic.as_deref(), partition, room) {
                    Ok((end, batches)) => {
                        let size: usize = batches.iter().map(|batch| batch.record_data.len() + 61).sum();
                        room = room.saturating_sub(size);
                        bytes += size;
                        data.error_code(ErrorCode::None.into())
                            .high_watermark(end)
                            .last_stable_offset(Some(end))
                            .records(Some(Frame { batches }))
                    }
                    Err(code) => {
                        failed = true;
                        data.error_code(code.into()).high_watermark(-1).last_stable_offset(Some(-1))
                    }
                });
            }
            responses.push(
                FetchableTopicResponse::default().topic(wanted.topic.clone()).partitions(Some(partitions)),
            );
        }
        let response = FetchResponse::default()
            .throttle_time_ms(Some(0))
            .error_code(Some(ErrorCode::None.into()))
            // No sessions (KIP-227): each request says everything that it wants.
            .session_id(Some(0))
            .responses(Some(responses));
        (response, bytes, failed)
    }
}

/// The end of a partition, and batches from the offset that is asked for.
fn read(topic: Option<&Topic>, wanted: &FetchPartition, room: usize) -> Result<(i64, Vec<Batch>), ErrorCode> {
    let partition = find(topic, wanted.partition)?.lock();
    let (offset, end) = (wanted.fetch_offset, partition.end());
    if !(0..=end).contains(&offset) {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if room == 0 {
        return Ok((end, Vec::new()));
    }
    let max_bytes = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(room);
    let batches = partition.read(offset, max_bytes).map_err(|error| unreadable(wanted.partition, &error))?;
    let batches = batches.into_iter().map(|batch| Batch::try_from(Bytes::from(batch)));
    batches.collect::<Result<_, _>>().map(|batches| (end, batches)).map_err(|_| ErrorCode::CorruptMessage)
}

fn find(topic: Option<&Topic>, number: i32) -> Result<&parking_lot::Mutex<Partition>, ErrorCode> {
    topic.and_then(|topic| topic.partition(number)).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn unreadable(partition: i32, error: &std::io::Error) -> ErrorCode {
    tracing::error!(partition, %error, "the data folder cannot be read");
    ErrorCode::KafkaStorageError
}

/// Where partitions begin and end, or where a time is in them.
pub(super) fn list_offsets(shared: &Shared, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.unwrap_or_default().into_iter().map(|wanted| {
        let topic = shared.folder.topic(&wanted.name);
        let partitions = wanted.partitions.unwrap_or_default().into_iter().map(|partition| {
            let answer = ListOffsetsPartitionResponse::default()
                .partition_index(partition.partition_index)
                .leader_epoch(Some(0));
            match list_offset(topic.as_deref(), &partition) {
                Ok((offset, timestamp)) => answer.offset(Some(offset)).timestamp(Some(timestamp)),
                Err(code) => answer.error_code(code.into()).offset(Some(-1)).timestamp(Some(-1)),
            }
        });
        let partitions = Some(partitions.collect());
        ListOffsetsTopicResponse::default().partitions(partitions).name(wanted.name)
    });
    ListOffsetsResponse::default().throttle_time_ms(Some(0)).topics(Some(topics.collect()))
}

/// Offset and timestamp; -1 for a time after the last record.
fn list_offset(topic: Option<&Topic>, wanted: &ListOffsetsPartition) -> Result<(i64, i64), ErrorCode> {
    const LATEST: i64 = -1;
    const EARLIEST: i64 = -2;
    let partition = find(topic, wanted.partition_index)?.lock();
    match wanted.timestamp {
        LATEST => Ok((partition.end(), -1)),
        EARLIEST => Ok((0, -1)),
        timestamp if timestamp >= 0 => {
            let batch = partition.first_since(timestamp);
            let batch = batch.map_err(|error| unreadable(wanted.partition_index, &error))?;
            let Some(batch) = batch else { return Ok((-1, -1)) };
            let batch = Batch::try_from(Bytes::from(batch)).map_err(|_| ErrorCode::CorruptMessage)?;
            let records = Vec::<Record>::try_from(&batch).map_err(|_| ErrorCode::CorruptMessage)?;
            let times = records.iter().map(|record| {
                (record.offset_delta, batch.base_timestamp.saturating_add(record.timestamp_delta))
            });
            let found = times.into_iter().find(|(_, time)| *time >= timestamp);
            Ok(found.map_or((-1, -1), |(delta, time)| (batch.base_offset + i64::from(delta), time)))
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

//! The producer's settings: those that the contract fixes, and the few that a pipeline chooses.

use std::path::Path;

use penstock_crds::connection;
use penstock_crds::edge::{Compression, EdgeConfig, ReferencePath};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

/// The largest batch, unless a topic takes less (`max.message.bytes`).
pub const BATCH_BYTES: usize = 1_000_000;

/// A reference that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{field}: cannot read {path}: {source}")]
pub struct SettingsError {
    /// The field of the pipeline that names the reference.
    pub field: &'static str,
    /// The file.
    pub path: String,
    /// Why.
    pub source: std::io::Error,
}

/// Settings of a producer whose batches stay below `batch_bytes`.
///
/// # Errors
/// When a reference cannot be read.
pub fn producer(
    config: &EdgeConfig,
    references: &Path,
    batch_bytes: usize,
) -> Result<ClientConfig, SettingsError> {
    let mut settings = ClientConfig::new();
    settings.set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in connection::settings(&config.kafka, |field, path| read(field, references, path))? {
        settings.set(name, value);
    }
    let messages: u64 = config.endpoints.iter().map(|e| u64::from(e.limits.max_in_flight_messages)).sum();
    let largest = config.endpoints.iter().map(|e| e.limits.max_message_bytes as usize).max().unwrap_or(0);
    for (name, value) in [
        // Rule 1 of the contract; neither can be configured away.
        ("enable.idempotence", "true".to_owned()),
        ("acks", "all".to_owned()),
        ("max.in.flight.requests.per.connection", "5".to_owned()),
        // A batch that a broker refuses ends the producer, or what is behind it would be stored before it is sent again.
        ("enable.gapless.guarantee", "true".to_owned()),
        // Never: a message that the client drops by time-out leaves a gap behind which later ones are stored, and its
        // resend is then out of order. The ack timeout is ours, the budget bounds what waits.
        ("message.timeout.ms", "0".to_owned()),
        // Keys meet the partitions that the Java client gives them.
        ("partitioner", "murmur2_random".to_owned()),
        ("topic.metadata.refresh.interval.ms", "5000".to_owned()),
        ("linger.ms", config.kafka.linger_milliseconds.to_string()),
        ("compression.type", compression(config.kafka.compression).to_owned()),
        ("batch.size", batch_bytes.to_string()),
        ("batch.num.messages", "100000".to_owned()),
        // Room for one message of the largest kind with its headers; intake refuses what the topic would.
        ("message.max.bytes", (2 * largest + 65_536).clamp(BATCH_BYTES, 1_000_000_000).to_string()),
        // Beyond the budget, so that the budget is what brakes; a full queue is a typed refusal all the same.
        ("queue.buffering.max.messages", (messages + 1_000).min(2_147_483_647).to_string()),
        (
            "queue.buffering.max.kbytes",
            (config.max_in_flight_bytes / 1_024 * 2 + 1_024).min(2_147_483_647).to_string(),
        ),
        ("retry.backoff.ms", "50".to_owned()),
        ("retry.backoff.max.ms", "500".to_owned()),
        ("statistics.interval.ms", "5000".to_owned()),
    ] {
        settings.set(name, value);
    }
    Ok(settings)
}

fn read(field: &'static str, references: &Path, reference: &ReferencePath) -> Result<String, SettingsError> {
    let path = references.join(&reference.0);
    std::fs::read_to_string(&path).map_err(|source| SettingsError {
        field,
        path: path.display().to_string(),
        source,
    })
}

fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

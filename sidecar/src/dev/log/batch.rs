//! The header of a record batch, message format 2 (Kafka's `RecordBatch`, KIP-98): what a broker needs to know of a
//! batch without looking at its records.

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 61;
/// Bytes before what the field "batch length" counts.
const LENGTH_ENDS_AT: usize = 12;
/// Where the checksummed part begins.
const CHECKED_FROM: usize = 21;
/// Bit of `attributes`: part of a transaction.
const TRANSACTIONAL: i16 = 0x10;
/// Bit of `attributes`: a control batch.
const CONTROL: i16 = 0x20;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    /// Bytes of the whole batch, this header included.
    pub(super) bytes: usize,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    records: i32,
}

impl Header {
    /// Reads a header; none if these bytes cannot be one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let length = i32::from_be_bytes(field(bytes, 8)?);
        let [magic] = field(bytes, 16)?;
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)?),
            bytes: usize::try_from(length).ok()?.checked_add(LENGTH_ENDS_AT)?,
            crc: u32::from_be_bytes(field(bytes, 17)?),
            attributes: i16::from_be_bytes(field(bytes, 21)?),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)?),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)?),
            producer_id: i64::from_be_bytes(field(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)?),
            base_sequence: i32::from_be_bytes(field(bytes, 53)?),
            records: i32::from_be_bytes(field(bytes, 57)?),
        };
        let sound = magic == 2
            && header.bytes >= HEADER_BYTES
            && header.records > 0
            && header.last_offset_delta == header.records - 1;
        sound.then_some(header)
    }

    /// Whether `batch`, which begins with this header, is what its sender checksummed.
    pub(super) fn matches(&self, batch: &[u8]) -> bool {
        batch.len() == self.bytes
            && batch.get(CHECKED_FROM..).is_some_and(|checked| {
                crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, checked) == u64::from(self.crc)
            })
    }

    /// The offset after its last record.
    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// How many records it has.
    pub(super) fn records(&self) -> i32 {
        self.records
    }

    /// Whether the producer numbers its batches.
    pub(super) fn is_idempotent(&self) -> bool {
        self.producer_id >= 0 && self.base_sequence >= 0
    }

    /// Whether it belongs to a transaction, which this broker does not have.
    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & (TRANSACTIONAL | CONTROL) != 0
    }
}

/// Gives a batch its place. Neither field is part of what is checksummed.
pub(super) fn place(batch: &mut [u8], base_offset: i64) {
    if let Some((offset, rest)) = batch.split_first_chunk_mut() {
        *offset = base_offset.to_be_bytes();
        if let Some(leader_epoch) = rest.get_mut(4..8) {
            leader_epoch.copy_from_slice(&0_i32.to_be_bytes());
        }
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A batch of `records` records without content that the storage would look at, for tests.
#[cfg(test)]
pub(super) fn made_for_a_test(
    producer: Option<(i64, i16, i32)>,
    records: i32,
    max_timestamp: i64,
    body: &[u8],
) -> Vec<u8> {
    let (id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(body);
    let length = i32::try_from(batch.len() - LENGTH_ENDS_AT).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&max_timestamp.to_be_bytes());
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[CHECKED_FROM..]);
    batch[17..21].copy_from_slice(&u32::try_from(crc).unwrap().to_be_bytes());
    batch
}

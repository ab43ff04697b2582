//! One partition: a file of record batches, appended as they come.
//!
//! A batch counts when all of it is written; what a killed process or a full disk leaves of one is cut off or written
//! over. Nothing is synced: what the kernel has taken survives the death of this process, not of the machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::batch::{self, HEADER_BYTES, Header};
use super::producers::{Producers, Verdict};
use crate::dev::DevError;

/// `max.message.bytes`: the largest batch, Kafka's own default.
pub(in crate::dev) const MAX_BATCH_BYTES: usize = 1_048_588;
/// Distance of index entries in the file.
const INDEX_EVERY: u64 = 4_096;

/// The log of a partition.
#[derive(Debug)]
pub(in crate::dev) struct Partition {
    file: File,
    path: PathBuf,
    /// Where the next batch goes: the file may be longer.
    end: Place,
    /// Every so often, where a batch begins.
    index: Vec<Place>,
    producers: Producers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    offset: i64,
    position: u64,
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub(in crate::dev) enum AppendError {
    #[error("not a record batch of format 2 with the checksum that it says")]
    Corrupt,
    #[error("larger than {MAX_BATCH_BYTES} bytes")]
    TooLarge,
    #[error("part of a transaction")]
    Transactional,
    #[error("an earlier batch of the producer is missing")]
    OutOfOrder,
    #[error("the producer has a newer epoch")]
    StaleEpoch,
    #[error("{0}")]
    Write(#[from] io::Error),
}

impl Partition {
    /// Opens or makes the file, and reads what the folder's last user stored.
    pub(super) fn open(path: &Path) -> Result<Self, DevError> {
        let failed = |error| DevError::file(path, error);
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut partition = Self {
            file,
            path: path.to_owned(),
            end: Place::default(),
            index: Vec::new(),
            producers: Producers::default(),
        };
        while partition.end.position < length {
            match partition.recover_one(length).map_err(failed)? {
                Some(header) => partition.advance(&header),
                None => {
                    let position = partition.end.position;
                    // A torn write is at the end, and no longer than the largest batch.
                    if length - position > MAX_BATCH_BYTES as u64 {
                        return Err(DevError::Damaged { path: path.to_owned(), position: Some(position) });
                    }
                    tracing::info!(
                        file = %path.display(),
                        bytes = length - position,
                        "cut off a batch that was not written whole, and so never acknowledged"
                    );
                    partition.file.set_len(position).map_err(failed)?;
                    break;
                }
            }
        }
        Ok(partition)
    }

    /// The batch at the end of what is known, if a whole one is there. Checksums are verified where a torn write can
    /// be: before that, batches were followed by others.
    fn recover_one(&self, length: u64) -> io::Result<Option<Header>> {
        let left = length - self.end.position;
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let header = self.header_at(self.end.position)?;
        let Some(header) = header.filter(|h| {
            h.base_offset == self.end.offset && h.bytes as u64 <= left && h.bytes <= MAX_BATCH_BYTES
        }) else {
            return Ok(None);
        };
        if left <= 2 * MAX_BATCH_BYTES as u64 {
            let batch = self.bytes_at(self.end.position, header.bytes)?;
            return Ok(Some(header).filter(|header| header.matches(&batch)));
        }
        Ok(Some(header))
    }

    /// Appends a batch, unless it is there already. Returns the offset of its first record.
    pub(in crate::dev) fn append(&mut self, batch: &mut [u8]) -> Result<i64, AppendError> {
        let mut header = Header::read(batch).filter(|h| h.matches(batch)).ok_or(AppendError::Corrupt)?;
        if batch.len() > MAX_BATCH_BYTES {
            return Err(AppendError::TooLarge);
        }
        if header.is_transactional() {
            return Err(AppendError::Transactional);
        }
        if header.is_idempotent() {
            match self.producers.judge(&header) {
                Verdict::Append => {}
                Verdict::Duplicate(offset) => return Ok(offset),
                Verdict::OutOfOrder => return Err(AppendError::OutOfOrder),
                Verdict::StaleEpoch => return Err(AppendError::StaleEpoch),
            }
        }
        header.base_offset = self.end.offset;
        batch::place(batch, header.base_offset);
        if let Err(error) = self.file.write_all_at(batch, self.end.position) {
            // Gives back the space; if not even that works, the next batch is written over the pieces.
            let _ = self.file.set_len(self.end.position);
            return Err(error.into());
        }
        self.advance(&header);
        Ok(header.base_offset)
    }

    fn advance(&mut self, header: &Header) {
        let far = |last: &Place| self.end.position - last.position >= INDEX_EVERY;
        if self.index.last().is_none_or(far) {
            self.index.push(self.end);
        }
        if header.is_idempotent() {
            self.producers.stored(header);
        }
        self.end = Place { offset: header.next_offset(), position: self.end.position + header.bytes as u64 };
    }

    /// The offset that the next record gets.
    pub(in crate::dev) fn end(&self) -> i64 {
        self.end.offset
    }

    /// Whole batches from the one that holds `offset` on, at least one if there is one, else as many as fit into
    /// `max_bytes`.
    pub(in crate::dev) fn read(&self, offset: i64, max_bytes: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        self.walk(offset, |place, header| {
            if !batches.is_empty() && bytes + header.bytes > max_bytes {
                return Ok(false);
            }
            bytes += header.bytes;
            batches.push(self.bytes_at(place, header.bytes)?);
            Ok(true)
        })?;
        Ok(batches)
    }

    /// The first batch with a record that is not older than `timestamp` (Unix milliseconds).
    pub(in crate::dev) fn first_since(&self, timestamp: i64) -> io::Result<Option<Vec<u8>>> {
        let mut found = None;
        self.walk(0, |place, header| {
            if header.max_timestamp >= timestamp {
                found = Some(self.bytes_at(place, header.bytes)?);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    /// Calls `each` with the position and header of the batch that holds `offset` and of those after it, until it
    /// says no.
    fn walk(&self, offset: i64, mut each: impl FnMut(u64, &Header) -> io::Result<bool>) -> io::Result<()> {
        let after = self.index.partition_point(|place| place.offset <= offset);
        let start = after.checked_sub(1).and_then(|at| self.index.get(at)).copied().unwrap_or_default();
        let mut position = start.position;
        while position < self.end.position {
            let header = self.header_at(position)?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("no batch at byte {position}"))
            })?;
            if header.next_offset() > offset && !each(position, &header)? {
                break;
            }
            position += header.bytes as u64;
        }
        Ok(())
    }

    fn header_at(&self, position: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, position)?;
        Ok(Header::read(&bytes))
    }

    fn bytes_at(&self, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut batch = vec![0; bytes];
        self.file.read_exact_at(&mut batch, position)?;
        Ok(batch)
    }

    /// Hands what was written to the disk.
    pub(super) fn sync(&self) -> Result<(), DevError> {
        self.file.sync_data().map_err(|error| DevError::file(&self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::made_for_a_test;
    use super::*;

    fn batch(sequence: i32, records: i32) -> Vec<u8> {
        made_for_a_test(Some((7, 0, sequence)), records, i64::from(sequence) * 10, &[b'x'; 300])
    }

    fn filled(path: &Path, batches: i32) -> Partition {
        let mut partition = Partition::open(path).unwrap();
        for number in 0..batches {
            assert_eq!(partition.append(&mut batch(number * 3, 3)).unwrap(), i64::from(number) * 3);
        }
        partition
    }

    fn offsets(batches: &[Vec<u8>]) -> Vec<i64> {
        batches.iter().map(|batch| Header::read(batch).unwrap().base_offset).collect()
    }

    #[test]
    fn what_was_appended_is_read_back_also_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let partition = filled(&path, 100);
        drop(partition);
        let mut partition = Partition::open(&path).unwrap();
        assert_eq!(partition.end(), 300);
        assert_eq!(offsets(&partition.read(0, 1_100).unwrap()), [0, 3, 6]);
        assert_eq!(offsets(&partition.read(151, 1).unwrap()), [150], "the batch that holds the offset");
        assert_eq!(partition.read(300, 1_000).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(partition.append(&mut batch(294, 3)).unwrap(), 294, "a repeat is answered from the log");
        assert!(matches!(partition.append(&mut batch(306, 3)), Err(AppendError::OutOfOrder)));
        assert_eq!(partition.append(&mut batch(300, 3)).unwrap(), 300);
    }

    #[test]
    fn a_torn_batch_is_cut_off_at_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        drop(filled(&path, 3));
        let whole = std::fs::read(&path).unwrap();
        let kept = whole.len() / 3 * 2;
        for length in kept..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut partition = Partition::open(&path).unwrap();
            assert_eq!(partition.end(), 6, "of {length} bytes");
            assert_eq!(partition.append(&mut batch(6, 3)).unwrap(), 6);
        }
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_batch_with_other_bytes_than_its_sender_checksummed_is_neither_appended_nor_recovered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut partition = filled(&path, 2);
        let mut bad = batch(6, 3);
        *bad.last_mut().unwrap() ^= 1;
        assert!(matches!(partition.append(&mut bad), Err(AppendError::Corrupt)));
        drop(partition);
        let mut whole = std::fs::read(&path).unwrap();
        *whole.last_mut().unwrap() ^= 1;
        std::fs::write(&path, whole).unwrap();
        assert_eq!(Partition::open(&path).unwrap().end(), 3);
    }

    #[test]
    fn damage_that_no_torn_write_explains_is_reported_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut partition = Partition::open(&path).unwrap();
        for number in 0..5 {
            partition.append(&mut made_for_a_test(None, 1, number, &[b'x'; 900_000])).unwrap();
        }
        let mut whole = std::fs::read(&path).unwrap();
        whole[16] = 9;
        std::fs::write(&path, &whole).unwrap();
        let error = Partition::open(&path).unwrap_err();
        assert!(matches!(error, DevError::Damaged { position: Some(0), .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn the_first_batch_since_a_time_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let partition = filled(&folder.path().join("0.log"), 50);
        let found = partition.first_since(95).unwrap().unwrap();
        assert_eq!(offsets(&[found]), [12], "timestamps are 0, 30, 60, 90, 120");
        assert!(partition.first_since(10_000).unwrap().is_none());
    }
}

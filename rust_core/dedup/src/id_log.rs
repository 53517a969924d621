//! Ids on disk before their generation is a run.
//!
//! Layout of `ids-<number>.log`, numbers little-endian. Header, 24 bytes: magic `PSDIDS01` (8),
//! number (8), zero (4), CRC-32C of the bytes before it (4). Then batches, each of: CRC-32C (4) of
//! what follows and, before it, of the file's number and the batch's offset (8 each); count (4);
//! running time of the oldest and the newest id in ms (8 each); the ids (16 each, big-endian).
//!
//! A batch that is not whole, with no whole one behind it, is a torn tail. Nothing is lost by it: a
//! WAL file goes only after the sync of the batch, so its ids come again from the WAL (DUP-2). With a
//! whole one behind it, it is damage: each batch was synced before the next one was written. That is
//! told, and the ids on both sides are kept. A file that was there at open gets no more batches.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_disk::{CrashPoint, File, Filesystem};

use crate::error::{DedupError, at};
use crate::generation::IdList;
use crate::names;

const MAGIC: &[u8; 8] = b"PSDIDS01";
const HEADER_BYTES: usize = 24;
const BATCH_HEADER_BYTES: usize = 24;

/// Most ids in a batch: bounds the copy that a write makes.
const MAX_BATCH_IDS: usize = 16_384;

/// An id log that takes more batches.
#[derive(Debug)]
pub(crate) struct IdLogWriter {
    pub(crate) number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    offset: AtomicU64,
}

/// Ids with the span of their ages.
#[derive(Debug)]
pub(crate) struct IdBatch {
    pub(crate) ids: IdList,
    pub(crate) oldest_ms: u64,
    pub(crate) newest_ms: u64,
}

/// As [`IdBatch`], read back.
#[derive(Debug, Default)]
pub(crate) struct LoadedIds {
    pub(crate) keys: Vec<u128>,
    pub(crate) oldest_ms: u64,
    pub(crate) newest_ms: u64,
}

impl IdLogWriter {
    /// Creates a log. Durability: its name, on `Ok`; it is synced with the first batch.
    pub(crate) fn create(
        filesystem: &dyn Filesystem,
        directory: &Path,
        number: u64,
    ) -> Result<Self, DedupError> {
        let path = names::id_log(directory, number);
        let file = filesystem.create_new(&path).map_err(at(&path))?;
        file.write_all_at(&header(number), 0).map_err(at(&path))?;
        filesystem.sync_dir(directory).map_err(at(directory))?;
        Ok(Self {
            number,
            path,
            file,
            offset: AtomicU64::new(HEADER_BYTES as u64),
        })
    }

    /// Appends ids. One caller at a time.
    ///
    /// Durability: on `Ok`, they survive a power cut. On `Err` the log must take no more.
    pub(crate) fn append_synced(&self, batch: &IdBatch) -> Result<(), DedupError> {
        let mut offset = self.offset.load(Ordering::Relaxed);
        for start in (0..batch.ids.len()).step_by(MAX_BATCH_IDS) {
            let ids = start..batch.ids.len().min(start + MAX_BATCH_IDS);
            let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + ids.len() * 16);
            bytes.extend_from_slice(&[0; 4]);
            let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&batch.oldest_ms.to_le_bytes());
            bytes.extend_from_slice(&batch.newest_ms.to_le_bytes());
            for index in ids {
                bytes.extend_from_slice(&batch.ids.get(index).to_be_bytes());
            }
            let crc = batch_crc(self.number, offset, &bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            self.file
                .write_all_paced_at(&bytes, offset)
                .map_err(at(&self.path))?;
            offset += bytes.len() as u64;
        }
        CrashPoint::DedupIdsWritten.pass();
        self.file.sync_data().map_err(at(&self.path))?;
        self.offset.store(offset, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }
}

/// What an id log holds.
#[derive(Debug)]
pub(crate) struct LoadedLog {
    pub(crate) ids: LoadedIds,
    /// Bytes behind the last whole batch.
    pub(crate) cut_bytes: u64,
    pub(crate) bytes: u64,
    /// Ranges between whole batches in which nothing can be read.
    pub(crate) damaged: Vec<Range<u64>>,
}

/// Reads a log up to its torn tail, and makes what it gives durable.
///
/// What a killed process did not sync may be in the page cache only, and if its sync failed, no other
/// will make it durable: so whole batches are written once more, as they are, and synced (DUP-2).
/// Cost: the file is read and written once, and held meanwhile; it is no larger than a generation.
pub(crate) fn load(
    filesystem: &dyn Filesystem,
    directory: &Path,
    number: u64,
) -> Result<LoadedLog, DedupError> {
    let path = names::id_log(directory, number);
    let file = filesystem.open_read_write(&path).map_err(at(&path))?;
    let len = file.len().map_err(at(&path))?;
    let too_large = |_| at(&path)(io::ErrorKind::FileTooLarge.into());
    let mut bytes = vec![0; usize::try_from(len).map_err(too_large)?];
    let read = file.read_at(&mut bytes, 0).map_err(at(&path))?;
    bytes.truncate(read);
    let mut loaded = LoadedLog {
        ids: LoadedIds::default(),
        cut_bytes: 0,
        bytes: len,
        damaged: Vec::new(),
    };
    // It holds nothing but the number, which the name tells, and which each batch's checksum covers.
    file.write_all_at(&header(number), 0).map_err(at(&path))?;
    let mut end = HEADER_BYTES;
    while let Some((start, batch)) = next_batch(&bytes, number, end) {
        if start > end {
            loaded.damaged.push(end as u64..start as u64);
        }
        file.write_all_at(batch, start as u64).map_err(at(&path))?;
        let (oldest, newest) = (u64_at(batch, 8), u64_at(batch, 16));
        if loaded.ids.keys.is_empty() {
            loaded.ids.oldest_ms = oldest;
        }
        loaded.ids.oldest_ms = loaded.ids.oldest_ms.min(oldest);
        loaded.ids.newest_ms = loaded.ids.newest_ms.max(newest);
        loaded
            .ids
            .keys
            .extend(batch[BATCH_HEADER_BYTES..].chunks_exact(16).map(key_of));
        end = start + batch.len();
    }
    CrashPoint::RecoveryIdsRewritten.pass();
    file.sync_data().map_err(at(&path))?;
    loaded.cut_bytes = len.saturating_sub(end as u64);
    Ok(loaded)
}

fn header(number: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The first whole batch at `from` or behind it, with its place.
fn next_batch(bytes: &[u8], number: u64, from: usize) -> Option<(usize, &[u8])> {
    // The header's length and those of all batches are multiples of 8.
    let places = (from..bytes.len()).step_by(8);
    let mut batches = places.filter_map(|start| Some((start, batch_at(bytes, number, start)?)));
    batches.next()
}

/// The batch at `start`, if it is whole.
fn batch_at(bytes: &[u8], number: u64, start: usize) -> Option<&[u8]> {
    let rest = &bytes[start..];
    let count = u32_at(rest.get(..BATCH_HEADER_BYTES)?, 4) as usize;
    if count == 0 || count > MAX_BATCH_IDS {
        return None;
    }
    let batch = rest.get(..BATCH_HEADER_BYTES + count * 16)?;
    (batch_crc(number, start as u64, &batch[4..]) == u32_at(batch, 0)).then_some(batch)
}

fn batch_crc(number: u64, offset: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

/// The id in 16 bytes, big-endian.
pub(crate) fn key_of(bytes: &[u8]) -> u128 {
    let mut number = [0; 16];
    number.copy_from_slice(bytes);
    u128::from_be_bytes(number)
}

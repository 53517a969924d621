//! Sorted ids on disk.
//!
//! Layout of `run-<first>-<last>.run`: blocks of 4,096 bytes, numbers little-endian, CRC-32C in the
//! last four bytes of each block over the rest of it. Block 0, header: magic `PSDRUN01` (8), first
//! and last number (8 each), running time of the oldest and newest id in ms (8 each), zeros. Then
//! blocks of ids: block number (8), count (4), zero (4), up to 254 ids (16 each, big-endian,
//! ascending over the whole run), zeros. Last block, footer: magic `PSDEND01` (8), blocks of ids
//! (8), ids (8), zeros.
//!
//! Filter and fences are not stored: they are made anew from the blocks at open, which checks each
//! block on the way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use penstock_disk::{File, Filesystem};

use crate::error::{DedupError, at};
use crate::filter::Filter;
use crate::id_log::{key_of, u32_at, u64_at};

pub(crate) const BLOCK_BYTES: usize = 4096;
pub(crate) const KEYS_PER_BLOCK: usize = 254;
pub(crate) const KEYS_OFFSET: usize = 16;
pub(crate) const CRC_OFFSET: usize = BLOCK_BYTES - 4;
pub(crate) const HEADER_MAGIC: &[u8; 8] = b"PSDRUN01";
pub(crate) const FOOTER_MAGIC: &[u8; 8] = b"PSDEND01";

pub(crate) type Block = [u8; BLOCK_BYTES];

/// An open run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) oldest_ms: u64,
    pub(crate) newest_ms: u64,
    pub(crate) count: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) filter: Filter,
    /// First id of each block.
    pub(crate) fences: Vec<u128>,
    /// A block of it could not be read: it is checked, and then kept or set aside.
    pub(crate) doubted: AtomicBool,
    /// Checks in a row that the disk did not answer.
    pub(crate) failed_checks: AtomicU32,
}

/// Why a run is not used.
#[derive(Debug)]
pub(crate) enum RunFault {
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for RunFault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Damaged
        } else {
            Self::Io(error)
        }
    }
}

impl Run {
    /// Opens a run and makes its filter. Cost: the file is read once.
    pub(crate) fn open(
        filesystem: &dyn Filesystem,
        path: &Path,
        first: u64,
        last: u64,
    ) -> Result<Self, RunFault> {
        let file = filesystem.open_read(path)?;
        let len = file.len()?;
        let blocks = len / BLOCK_BYTES as u64;
        if len % BLOCK_BYTES as u64 != 0 || blocks < 2 {
            return Err(RunFault::Damaged);
        }
        let header = read_checked(&*file, 0)?;
        let footer = read_checked(&*file, blocks - 1)?;
        let data_blocks = blocks - 2;
        let count = u64_at(&footer, 16);
        if &header[..8] != HEADER_MAGIC
            || u64_at(&header, 8) != first
            || u64_at(&header, 16) != last
            || &footer[..8] != FOOTER_MAGIC
            || u64_at(&footer, 8) != data_blocks
            || count > data_blocks * KEYS_PER_BLOCK as u64
        {
            return Err(RunFault::Damaged);
        }
        let mut filter = Filter::with_capacity(count);
        let mut fences = Vec::with_capacity(usize::try_from(data_blocks).unwrap_or(0));
        let mut cursor = RunCursor::new(Arc::clone(&file), data_blocks);
        let mut read = 0;
        let mut before = None;
        while let Some((block_start, key)) = cursor.next_key()? {
            if before.is_some_and(|before| before >= key) {
                return Err(RunFault::Damaged);
            }
            before = Some(key);
            if block_start {
                fences.push(key);
            }
            filter.insert(key);
            read += 1;
        }
        if read != count {
            return Err(RunFault::Damaged);
        }
        Ok(Self {
            path: path.to_path_buf(),
            first,
            last,
            oldest_ms: u64_at(&header, 24),
            newest_ms: u64_at(&header, 32),
            count,
            file,
            filter,
            fences,
            doubted: AtomicBool::new(false),
            failed_checks: AtomicU32::new(0),
        })
    }

    /// True only if the whole id is in the run. Cost: a cache line, and if the filter lets the id
    /// through, a read of one block.
    ///
    /// On `Err` that can't be said: to answer false would store the id once more if a later read
    /// succeeds (DUP-1). Until the run is checked, the same question may get an answer.
    pub(crate) fn contains(&self, key: u128) -> Result<bool, DedupError> {
        if !self.filter.may_contain(key) {
            return Ok(false);
        }
        let after = self.fences.partition_point(|fence| *fence <= key);
        let Some(index) = after.checked_sub(1) else {
            return Ok(false);
        };
        let (block, count) =
            read_keys(&*self.file, index as u64 + 1).map_err(|fault| self.doubt(fault))?;
        Ok(search(&block, count, key))
    }

    /// Notes that a block could not be read.
    pub(crate) fn doubt(&self, fault: RunFault) -> DedupError {
        self.doubted.store(true, Ordering::Relaxed);
        let source = match fault {
            RunFault::Damaged => io::Error::new(io::ErrorKind::InvalidData, "a block is damaged"),
            RunFault::Io(error) => error,
        };
        at(&self.path)(source)
    }

    /// Reads all of it. Cost: as opening it, but for the filter.
    pub(crate) fn check(&self) -> Result<(), RunFault> {
        let data_blocks = self.fences.len() as u64;
        let mut cursor = RunCursor::new(Arc::clone(&self.file), data_blocks);
        let mut count = 0;
        let mut fences = self.fences.iter();
        while let Some((block_start, key)) = cursor.next_key()? {
            if block_start && fences.next() != Some(&key) {
                return Err(RunFault::Damaged);
            }
            count += 1;
        }
        if count == self.count {
            Ok(())
        } else {
            Err(RunFault::Damaged)
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        Self::memory_for(self.count)
    }

    /// Filter and fences of a run with so many ids.
    pub(crate) fn memory_for(count: u64) -> u64 {
        Filter::bytes_for(count) + count.div_ceil(KEYS_PER_BLOCK as u64) * 16
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        Self::disk_for(self.count)
    }

    pub(crate) fn disk_for(count: u64) -> u64 {
        (count.div_ceil(KEYS_PER_BLOCK as u64) + 2) * BLOCK_BYTES as u64
    }
}

/// Blocks read at once where all of a run is read: a call for each block cost as much as its check.
const READ_BLOCKS: u64 = 64;

/// Reads the ids of a run in order.
#[derive(Debug)]
pub(crate) struct RunCursor {
    file: Arc<dyn File>,
    /// Blocks from `first_block` on.
    buffer: Vec<u8>,
    first_block: u64,
    /// Where the present block begins in `buffer`, and how many ids it has.
    block_start: usize,
    count: usize,
    next: usize,
    next_block: u64,
    data_blocks: u64,
}

impl RunCursor {
    pub(crate) fn new(file: Arc<dyn File>, data_blocks: u64) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            first_block: 1,
            block_start: 0,
            count: 0,
            next: 0,
            next_block: 1,
            data_blocks,
        }
    }

    /// The next id, and whether it is the first of its block.
    pub(crate) fn next_key(&mut self) -> Result<Option<(bool, u128)>, RunFault> {
        if self.next == self.count {
            if self.next_block > self.data_blocks {
                return Ok(None);
            }
            self.load_block()?;
        }
        let block = &self.buffer[self.block_start..self.block_start + BLOCK_BYTES];
        let key = key_at(block, self.next);
        self.next += 1;
        Ok(Some((self.next == 1, key)))
    }

    fn load_block(&mut self) -> Result<(), RunFault> {
        let ahead = self.next_block - self.first_block;
        let buffered = (self.buffer.len() / BLOCK_BYTES) as u64;
        if ahead >= buffered {
            let blocks = READ_BLOCKS.min(self.data_blocks - self.next_block + 1);
            let bytes = usize::try_from(blocks).unwrap_or(1) * BLOCK_BYTES;
            self.buffer.resize(bytes, 0);
            let offset = self.next_block * BLOCK_BYTES as u64;
            self.file.read_exact_at(&mut self.buffer, offset)?;
            self.first_block = self.next_block;
        }
        let ahead = usize::try_from(self.next_block - self.first_block).unwrap_or(0);
        self.block_start = ahead * BLOCK_BYTES;
        let block = &self.buffer[self.block_start..self.block_start + BLOCK_BYTES];
        self.count = check_keys(block, self.next_block)?;
        self.next = 0;
        self.next_block += 1;
        Ok(())
    }
}

fn read_checked(file: &dyn File, number: u64) -> Result<Block, RunFault> {
    let mut block = [0; BLOCK_BYTES];
    file.read_exact_at(&mut block, number * BLOCK_BYTES as u64)?;
    check(&block)?;
    Ok(block)
}

fn check(block: &[u8]) -> Result<(), RunFault> {
    if crc32c::crc32c(&block[..CRC_OFFSET]) == u32_at(block, CRC_OFFSET) {
        Ok(())
    } else {
        Err(RunFault::Damaged)
    }
}

/// Checks a block of ids, and gives their number.
fn check_keys(block: &[u8], number: u64) -> Result<usize, RunFault> {
    check(block)?;
    let count = u32_at(block, 8) as usize;
    if u64_at(block, 0) != number || count == 0 || count > KEYS_PER_BLOCK {
        return Err(RunFault::Damaged);
    }
    Ok(count)
}

fn read_keys(file: &dyn File, number: u64) -> Result<(Block, usize), RunFault> {
    let mut block = [0; BLOCK_BYTES];
    file.read_exact_at(&mut block, number * BLOCK_BYTES as u64)?;
    let count = check_keys(&block, number)?;
    Ok((block, count))
}

fn key_at(block: &[u8], index: usize) -> u128 {
    let start = KEYS_OFFSET + index * 16;
    key_of(&block[start..start + 16])
}

fn search(block: &Block, count: usize, key: u128) -> bool {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        match key_at(block, middle).cmp(&key) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

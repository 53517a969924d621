//! Makes runs: from a generation, or from smaller runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use hashbrown::HashTable;
use penstock_disk::{CrashPoint, File, Filesystem};

use crate::error::{DedupError, at};
use crate::filter::Filter;
use crate::names;
use crate::run::{
    BLOCK_BYTES, CRC_OFFSET, FOOTER_MAGIC, HEADER_MAGIC, KEYS_OFFSET, KEYS_PER_BLOCK, Run,
    RunCursor,
};

/// Bytes gathered before a write.
const WRITE_BYTES: usize = 64 * BLOCK_BYTES;

/// What a run says about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunSpan {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) oldest_ms: u64,
    pub(crate) newest_ms: u64,
}

struct RunWriter<'a> {
    filesystem: &'a dyn Filesystem,
    directory: &'a Path,
    span: RunSpan,
    path: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn File>,
    offset: u64,
    buffer: Vec<u8>,
    /// Ids of the block that is being filled.
    block: Vec<u128>,
    filter: Filter,
    fences: Vec<u128>,
    count: u64,
}

impl<'a> RunWriter<'a> {
    fn create(
        filesystem: &'a dyn Filesystem,
        directory: &'a Path,
        span: RunSpan,
        max_count: u64,
    ) -> Result<Self, DedupError> {
        let path = names::run(directory, span.first, span.last);
        let mut temporary = path.as_os_str().to_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        // A try before this one may have failed half-way.
        if filesystem.exists(&temporary).map_err(at(&temporary))? {
            filesystem.remove_file(&temporary).map_err(at(&temporary))?;
        }
        let file = filesystem.create_new(&temporary).map_err(at(&temporary))?;
        let blocks = max_count.div_ceil(KEYS_PER_BLOCK as u64);
        let mut writer = Self {
            filesystem,
            directory,
            span,
            path,
            temporary,
            file,
            offset: 0,
            buffer: Vec::with_capacity(WRITE_BYTES),
            block: Vec::with_capacity(KEYS_PER_BLOCK),
            filter: Filter::with_capacity(max_count),
            fences: Vec::with_capacity(usize::try_from(blocks).unwrap_or(0)),
            count: 0,
        };
        let mut header = [0; 40];
        header[..8].copy_from_slice(HEADER_MAGIC);
        for (index, number) in [span.first, span.last, span.oldest_ms, span.newest_ms]
            .into_iter()
            .enumerate()
        {
            header[8 + index * 8..16 + index * 8].copy_from_slice(&number.to_le_bytes());
        }
        writer.add_block(&header, &[])?;
        Ok(writer)
    }

    fn add(&mut self, key: u128) -> Result<(), DedupError> {
        if self.block.is_empty() {
            self.fences.push(key);
        }
        self.block.push(key);
        self.filter.insert(key);
        self.count += 1;
        if self.block.len() == KEYS_PER_BLOCK {
            self.finish_block()
        } else {
            Ok(())
        }
    }

    fn finish_block(&mut self) -> Result<(), DedupError> {
        let mut head = [0; KEYS_OFFSET];
        head[..8].copy_from_slice(&(self.fences.len() as u64).to_le_bytes());
        let count = u32::try_from(self.block.len()).unwrap_or(u32::MAX);
        head[8..12].copy_from_slice(&count.to_le_bytes());
        let keys = std::mem::take(&mut self.block);
        self.add_block(&head, &keys)?;
        self.block = keys;
        self.block.clear();
        Ok(())
    }

    fn add_block(&mut self, head: &[u8], keys: &[u128]) -> Result<(), DedupError> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(head);
        for key in keys {
            self.buffer.extend_from_slice(&key.to_be_bytes());
        }
        self.buffer.resize(start + CRC_OFFSET, 0);
        let crc = crc32c::crc32c(&self.buffer[start..]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        if self.buffer.len() == WRITE_BYTES {
            self.write_buffer()
        } else {
            Ok(())
        }
    }

    fn write_buffer(&mut self) -> Result<(), DedupError> {
        self.file
            .write_all_paced_at(&self.buffer, self.offset)
            .map_err(at(&self.temporary))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Durability: on `Ok`, the run survives a power cut under its own name.
    fn publish(mut self) -> Result<Run, DedupError> {
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        let mut footer = [0; 24];
        footer[..8].copy_from_slice(FOOTER_MAGIC);
        footer[8..16].copy_from_slice(&(self.fences.len() as u64).to_le_bytes());
        footer[16..].copy_from_slice(&self.count.to_le_bytes());
        self.add_block(&footer, &[])?;
        self.write_buffer()?;
        self.file.sync_all().map_err(at(&self.temporary))?;
        self.filesystem
            .rename(&self.temporary, &self.path)
            .map_err(at(&self.path))?;
        CrashPoint::DedupRunNamed.pass();
        self.filesystem
            .sync_dir(self.directory)
            .map_err(at(self.directory))?;
        Ok(Run {
            path: self.path,
            first: self.span.first,
            last: self.span.last,
            oldest_ms: self.span.oldest_ms,
            newest_ms: self.span.newest_ms,
            count: self.count,
            file: self.file,
            filter: self.filter,
            fences: self.fences,
            doubted: AtomicBool::new(false),
            failed_checks: AtomicU32::new(0),
        })
    }
}

/// Writes a generation as a run. Cost: sorts a copy; about 0.1 s for half a million ids.
pub(crate) fn spill(
    filesystem: &dyn Filesystem,
    directory: &Path,
    span: RunSpan,
    ids: &HashTable<u128>,
) -> Result<Run, DedupError> {
    let mut sorted: Vec<u128> = ids.iter().copied().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut writer = RunWriter::create(filesystem, directory, span, sorted.len() as u64)?;
    for key in sorted {
        writer.add(key)?;
    }
    writer.publish()
}

/// Merges runs into one that stands for all of them. On `Err` nothing has changed; if one of them
/// can't be read, that one is doubted.
pub(crate) fn merge(
    filesystem: &dyn Filesystem,
    directory: &Path,
    span: RunSpan,
    runs: &[Arc<Run>],
) -> Result<Run, DedupError> {
    let count = runs.iter().map(|run| run.count).sum();
    let mut writer = RunWriter::create(filesystem, directory, span, count)?;
    let mut cursors: Vec<RunCursor> = runs
        .iter()
        .map(|run| RunCursor::new(Arc::clone(&run.file), run.fences.len() as u64))
        .collect();
    let mut heads = Vec::with_capacity(runs.len());
    for index in 0..runs.len() {
        heads.push(next(&runs[index], &mut cursors[index])?);
    }
    // At most a handful of runs at once: a scan of the heads beats a heap.
    while let Some(lowest) = heads.iter().flatten().copied().min() {
        writer.add(lowest)?;
        for index in 0..heads.len() {
            if heads[index] == Some(lowest) {
                heads[index] = next(&runs[index], &mut cursors[index])?;
            }
        }
    }
    writer.publish()
}

/// The next id, or `None` at the end.
fn next(run: &Run, cursor: &mut RunCursor) -> Result<Option<u128>, DedupError> {
    let next = cursor.next_key().map_err(|fault| run.doubt(fault))?;
    Ok(next.map(|(_, key)| key))
}

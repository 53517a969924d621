//! Writes commit groups. Knows nothing of threads: each call writes and syncs one group.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_disk::{CrashPoint, File, Filesystem};
use penstock_model::{Clock, LaneId, Position};

use crate::LogRecord;
use crate::error::{Context, LogError};
use crate::format::{
    self, BLOCK, BLOCK_BYTES, FRAME_HEADER_BYTES, FileHeader, GROUP_HEADER_BYTES, GroupHeader,
};
use crate::index::{FileEntry, Index};
use crate::prepare::{Prepared, Preparer};

/// Payloads up to this size are copied next to their frame headers: below it, one more slice for
/// the kernel costs more than the copy.
const MAX_COPIED_PAYLOAD_BYTES: usize = 1024;

/// Room kept in the reused buffer between groups; a rare huge group gives the rest back.
const MAX_KEPT_SCRATCH_BYTES: usize = 8 * 1024 * 1024;

static PADDING: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The file that is being written.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    sequence: u64,
    generation: u64,
    seed: u32,
    file: Arc<dyn File>,
    lane: LaneId,
    released: Option<u64>,
    disk_bytes: u64,
    /// Where the next group goes; zero before the first, which is written with the first block.
    offset: u64,
    /// Behind the last frame that is known to be synced.
    synced_end: u64,
}

#[derive(Debug)]
pub(crate) struct Writer {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    file_bytes: u64,
    clock: Arc<dyn Clock>,
    preparer: Arc<Preparer>,
    index: Arc<Mutex<Index>>,
    current: Option<Current>,
    /// Last record that was synced: the previous position of the next one.
    synced: Position,
    scratch: Vec<u8>,
    /// For each payload that is not copied: where it goes in `scratch`, and whose it is.
    cuts: Vec<(usize, usize)>,
}

impl Writer {
    pub(crate) fn new(
        filesystem: Arc<dyn Filesystem>,
        directory: PathBuf,
        file_bytes: u64,
        clock: Arc<dyn Clock>,
        preparer: Arc<Preparer>,
        index: Arc<Mutex<Index>>,
        synced: Position,
    ) -> Self {
        Self {
            filesystem,
            directory,
            file_bytes,
            clock,
            preparer,
            index,
            current: None,
            synced,
            scratch: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// Writes a group and syncs it.
    ///
    /// Durability: on `Ok`, all its records survive a power cut. On `Err`, none, some or all may
    /// be on disk; nothing may be written before [`Self::reopen`].
    pub(crate) fn write_synced<R: LogRecord>(
        &mut self,
        lane: LaneId,
        group: &[(Position, R)],
    ) -> Result<(), LogError> {
        let (Some((first, _)), Some((last, _))) = (group.first(), group.last()) else {
            return Ok(());
        };
        let frames_bytes: u64 = group.iter().map(|(_, record)| frame_bytes(record)).sum();
        let group_bytes = GROUP_HEADER_BYTES as u64 + frames_bytes;
        let mut current = self.file_for(lane, group_bytes)?;
        let is_new = current.offset == 0;
        let group_offset = current.offset.max(BLOCK);
        let header = GroupHeader {
            generation: current.generation,
            sequence: current.sequence,
            lane,
            first: *first,
            previous: self.synced,
            synced_up_to: self.synced,
            frames_bytes,
            count: u32::try_from(group.len()).unwrap_or(u32::MAX),
        };
        if is_new {
            let first_block = FileHeader {
                sequence: current.sequence,
                generation: current.generation,
                lane,
                first: *first,
                previous: self.synced,
                created_at_us: self.clock.unix_micros(),
            };
            self.scratch
                .extend_from_slice(&first_block.encode(current.released));
        }
        self.scratch.extend_from_slice(&header.encode());
        self.encode_frames(current.seed, group);
        let result = self.write_scratch(&current, group);
        self.scratch.clear();
        self.scratch.shrink_to(MAX_KEPT_SCRATCH_BYTES);
        self.cuts.clear();
        // Kept also after an error: reopening cuts what was not synced.
        let path = current.path.clone();
        if result.is_ok() {
            current.synced_end = group_offset + group_bytes;
            current.offset = header.end(group_offset);
            self.note_synced(
                &current,
                group_offset,
                (*first, *last),
                group.len() as u64,
                is_new,
            );
        }
        self.current = Some(current);
        result.context("write and sync", &path)
    }

    /// The current file, or the next one if the group does not fit.
    fn file_for(&mut self, lane: LaneId, group_bytes: u64) -> Result<Current, LogError> {
        if let Some(current) = self.current.take() {
            let end = current.offset.max(BLOCK).saturating_add(group_bytes);
            // A group larger than a whole file makes a larger file, alone.
            if current.lane == lane && (end <= self.file_bytes || current.offset <= BLOCK) {
                return Ok(current);
            }
            self.close(&current);
        }
        let Prepared {
            path,
            sequence,
            file,
            released,
            disk_bytes,
        } = self.preparer.take()?;
        CrashPoint::WalRolled.pass();
        let generation = random_u64().context("draw a generation for", &path)?;
        Ok(Current {
            path,
            sequence,
            generation,
            seed: format::frame_seed(generation),
            file,
            lane,
            released,
            disk_bytes,
            offset: 0,
            synced_end: 0,
        })
    }

    fn encode_frames<R: LogRecord>(&mut self, seed: u32, group: &[(Position, R)]) {
        let mut previous = self.synced;
        for (index, (position, record)) in group.iter().enumerate() {
            let (context, payload) = (record.context(), record.payload());
            let known = record.payload_checksum();
            let header =
                format::encode_frame_header(seed, *position, previous, context, payload, known);
            self.scratch.extend_from_slice(&header);
            self.scratch.extend_from_slice(context);
            if payload.len() <= MAX_COPIED_PAYLOAD_BYTES {
                self.scratch.extend_from_slice(payload);
            } else {
                self.cuts.push((self.scratch.len(), index));
            }
            previous = *position;
        }
    }

    /// Writes what `scratch` holds, with the payloads that it leaves out, and syncs.
    fn write_scratch<R: LogRecord>(
        &self,
        current: &Current,
        group: &[(Position, R)],
    ) -> std::io::Result<()> {
        let mut slices = Vec::with_capacity(2 * self.cuts.len() + 2);
        let mut start = 0;
        let mut len = self.scratch.len();
        for (end, index) in &self.cuts {
            let payload = group[*index].1.payload();
            slices.push(IoSlice::new(&self.scratch[start..*end]));
            slices.push(IoSlice::new(payload));
            len += payload.len();
            start = *end;
        }
        if start < self.scratch.len() {
            slices.push(IoSlice::new(&self.scratch[start..]));
        }
        let padding = len.next_multiple_of(BLOCK_BYTES) - len;
        slices.push(IoSlice::new(&PADDING[..padding]));
        current
            .file
            .write_all_vectored_at(&slices, current.offset)?;
        CrashPoint::WalGroupWritten.pass();
        current.file.sync_data()?;
        // The pages serve the next group again: new ones for every group cost more than the copy.
        current
            .file
            .forget_cached(current.offset, (len + padding) as u64);
        Ok(())
    }

    fn note_synced(
        &mut self,
        current: &Current,
        group_offset: u64,
        (first, last): (Position, Position),
        records: u64,
        is_new: bool,
    ) {
        let mut index = self.index.lock();
        if is_new {
            index.files.push_back(FileEntry::new(
                current.path.clone(),
                current.sequence,
                current.generation,
                current.lane,
                (self.synced, first),
            ));
        }
        if let Some(entry) = index.files.back_mut() {
            entry.add(
                Some(group_offset),
                (first, last),
                records,
                current.synced_end,
            );
            entry.disk_bytes = current.disk_bytes.max(current.offset);
        }
        self.synced = last;
    }

    fn close(&self, current: &Current) {
        if current.offset > 0
            && let Some(entry) = self.index.lock().files.back_mut()
        {
            entry.closed = true;
        }
    }

    /// After a failure: cuts the current file behind the last good sync, syncs that, and makes sure
    /// of a new file.
    ///
    /// The failed sync is not retried: what it was about is thrown away, and everything before it
    /// was synced by a call that succeeded. On `Err`, may be tried again.
    pub(crate) fn reopen(&mut self) -> Result<(), LogError> {
        if let Some(current) = &self.current {
            let path = &current.path;
            current
                .file
                .set_len(current.synced_end)
                .context("cut", path)?;
            current.file.sync_all().context("sync", path)?;
            if current.synced_end == 0 {
                match self.filesystem.remove_file(path) {
                    // An earlier try came as far as this.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.context("remove", path)?,
                }
                self.filesystem
                    .sync_dir(&self.directory)
                    .context("sync", &self.directory)?;
            } else if let Some(entry) = self.index.lock().files.back_mut() {
                entry.closed = true;
                entry.disk_bytes = current.synced_end;
            }
            self.current = None;
        }
        self.preparer.ensure()
    }
}

/// Bytes that a record takes in its file.
pub(crate) fn frame_bytes(record: &impl LogRecord) -> u64 {
    FRAME_HEADER_BYTES as u64 + record.context().len() as u64 + record.payload().len() as u64
}

fn random_u64() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Fills `bytes` from the system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        filled += rustix::io::retry_on_intr(|| {
            rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())
        })?;
    }
    Ok(())
}

//! Reads synced records in log order, in the process that writes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use penstock_disk::Filesystem;
use penstock_model::{LaneId, Payload, Position};

use crate::error::{Context, LogError};
use crate::index::{FileEntry, Index};
use crate::scan::{BadRange, Bounds, FrameBlock, Piece, Scanner};

/// A record as it was appended.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    pub lane: LaneId,
    pub position: Position,
    pub context: Vec<u8>,
    /// Shares the bytes of its whole commit group, which stay in memory as long as it does.
    pub payload: Payload,
}

/// Why positions have no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// Given up after a failure, or cut with a torn tail: never acknowledged at `disk`.
    Passed,
    /// Synced once, and unreadable or lost; see [`crate::Recovery`].
    Damaged,
    /// Released before they were read.
    Released,
}

/// Positions without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub first: Position,
    pub last: Position,
    pub kind: GapKind,
}

/// Bytes of the log that a reader found unreadable; for [`crate::Log::keep_damage`].
#[derive(Clone, Debug)]
#[must_use = "damage is to be kept aside and reported (WAL-2)"]
pub struct DamagedRange {
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) bad: BadRange,
}

/// What comes next in the log.
#[derive(Clone, Debug)]
pub enum LogItem {
    Record(ReadRecord),
    Gap(Gap),
}

/// Reads the log forwards. Holds one commit group in memory.
pub struct LogReader {
    filesystem: Arc<dyn Filesystem>,
    index: Arc<Mutex<Index>>,
    /// The log's last synced record.
    durable: Arc<AtomicU64>,
    /// Everything up to here was given out.
    after: Position,
    open: Option<(u64, Scanner)>,
    pending: VecDeque<LogItem>,
    damaged: Vec<DamagedRange>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogReader")
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    pub(crate) fn new(
        filesystem: Arc<dyn Filesystem>,
        index: Arc<Mutex<Index>>,
        durable: Arc<AtomicU64>,
        after: Position,
    ) -> Self {
        Self {
            filesystem,
            index,
            durable,
            after,
            open: None,
            pending: VecDeque::new(),
            damaged: Vec::new(),
        }
    }

    /// The next record or gap; `None` at the end of what is synced now. May be asked again later.
    ///
    /// An error leaves the reader where it was.
    pub fn next_item(&mut self) -> Result<Option<LogItem>, LogError> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                self.after = match &item {
                    LogItem::Record(record) => record.position,
                    LogItem::Gap(gap) => gap.last,
                };
                return Ok(Some(item));
            }
            // Before the index, which is filled first: a record that is in neither is damaged.
            let durable = Position::new(self.durable.load(Ordering::Acquire));
            let found = {
                let index = self.index.lock();
                let oldest = index.files.front().map(|file| file.sequence);
                index
                    .find(self.after)
                    .map(|file| (file.clone(), oldest == Some(file.sequence)))
            };
            let Some((entry, is_oldest)) = found else {
                // The last records that were synced may be damaged; then no file lists them.
                self.push_gap(self.after, durable, GapKind::Damaged);
                if self.pending.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            if self.after < entry.first.previous() {
                self.note_gap_before(&entry, is_oldest);
            } else {
                self.read_on(&entry)?;
            }
        }
    }

    /// Takes the bad ranges that were met since this was last called. No record need be missing in
    /// them: a group's header may be hit alone.
    pub fn take_damage(&mut self) -> Vec<DamagedRange> {
        std::mem::take(&mut self.damaged)
    }

    fn push_gap(&mut self, after: Position, last: Position, kind: GapKind) {
        if last > after {
            self.pending.push_back(LogItem::Gap(Gap {
                first: after.next(),
                last,
                kind,
            }));
        }
    }

    /// Positions between the last record given out and the first of this file.
    fn note_gap_before(&mut self, entry: &FileEntry, is_oldest: bool) {
        let kind = if is_oldest {
            GapKind::Released
        } else {
            GapKind::Damaged
        };
        self.push_gap(self.after, entry.previous, kind);
        let passed_after = self.after.max(entry.previous);
        let passed_up_to = entry.begins.previous();
        self.push_gap(passed_after, passed_up_to, GapKind::Passed);
        self.push_gap(
            passed_after.max(passed_up_to),
            entry.first.previous(),
            GapKind::Damaged,
        );
    }

    fn is_in_log(&self, entry: &FileEntry) -> bool {
        self.index
            .lock()
            .files
            .iter()
            .any(|file| file.sequence == entry.sequence)
    }

    /// Reads the next group of the file.
    fn read_on(&mut self, entry: &FileEntry) -> Result<(), LogError> {
        let (piece, scanner) = match self.scan(entry) {
            Ok(scanned) => scanned,
            Err(_) if !self.is_in_log(entry) => {
                self.push_gap(self.after, entry.last, GapKind::Released);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.open = Some((entry.sequence, scanner));
        match piece {
            Piece::Frames(block) => self.take_frames(entry.lane, &block),
            Piece::Bad(bad) => {
                let in_log = self.is_in_log(entry);
                let kind = if in_log {
                    GapKind::Damaged
                } else {
                    GapKind::Released
                };
                self.push_gap(bad.after.max(self.after), bad.last, kind);
                if in_log {
                    self.damaged.push(DamagedRange {
                        sequence: entry.sequence,
                        generation: entry.generation,
                        bad,
                    });
                }
            }
            // The bounds say that there is more, so an end comes only behind a bad range that
            // covers the rest; this keeps the reader moving in any case.
            Piece::End(_) => self.push_gap(self.after, entry.last, GapKind::Damaged),
        }
        Ok(())
    }

    fn scan(&mut self, entry: &FileEntry) -> Result<(Piece, Scanner), LogError> {
        let mut scanner = match self.open.take() {
            Some((sequence, scanner)) if sequence == entry.sequence => scanner,
            _ => {
                let file = self
                    .filesystem
                    .open_read(&entry.path)
                    .context("open", &entry.path)?;
                let (before, offset) = entry.seek(self.after);
                Scanner::new(file, entry.sequence, entry.generation, offset, before)
            }
        };
        // All of it is synced, and up to its last record it is there or damaged.
        let bounds = Bounds {
            end: entry.end,
            expected: Some(entry.last),
            synced: entry.last,
        };
        let piece = scanner.next(bounds).context("read", &entry.path)?;
        Ok((piece, scanner))
    }

    fn take_frames(&mut self, lane: LaneId, block: &FrameBlock) {
        for frame in &block.frames {
            if frame.position > self.after {
                self.pending.push_back(LogItem::Record(ReadRecord {
                    lane,
                    position: frame.position,
                    context: block.bytes.as_slice()[frame.context.clone()].to_vec(),
                    payload: block.bytes.slice(frame.payload.clone()),
                }));
            }
        }
    }
}

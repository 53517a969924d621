//! Which files make up the log, and what they hold. In memory only.

use std::collections::VecDeque;
use std::path::PathBuf;

use penstock_model::{LaneId, Position};

use crate::format::BLOCK;
use crate::seal::{self, SealTag};

/// Distance of the entries by which a position is found in a file: 64 entries for a file of 64 MiB.
const MARK_BYTES: u64 = 1024 * 1024;

/// One file of the log.
#[derive(Clone, Debug)]
pub(crate) struct FileEntry {
    pub(crate) path: PathBuf,
    /// As in the groups' headers.
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) lane: LaneId,
    /// The record before the file's first.
    pub(crate) previous: Position,
    /// The first record that was written in the file; those between it and `first` are damaged.
    pub(crate) begins: Position,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) records: u64,
    /// Offset behind the last synced frame.
    pub(crate) end: u64,
    /// Bytes on disk that a release gives back.
    pub(crate) disk_bytes: u64,
    /// No more records will come.
    pub(crate) closed: bool,
    /// The tag of its seal, if it has one.
    pub(crate) seal: Option<SealTag>,
    /// Bytes of it can't be read: it gets no seal, so that each opening looks again.
    pub(crate) damaged: bool,
    /// Group offsets, and the record before each group.
    marks: Vec<(Position, u64)>,
}

impl FileEntry {
    pub(crate) fn new(
        path: PathBuf,
        sequence: u64,
        generation: u64,
        lane: LaneId,
        (previous, begins): (Position, Position),
    ) -> Self {
        Self {
            path,
            sequence,
            generation,
            lane,
            previous,
            begins,
            first: Position::ZERO,
            last: Position::ZERO,
            records: 0,
            end: BLOCK,
            disk_bytes: 0,
            closed: false,
            seal: None,
            damaged: false,
            marks: Vec::new(),
        }
    }

    /// Adds records, of the group at `group_offset` or found without a group's header.
    pub(crate) fn add(
        &mut self,
        group_offset: Option<u64>,
        (first, last): (Position, Position),
        records: u64,
        end: u64,
    ) {
        let before = if self.records == 0 {
            self.previous
        } else {
            self.last
        };
        if let Some(group_offset) = group_offset
            && self
                .marks
                .last()
                .is_none_or(|(_, offset)| offset + MARK_BYTES <= group_offset)
        {
            self.marks.push((before, group_offset));
        }
        if self.records == 0 {
            self.first = first;
        }
        self.last = last;
        self.records += records;
        self.end = end;
    }

    /// Takes over what a seal tells of the file's records.
    pub(crate) fn restore(
        &mut self,
        (first, last): (Position, Position),
        records: u64,
        end: u64,
        marks: Vec<(Position, u64)>,
    ) {
        (self.first, self.last) = (first, last);
        self.records = records;
        self.end = end;
        self.marks = marks;
    }

    pub(crate) fn marks(&self) -> &[(Position, u64)] {
        &self.marks
    }

    /// Whether the file is to be sealed with `tag`.
    fn wants_seal(&self, tag: &SealTag) -> bool {
        self.closed
            && !self.damaged
            && self.seal.as_ref() != Some(tag)
            && seal::fits(self.marks.len())
    }

    /// A group offset at or before the record after `after`, and the record before that group.
    pub(crate) fn seek(&self, after: Position) -> (Position, u64) {
        let index = self.marks.partition_point(|(before, _)| *before <= after);
        index
            .checked_sub(1)
            .map_or((self.previous, BLOCK), |index| self.marks[index])
    }

    /// Records and bytes behind `after`; bytes are exact to 1 MiB.
    fn backlog(&self, after: Position) -> (u64, u64) {
        if after < self.first {
            return (self.records, self.end - BLOCK.min(self.end));
        }
        if after >= self.last {
            return (0, 0);
        }
        let records = (self.last.get() - after.get()).min(self.records);
        (records, self.end.saturating_sub(self.seek(after).1))
    }
}

/// A lane's records that are still in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSpan {
    pub lane: LaneId,
    pub first: Position,
    pub last: Position,
}

/// The files, oldest first. Files without records are not listed.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) files: VecDeque<FileEntry>,
}

impl Index {
    pub(crate) fn lanes(&self) -> Vec<LaneSpan> {
        let mut spans: Vec<LaneSpan> = Vec::new();
        for file in &self.files {
            match spans.last_mut() {
                Some(span) if span.lane == file.lane => span.last = file.last,
                _ => spans.push(LaneSpan {
                    lane: file.lane,
                    first: file.first,
                    last: file.last,
                }),
            }
        }
        spans
    }

    /// The file that holds the first record after `after`.
    pub(crate) fn find(&self, after: Position) -> Option<&FileEntry> {
        self.files
            .get(self.files.partition_point(|file| file.last <= after))
    }

    pub(crate) fn backlog(&self, after: Position) -> (u64, u64) {
        let from = self.files.partition_point(|file| file.last <= after);
        self.files
            .range(from..)
            .fold((0, 0), |(records, bytes), file| {
                let (more_records, more_bytes) = file.backlog(after);
                (records + more_records, bytes + more_bytes)
            })
    }

    /// The newest file that is to be sealed with `tag`.
    pub(crate) fn newest_unsealed(&self, tag: &SealTag) -> Option<&FileEntry> {
        self.files.iter().rev().find(|file| file.wants_seal(tag))
    }

    /// The oldest file that is to be sealed with `tag`.
    pub(crate) fn oldest_unsealed(&self, tag: &SealTag) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.wants_seal(tag))
    }

    /// The file with this number.
    pub(crate) fn file_mut(&mut self, sequence: u64) -> Option<&mut FileEntry> {
        self.files.iter_mut().find(|file| file.sequence == sequence)
    }

    /// Spans of records, as (before, last), in files that have no seal with `tag`; neighbours are one.
    pub(crate) fn spans_without(&self, tag: Option<&SealTag>) -> Vec<(Position, Position)> {
        let mut spans: Vec<(Position, Position)> = Vec::new();
        for file in &self.files {
            if tag.is_some() && file.seal.as_ref() == tag {
                continue;
            }
            match spans.last_mut() {
                Some(span) if span.1 >= file.previous => span.1 = file.last,
                _ => spans.push((file.previous, file.last)),
            }
        }
        spans
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.end).sum()
    }
}

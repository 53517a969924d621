//! Reads one log file: whole frames in order, bad bytes between them, and where it ends.
//!
//! The same scan serves recovery, readers of this process and readers of another one; they differ in
//! what they know to be synced, which is what tells damage from a torn tail (WAL-2).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use penstock_disk::File;
use penstock_model::{LaneId, Payload, Position};

use crate::format::{
    self, BLOCK, BLOCK_BYTES, FRAME_HEADER_BYTES, FirstBlock, Frame, GROUP_HEADER_BYTES,
    GroupHeader, align_up,
};
use crate::group_buffers::{GroupBuffer, GroupBuffers};

/// Bytes read at a time when the next group is searched behind bad bytes.
const SEARCH_BYTES: usize = 1024 * 1024;

/// What is known about the file from elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes behind this offset are not looked at.
    pub(crate) end: u64,
    /// Last position in the file, if known: from the file after it. Frames behind it were
    /// discarded; if it is not reached, that is damage.
    pub(crate) expected: Option<Position>,
    /// Everything up to here was synced, so bad bytes before it are damage.
    pub(crate) synced: Position,
}

impl Bounds {
    fn limit(&self) -> Position {
        self.expected.unwrap_or(Position::new(u64::MAX))
    }

    /// True if nothing that was synced can come after `last`.
    fn may_end_after(&self, last: Position) -> bool {
        self.expected
            .map_or(last >= self.synced, |expected| last >= expected)
    }
}

/// Whole frames that stand together.
#[derive(Clone, Debug)]
pub(crate) struct FrameBlock {
    pub(crate) bytes: Payload,
    /// Offset in the file of the first of `bytes`.
    pub(crate) base: u64,
    pub(crate) frames: Vec<Frame>,
    /// Offset of the group; `None` for frames that were found without their group's header.
    pub(crate) group_offset: Option<u64>,
}

/// Bytes before the end of what was synced that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The record before the missing ones.
    pub(crate) after: Position,
    /// The last missing one; equal to `after` if none is missing.
    pub(crate) last: Position,
}

/// Where the whole frames of a file end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    /// Behind it stands the beginning of a group that was not written whole.
    pub(crate) torn_end: Option<u64>,
    /// Last position that the torn group was to hold; zero if unknown.
    pub(crate) promised: Position,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Frames(FrameBlock),
    Bad(BadRange),
    End(Tail),
}

/// What a file is, as far as its beginning tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Live(LiveFile),
    /// No longer part of the log.
    Released,
    /// Prepared and not used, or its first write was lost.
    Blank,
    Newer {
        version: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveFile {
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) lane: LaneId,
    pub(crate) first: Position,
    pub(crate) previous: Position,
    pub(crate) created_at_us: i64,
    /// False if this was read from a group, because the first block is not whole.
    pub(crate) header_whole: bool,
    /// The earlier generation that the first block declares released.
    pub(crate) released: Option<u64>,
}

/// Reads the first block; a file shorter than it reads as if zeros followed.
pub(crate) fn read_first_block(file: &dyn File) -> io::Result<[u8; BLOCK_BYTES]> {
    let mut block = [0; BLOCK_BYTES];
    file.read_at(&mut block, 0)?;
    Ok(block)
}

/// Finds out what a file is. `sequence` is the number in its name.
pub(crate) fn identify(file: &dyn File, sequence: u64) -> io::Result<Identity> {
    let block = read_first_block(file)?;
    let released = format::decode_release(&block);
    match format::decode_header(&block) {
        FirstBlock::Newer { version } => Ok(Identity::Newer { version }),
        FirstBlock::Header(header)
            if released == Some(header.generation) || header.sequence != sequence =>
        {
            // Only a released file gets another name, for its next use.
            Ok(Identity::Released)
        }
        FirstBlock::Header(header) => Ok(Identity::Live(LiveFile {
            sequence: header.sequence,
            generation: header.generation,
            lane: header.lane,
            first: header.first,
            previous: header.previous,
            created_at_us: header.created_at_us,
            header_whole: true,
            released,
        })),
        FirstBlock::Blank => {
            let ours = |group: &GroupHeader| {
                group.sequence == sequence && Some(group.generation) != released
            };
            let found = find_group(file, BLOCK, file.len()?, ours)?;
            Ok(found.map_or(Identity::Blank, |(_, group)| {
                Identity::Live(LiveFile {
                    sequence,
                    generation: group.generation,
                    lane: group.lane,
                    first: group.first,
                    previous: group.previous,
                    created_at_us: 0,
                    header_whole: false,
                    released,
                })
            }))
        }
    }
}

/// The first group header at or after `from` that `ours` takes.
pub(crate) fn find_group(
    file: &dyn File,
    from: u64,
    end: u64,
    ours: impl Fn(&GroupHeader) -> bool,
) -> io::Result<Option<(u64, GroupHeader)>> {
    let Some(mut offset) = align_up(from) else {
        return Ok(None);
    };
    if offset >= end {
        return Ok(None);
    }
    let mut buffer = search_buffer(offset, end);
    while offset < end {
        let wanted = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = file.read_at(&mut buffer[..wanted], offset)?;
        if count == 0 {
            break;
        }
        let found = buffer[..count]
            .chunks(BLOCK_BYTES)
            .zip(0u64..)
            .find_map(|(block, index)| {
                GroupHeader::decode(block)
                    .filter(|header| ours(header))
                    .map(|header| (offset + index * BLOCK, header))
            });
        if found.is_some() {
            return Ok(found);
        }
        offset += buffer.len() as u64;
    }
    Ok(None)
}

/// Room for the bytes from `from` to `end`, or for the first [`SEARCH_BYTES`] of them.
fn search_buffer(from: u64, end: u64) -> Vec<u8> {
    let len = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
    vec![0; len.min(SEARCH_BYTES)]
}

/// True if a byte from `from` to `end` is not zero.
pub(crate) fn has_bytes(file: &dyn File, from: u64, end: u64) -> io::Result<bool> {
    let mut buffer = search_buffer(from, end);
    let mut offset = from;
    while offset < end {
        let wanted = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = file.read_at(&mut buffer[..wanted], offset)?;
        if count == 0 {
            break;
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        offset += count as u64;
    }
    Ok(false)
}

/// What stands in a file that [`identify`] calls blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Zeros: it was prepared and not used.
    Nothing,
    /// The first write of the file's use, and it was torn: no record in it was ever synced.
    TornWrite,
    /// There may be records, of which no header is whole.
    Damaged,
}

/// Tells a blank file that was never synced from one that rotted.
///
/// A torn write leaves what was there before, or what was written, in whole sectors and up to some
/// byte. So the first group's header is not touched, and what is touched behind it is no header.
/// Anything else is taken for damage. Cost: reads the file once.
pub(crate) fn remains(file: &dyn File) -> io::Result<Remains> {
    let len = file.len()?;
    if !has_bytes(file, 0, len)? {
        return Ok(Remains::Nothing);
    }
    if !has_bytes(file, BLOCK + GROUP_HEADER_BYTES as u64, len)? {
        return Ok(Remains::TornWrite);
    }
    let mut first = [0; GROUP_HEADER_BYTES];
    file.read_at(&mut first, BLOCK)?;
    // A header of an earlier use is whole, and is not this file's, or the file were not blank.
    let untouched = first.iter().all(|byte| *byte == 0) || GroupHeader::decode(&first).is_some();
    if !untouched || has_broken_header(file, len)? {
        return Ok(Remains::Damaged);
    }
    Ok(Remains::TornWrite)
}

fn has_broken_header(file: &dyn File, len: u64) -> io::Result<bool> {
    let mut buffer = search_buffer(BLOCK, len);
    let mut offset = BLOCK;
    while offset < len {
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        let broken =
            |block: &[u8]| GroupHeader::has_magic(block) && GroupHeader::decode(block).is_none();
        if buffer[..count].chunks(BLOCK_BYTES).any(broken) {
            return Ok(true);
        }
        offset += buffer.len() as u64;
    }
    Ok(false)
}

/// Goes through the groups of one file.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    sequence: u64,
    generation: u64,
    seed: u32,
    offset: u64,
    last: Position,
    pieces: VecDeque<Piece>,
    buffers: GroupBuffers,
}

impl Scanner {
    /// Starts at `offset`, where a group begins, behind the record at `last`.
    pub(crate) fn new(
        file: Arc<dyn File>,
        sequence: u64,
        generation: u64,
        offset: u64,
        last: Position,
    ) -> Self {
        let seed = format::frame_seed(generation);
        Self {
            file,
            sequence,
            generation,
            seed,
            offset,
            last,
            pieces: VecDeque::new(),
            buffers: GroupBuffers::default(),
        }
    }

    /// The next piece. After `End`, asking again looks again at the same place: a file that is
    /// still written may have grown.
    ///
    /// Cost: holds one group in memory.
    pub(crate) fn next(&mut self, bounds: Bounds) -> io::Result<Piece> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(piece);
            }
            self.step(bounds)?;
        }
    }

    fn is_ours(&self, header: &GroupHeader) -> bool {
        header.generation == self.generation
            && header.sequence == self.sequence
            && header.first > self.last
    }

    fn step(&mut self, bounds: Bounds) -> io::Result<()> {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let mut present = 0;
        if self.offset < bounds.end {
            let wanted = usize::try_from(bounds.end - self.offset).unwrap_or(usize::MAX);
            present = self
                .file
                .read_at(&mut bytes[..wanted.min(GROUP_HEADER_BYTES)], self.offset)?;
        }
        let bytes = &bytes[..present];
        match GroupHeader::decode(bytes).filter(|header| self.is_ours(header)) {
            Some(header) if header.first > bounds.limit() => self.end(None, Position::ZERO),
            Some(header) => {
                self.miss(self.offset, self.offset, header.previous);
                self.read_group(header, bounds)?;
            }
            None if bounds.may_end_after(self.last) => {
                let torn = GroupHeader::trace_of(bytes, self.generation)
                    || self.frame_without_header(bounds)?;
                let torn_end = bounds.end.min(self.offset.saturating_add(BLOCK));
                self.end(torn.then_some(torn_end), Position::ZERO);
            }
            None => self.skip_bad_group(bounds)?,
        }
        Ok(())
    }

    /// True if a whole frame of this use of the file stands where the first one of a group would: its
    /// header rotted, so that nothing in it can be trusted, not even whose it was.
    fn frame_without_header(&self, bounds: Bounds) -> io::Result<bool> {
        let start = self.offset.saturating_add(GROUP_HEADER_BYTES as u64);
        let mut header = [0; FRAME_HEADER_BYTES];
        if self.file.read_at(&mut header, start)? < header.len() {
            return Ok(false);
        }
        let Some(len) = Frame::len_by(&header, self.last, bounds.limit()) else {
            return Ok(false);
        };
        let end = start.saturating_add(len);
        if end > bounds.end {
            return Ok(false);
        }
        let bytes = self.read(start, end)?;
        let bytes = bytes.as_ref();
        Ok(Frame::decode(self.seed, bytes, 0, self.last, bounds.limit()).is_some())
    }

    fn end(&mut self, torn_end: Option<u64>, promised: Position) {
        let tail = Tail {
            offset: self.offset,
            torn_end,
            promised,
        };
        self.pieces.push_back(Piece::End(tail));
    }

    /// Notes that the records after the last one and up to `last` are missing, if any are.
    fn miss(&mut self, start: u64, end: u64, last: Position) {
        if last > self.last {
            let after = self.last;
            self.pieces.push_back(Piece::Bad(BadRange {
                start,
                end,
                after,
                last,
            }));
            self.last = last;
        }
    }

    /// A group header is damaged: takes what frames can be found without it, up to the next group.
    fn skip_bad_group(&mut self, bounds: Bounds) -> io::Result<()> {
        let start = self.offset;
        let next = find_group(
            &*self.file,
            start.saturating_add(BLOCK),
            bounds.end,
            |header| self.is_ours(header),
        )?;
        let (end, last) = match (next, bounds.expected) {
            (Some((offset, header)), _) => (offset, header.previous.min(bounds.limit())),
            (None, Some(expected)) => (bounds.end.max(start), expected),
            (None, None) => {
                // Records that were synced are gone and nothing tells how many were here.
                self.miss(start, bounds.end.max(start), bounds.synced);
                self.end(None, Position::ZERO);
                return Ok(());
            }
        };
        let bytes = self.read(start, end)?;
        self.walk(bytes, start, last, None, bounds);
        self.miss(start, end, last);
        if next.is_some() {
            self.offset = end;
        } else {
            self.end(None, Position::ZERO);
        }
        Ok(())
    }

    fn read(&self, start: u64, end: u64) -> io::Result<GroupBuffer> {
        let len = usize::try_from(end.saturating_sub(start))
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut bytes = self.buffers.take(len);
        let count = self.file.read_at(bytes.as_mut_slice(), start)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn read_group(&mut self, header: GroupHeader, bounds: Bounds) -> io::Result<()> {
        let start = self.offset;
        let frames_start = start + GROUP_HEADER_BYTES as u64;
        let nominal_end = frames_start.saturating_add(header.frames_bytes);
        let frames_end = nominal_end.min(bounds.end).max(frames_start);
        let bytes = self.read(frames_start, frames_end)?;
        let read_end = frames_start + bytes.len() as u64;
        let last = header.last().min(bounds.limit());
        let Some(whole_end) = self.walk(bytes, frames_start, last, Some(start), bounds) else {
            return Ok(());
        };
        if read_end < nominal_end {
            // Cut by recovery, or the file is shorter than it was.
            if let Some(expected) = bounds.expected {
                self.miss(read_end, read_end, expected);
            } else {
                self.miss(read_end, read_end, bounds.synced.min(last));
            }
            self.offset = if whole_end == frames_start {
                start
            } else {
                whole_end
            };
            self.end(None, header.last());
            return Ok(());
        }
        self.miss(whole_end, nominal_end, last);
        self.offset = align_up(nominal_end).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Takes whole frames out of `bytes`, which stand at `base`.
    ///
    /// Behind bad bytes that stand before the end of what was synced, the next whole frame is
    /// searched byte by byte; otherwise they are the torn tail, and `None` is returned after `End`
    /// was noted. Else returns the offset behind the last whole frame.
    fn walk(
        &mut self,
        bytes: GroupBuffer,
        base: u64,
        at_most: Position,
        group_offset: Option<u64>,
        bounds: Bounds,
    ) -> Option<u64> {
        let bytes = Payload::new(bytes);
        let mut frames: Vec<Frame> = Vec::new();
        let mut whole_end = 0;
        let mut torn = false;
        let mut at = 0;
        while at < bytes.len() && self.last < at_most {
            let Some(frame) = Frame::decode(self.seed, bytes.as_slice(), at, self.last, at_most)
            else {
                if bounds.may_end_after(self.last) {
                    torn = true;
                    break;
                }
                at += 1;
                continue;
            };
            if at > whole_end || frame.previous > self.last {
                // Bad bytes, even if no record is missing: only a group header was hit.
                self.push_frames(&bytes, base, &mut frames, group_offset);
                let (start, end) = (base + whole_end as u64, base + at as u64);
                let after = self.last;
                let last = frame.previous.max(after);
                self.pieces.push_back(Piece::Bad(BadRange {
                    start,
                    end,
                    after,
                    last,
                }));
            }
            self.last = frame.position;
            at = frame.end();
            whole_end = at;
            frames.push(frame);
        }
        self.push_frames(&bytes, base, &mut frames, group_offset);
        let whole_offset = base + whole_end as u64;
        if torn {
            // Nothing whole in this group: not even its header is of use.
            self.offset = match group_offset {
                Some(start) if whole_end == 0 => start,
                _ => whole_offset,
            };
            self.end(Some(base + bytes.len() as u64), at_most);
            return None;
        }
        Some(whole_offset)
    }

    fn push_frames(
        &mut self,
        bytes: &Payload,
        base: u64,
        frames: &mut Vec<Frame>,
        group_offset: Option<u64>,
    ) {
        if !frames.is_empty() {
            let frames = std::mem::take(frames);
            let bytes = bytes.clone();
            self.pieces.push_back(Piece::Frames(FrameBlock {
                bytes,
                base,
                frames,
                group_offset,
            }));
        }
    }
}

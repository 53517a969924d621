//! Reads and writes of recovery that stand on their own.

use std::io;
use std::path::Path;

use penstock_disk::{File, Filesystem};
use penstock_model::Position;

use crate::format::{
    self, BLOCK, BLOCK_BYTES, FileHeader, FirstBlock, GROUP_HEADER_BYTES, GroupHeader,
};
use crate::scan::{LiveFile, find_group, read_first_block};

/// Bytes copied at a time when whole frames are written again.
const COPY_BYTES: usize = 1024 * 1024;

/// The next group: where it should be, else searched.
fn find_next(
    file: &dyn File,
    offset: u64,
    end: u64,
    ours: &impl Fn(&GroupHeader) -> bool,
) -> io::Result<Option<(u64, GroupHeader)>> {
    let mut block = [0; GROUP_HEADER_BYTES];
    if offset < end
        && file.read_at(&mut block, offset)? == block.len()
        && let Some(header) = GroupHeader::decode(&block).filter(|header| ours(header))
    {
        return Ok(Some((offset, header)));
    }
    find_group(file, offset, end, ours)
}

/// How far the log is known to be synced, as far as this file says; zero if it doesn't.
pub(crate) fn synced_mark(file: &dyn File, live: &LiveFile) -> io::Result<Position> {
    let mut mark = if live.header_whole {
        live.previous
    } else {
        Position::ZERO
    };
    let len = file.len()?;
    let mut offset = BLOCK;
    let ours = |group: &GroupHeader| {
        group.generation == live.generation && group.sequence == live.sequence
    };
    while let Some((at, group)) = find_next(file, offset, len, &ours)? {
        mark = mark.max(group.synced_up_to);
        offset = group.end(at);
    }
    Ok(mark)
}

/// The first block as it was, or made from a group if it is not whole.
pub(crate) fn rebuild_header(live: &LiveFile) -> [u8; BLOCK_BYTES] {
    FileHeader {
        sequence: live.sequence,
        generation: live.generation,
        lane: live.lane,
        first: live.first,
        previous: live.previous,
        created_at_us: live.created_at_us,
    }
    .encode(live.released)
}

pub(crate) fn copy_in_place(file: &dyn File, start: u64, end: u64) -> io::Result<()> {
    let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; len.min(COPY_BYTES)];
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        file.read_exact_at(&mut buffer[..count], offset)?;
        file.write_all_at(&buffer[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}

pub(crate) fn read_range(
    filesystem: &dyn Filesystem,
    path: &Path,
    start: u64,
    end: u64,
) -> io::Result<Vec<u8>> {
    if start >= end {
        return Ok(Vec::new());
    }
    let file = filesystem.open_read(path)?;
    let end = end.min(file.len()?);
    let len = usize::try_from(end.saturating_sub(start))
        .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; len];
    let count = file.read_at(&mut bytes, start)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Marks a released file, which still has the header of its last use, as released and syncs.
pub(crate) fn mark_again(file: &dyn File) -> io::Result<()> {
    match format::decode_header(&read_first_block(file)?) {
        FirstBlock::Header(header) => mark_released(file, header.generation),
        FirstBlock::Blank | FirstBlock::Newer { .. } => Ok(()),
    }
}

/// Declares the file's present generation released, and syncs.
///
/// Durability: on `Ok`, no opening and no reader takes its records for part of the log.
pub(crate) fn mark_released(file: &dyn File, generation: u64) -> io::Result<()> {
    let mut block = read_first_block(file)?;
    format::put_release(&mut block, generation);
    file.write_all_at(&block, 0)?;
    file.sync_data()
}

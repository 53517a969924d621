//! The bytes of a log file. Format version 1.
//!
//! All numbers are little endian. CRC is CRC-32C. A file is named by its sequence number, 20 decimal
//! digits and `.wal`; a released file that waits for its next use is `.spare`, and `.seal` is the
//! short cut past a closed one (`seal.rs`). Files hold, from
//! offset 4,096 on, commit groups, each starting at a multiple of 4,096.
//!
//! Why groups are aligned: a group that began inside the last page of the one before would make the
//! device write that page again, and a power cut during that write could tear records that were
//! synced and acknowledged already. It costs 2 KiB a sync on average, and no write at all: the
//! kernel writes whole pages anyway. The padding is written as zeros, so that a recycled page need
//! not be read before it is changed in part.
//!
//! **First block**, 4,096 bytes, written together with the file's first group:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `PENSTWAL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | sequence number of the file |
//! | 24 | 8 | generation: random, drawn for each use of the file |
//! | 32 | 16 | lane |
//! | 48 | 8 | first position in the file |
//! | 56 | 8 | previous position: the last record in the log before it. Positions between the two were discarded: passed, no gap. All up to it were synced when this was written |
//! | 64 | 8 | when the file was begun, microseconds since 1970 |
//! | 72 | 4 | CRC of bytes 0 to 71 |
//! | 2048 | 8 | `PSWALREL`, or zeros |
//! | 2056 | 8 | released generation: groups and headers of this generation are no longer part of the log |
//! | 2064 | 4 | CRC of bytes 2048 to 2063 |
//!
//! The release mark has a sector of its own, which the next use writes unchanged: however a write
//! of this block is torn, released frames can't come back.
//!
//! **Group header**, 80 bytes, says all that is needed to use the group without the first block:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | `PSGR` |
//! | 4 | 4 | format version, 1 |
//! | 8 | 8 | generation |
//! | 16 | 8 | sequence number of the file |
//! | 24 | 16 | lane |
//! | 40 | 8 | position of the first frame; the others follow without holes |
//! | 48 | 8 | previous position, as above |
//! | 56 | 8 | `synced_up_to`: everything up to it was synced when this group was written |
//! | 64 | 8 | bytes of all frames, without this header and the padding |
//! | 72 | 4 | number of frames |
//! | 76 | 4 | CRC of bytes 0 to 75 |
//!
//! **Frame**, 28 bytes and the record:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | position; zero is what a preallocated file reads as, and is never one |
//! | 8 | 8 | previous position |
//! | 16 | 4 | bytes of context |
//! | 20 | 4 | bytes of payload |
//! | 24 | 4 | CRC of: generation (8 bytes), bytes 0 to 23, context, payload |
//! | 28 | | context, then payload |
//!
//! A file that ends (by its length) where a frame ends was cut there by recovery, whatever the
//! header of its last group says. What no valid group header announces is not part of the log: it
//! is preallocated space, or of an earlier generation.

use std::ops::Range;

use penstock_model::{LaneId, Position};

use crate::checksum::PayloadChecksum;

/// The format that this code writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
/// Alignment of groups: the page, and the largest block that common devices write at once.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// The same as a file offset.
pub(crate) const BLOCK: u64 = 4096;
pub(crate) const GROUP_HEADER_BYTES: usize = 80;
pub(crate) const FRAME_HEADER_BYTES: usize = 28;

const FILE_MAGIC: [u8; 8] = *b"PENSTWAL";
const RELEASE_MAGIC: [u8; 8] = *b"PSWALREL";
const GROUP_MAGIC: [u8; 4] = *b"PSGR";
const FILE_CHECKED: usize = 72;
const RELEASE_AT: usize = 2048;
const RELEASE_CHECKED: usize = 16;
const GROUP_CHECKED: usize = 76;
const FRAME_CHECKED: usize = 24;

/// Copies `N` bytes at `at`. Callers have checked the length.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[at..at + N]);
    taken
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The next multiple of the block size; `None` past the largest offset.
pub(crate) fn align_up(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(BLOCK)
}

/// First block of a file, without its release mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) lane: LaneId,
    pub(crate) first: Position,
    pub(crate) previous: Position,
    pub(crate) created_at_us: i64,
}

/// What the first block of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstBlock {
    Header(FileHeader),
    /// Made by a newer release.
    Newer {
        version: u32,
    },
    /// Nothing that can be read: prepared, torn or damaged.
    Blank,
}

impl FileHeader {
    /// The first block of a file whose earlier use, if any, was of generation `released`.
    pub(crate) fn encode(&self, released: Option<u64>) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        put(&mut block, 0, &FILE_MAGIC);
        put(&mut block, 8, &VERSION.to_le_bytes());
        put(&mut block, 16, &self.sequence.to_le_bytes());
        put(&mut block, 24, &self.generation.to_le_bytes());
        put(&mut block, 32, &self.lane.bytes());
        put(&mut block, 48, &self.first.get().to_le_bytes());
        put(&mut block, 56, &self.previous.get().to_le_bytes());
        put(&mut block, 64, &self.created_at_us.to_le_bytes());
        let checksum = crc32c::crc32c(&block[..FILE_CHECKED]);
        put(&mut block, FILE_CHECKED, &checksum.to_le_bytes());
        if let Some(generation) = released {
            put_release(&mut block, generation);
        }
        block
    }
}

/// Writes the mark that `generation` is released into a first block.
pub(crate) fn put_release(block: &mut [u8; BLOCK_BYTES], generation: u64) {
    put(block, RELEASE_AT, &RELEASE_MAGIC);
    put(block, RELEASE_AT + 8, &generation.to_le_bytes());
    let checksum = crc32c::crc32c(&block[RELEASE_AT..RELEASE_AT + RELEASE_CHECKED]);
    put(block, RELEASE_AT + RELEASE_CHECKED, &checksum.to_le_bytes());
}

/// Reads the header in a first block.
pub(crate) fn decode_header(block: &[u8; BLOCK_BYTES]) -> FirstBlock {
    if take::<8>(block, 0) != FILE_MAGIC {
        return FirstBlock::Blank;
    }
    let whole = u32_at(block, FILE_CHECKED) == crc32c::crc32c(&block[..FILE_CHECKED]);
    let version = u32_at(block, 8);
    if !whole || version == 0 {
        return FirstBlock::Blank;
    }
    // Every version keeps the checksum where it is, or it couldn't be told from damage.
    if version > VERSION {
        return FirstBlock::Newer { version };
    }
    FirstBlock::Header(FileHeader {
        sequence: u64_at(block, 16),
        generation: u64_at(block, 24),
        lane: LaneId::from_bytes(take(block, 32)),
        first: Position::new(u64_at(block, 48)),
        previous: Position::new(u64_at(block, 56)),
        created_at_us: i64::from_le_bytes(take(block, 64)),
    })
}

/// Reads the release mark in a first block.
pub(crate) fn decode_release(block: &[u8; BLOCK_BYTES]) -> Option<u64> {
    let checked = &block[RELEASE_AT..RELEASE_AT + RELEASE_CHECKED];
    let whole = take::<8>(checked, 0) == RELEASE_MAGIC
        && u32_at(block, RELEASE_AT + RELEASE_CHECKED) == crc32c::crc32c(checked);
    whole.then(|| u64_at(checked, 8))
}

/// Header of a commit group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) lane: LaneId,
    pub(crate) first: Position,
    pub(crate) previous: Position,
    pub(crate) synced_up_to: Position,
    pub(crate) frames_bytes: u64,
    pub(crate) count: u32,
}

impl GroupHeader {
    pub(crate) fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        put(&mut bytes, 0, &GROUP_MAGIC);
        put(&mut bytes, 4, &VERSION.to_le_bytes());
        put(&mut bytes, 8, &self.generation.to_le_bytes());
        put(&mut bytes, 16, &self.sequence.to_le_bytes());
        put(&mut bytes, 24, &self.lane.bytes());
        put(&mut bytes, 40, &self.first.get().to_le_bytes());
        put(&mut bytes, 48, &self.previous.get().to_le_bytes());
        put(&mut bytes, 56, &self.synced_up_to.get().to_le_bytes());
        put(&mut bytes, 64, &self.frames_bytes.to_le_bytes());
        put(&mut bytes, 72, &self.count.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..GROUP_CHECKED]);
        put(&mut bytes, GROUP_CHECKED, &checksum.to_le_bytes());
        bytes
    }

    /// Reads a whole header whose numbers make sense; anything else is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < GROUP_HEADER_BYTES
            || take::<4>(bytes, 0) != GROUP_MAGIC
            || u32_at(bytes, GROUP_CHECKED) != crc32c::crc32c(&bytes[..GROUP_CHECKED])
            || u32_at(bytes, 4) != VERSION
        {
            return None;
        }
        let header = Self {
            generation: u64_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            lane: LaneId::from_bytes(take(bytes, 24)),
            first: Position::new(u64_at(bytes, 40)),
            previous: Position::new(u64_at(bytes, 48)),
            synced_up_to: Position::new(u64_at(bytes, 56)),
            frames_bytes: u64_at(bytes, 64),
            count: u32_at(bytes, 72),
        };
        let sensible = header.count > 0
            && header.first > header.previous
            && header.synced_up_to <= header.previous
            && header
                .first
                .get()
                .checked_add(u64::from(header.count))
                .is_some();
        sensible.then_some(header)
    }

    /// True if these bytes begin like a group header.
    pub(crate) fn has_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(&GROUP_MAGIC)
    }

    /// True if these bytes begin a group header of the generation, whole or not: the trace that a
    /// torn write leaves.
    pub(crate) fn trace_of(bytes: &[u8], generation: u64) -> bool {
        bytes.len() >= 16 && take::<4>(bytes, 0) == GROUP_MAGIC && u64_at(bytes, 8) == generation
    }

    /// Offset at which the next group begins, if this one begins at `offset`.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset
            .saturating_add(GROUP_HEADER_BYTES as u64)
            .saturating_add(self.frames_bytes)
            .checked_next_multiple_of(BLOCK)
            .unwrap_or(u64::MAX)
    }

    /// Position of the last frame that was meant to be in the group.
    pub(crate) fn last(&self) -> Position {
        Position::new(self.first.get() + u64::from(self.count) - 1)
    }
}

/// CRC of the generation, with which each frame's checksum begins: a frame of an earlier use of the
/// file never looks whole.
pub(crate) fn frame_seed(generation: u64) -> u32 {
    crc32c::crc32c(&generation.to_le_bytes())
}

/// Header of a frame, checksum included. `known` is of this payload, if it was made before.
pub(crate) fn encode_frame_header(
    seed: u32,
    position: Position,
    previous: Position,
    context: &[u8],
    payload: &[u8],
    known: Option<PayloadChecksum>,
) -> [u8; FRAME_HEADER_BYTES] {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    put(&mut bytes, 0, &position.get().to_le_bytes());
    put(&mut bytes, 8, &previous.get().to_le_bytes());
    put(&mut bytes, 16, &record_len(context).to_le_bytes());
    put(&mut bytes, 20, &record_len(payload).to_le_bytes());
    let checksum = crc32c::crc32c_append(seed, &bytes[..FRAME_CHECKED]);
    let checksum = crc32c::crc32c_append(checksum, context);
    let checksum = match known {
        Some(known) => {
            debug_assert!(known.is_of(payload), "of this very payload");
            known.appended_to(checksum)
        }
        None => crc32c::crc32c_append(checksum, payload),
    };
    put(&mut bytes, FRAME_CHECKED, &checksum.to_le_bytes());
    bytes
}

#[expect(clippy::expect_used, reason = "append refuses longer records")]
fn record_len(part: &[u8]) -> u32 {
    u32::try_from(part.len()).expect("a part of a record is below 4 GiB")
}

/// A whole frame in a buffer; ranges are offsets in that buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) position: Position,
    pub(crate) previous: Position,
    pub(crate) start: usize,
    pub(crate) context: Range<usize>,
    pub(crate) payload: Range<usize>,
}

impl Frame {
    /// Offset behind the frame.
    pub(crate) fn end(&self) -> usize {
        self.payload.end
    }

    /// Bytes of the frame that begins with `header`, if that is to be believed and its position is above
    /// `after` and at most `at_most`.
    pub(crate) fn len_by(
        header: &[u8; FRAME_HEADER_BYTES],
        after: Position,
        at_most: Position,
    ) -> Option<u64> {
        // Cheap tests: this runs on every byte when the border of a frame is searched.
        let position = Position::new(u64_at(header, 0));
        if position <= after || position > at_most {
            return None;
        }
        let parts = u64::from(u32_at(header, 16)) + u64::from(u32_at(header, 20));
        Some(FRAME_HEADER_BYTES as u64 + parts)
    }

    /// Reads the frame at `start`, if one is there whose position is above `after` and at most
    /// `at_most`, and which is whole.
    pub(crate) fn decode(
        seed: u32,
        bytes: &[u8],
        start: usize,
        after: Position,
        at_most: Position,
    ) -> Option<Self> {
        let header = bytes.get(start..)?.first_chunk()?;
        let len = usize::try_from(Self::len_by(header, after, at_most)?).ok()?;
        let end = start.checked_add(len)?;
        let (position, previous) = (u64_at(header, 0), u64_at(header, 8));
        let (position, previous) = (Position::new(position), Position::new(previous));
        if previous >= position || end > bytes.len() {
            return None;
        }
        let header_end = start + FRAME_HEADER_BYTES;
        let context_end = end - u32_at(header, 20) as usize;
        let checksum = crc32c::crc32c_append(seed, &bytes[start..start + FRAME_CHECKED]);
        let checksum = crc32c::crc32c_append(checksum, &bytes[header_end..end]);
        (checksum == u32_at(bytes, start + FRAME_CHECKED)).then_some(Self {
            position,
            previous,
            start,
            context: header_end..context_end,
            payload: context_end..end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            sequence: 3,
            generation: 0xdead_beef,
            lane: LaneId::from_bytes([9; 16]),
            first: Position::new(12),
            previous: Position::new(10),
            created_at_us: -5,
        }
    }

    #[test]
    fn a_first_block_reads_back_what_was_written() {
        let block = header().encode(Some(77));
        assert_eq!(decode_header(&block), FirstBlock::Header(header()));
        assert_eq!(decode_release(&block), Some(77));
        assert_eq!(decode_release(&header().encode(None)), None);
    }

    #[test]
    fn a_first_block_with_any_flipped_bit_of_its_header_is_blank() {
        for at in 0..FILE_CHECKED + 4 {
            let mut block = header().encode(None);
            block[at] ^= 1;
            assert_eq!(decode_header(&block), FirstBlock::Blank, "byte {at}");
        }
    }

    #[test]
    fn a_release_mark_with_any_flipped_bit_is_none() {
        for at in RELEASE_AT..RELEASE_AT + RELEASE_CHECKED + 4 {
            let mut block = header().encode(Some(77));
            block[at] ^= 0x10;
            assert_eq!(decode_release(&block), None, "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut block = header().encode(None);
        block[8] = 2;
        let checksum = crc32c::crc32c(&block[..FILE_CHECKED]);
        put(&mut block, FILE_CHECKED, &checksum.to_le_bytes());
        assert_eq!(decode_header(&block), FirstBlock::Newer { version: 2 });
    }

    #[test]
    fn a_frame_of_another_generation_is_not_whole() {
        let (old, new) = (frame_seed(1), frame_seed(2));
        let position = Position::new(5);
        let mut bytes =
            encode_frame_header(old, position, position.previous(), b"c", b"pay", None).to_vec();
        bytes.extend_from_slice(b"cpay");
        let most = Position::new(u64::MAX);
        assert!(Frame::decode(old, &bytes, 0, Position::ZERO, most).is_some());
        assert!(Frame::decode(new, &bytes, 0, Position::ZERO, most).is_none());
    }

    #[test]
    fn lengths_beyond_the_buffer_are_refused() {
        let seed = frame_seed(1);
        let position = Position::new(5);
        let mut bytes =
            encode_frame_header(seed, position, position.previous(), b"", b"", None).to_vec();
        bytes[16..24].fill(0xff);
        assert!(Frame::decode(seed, &bytes, 0, Position::ZERO, position).is_none());
        assert!(Frame::decode(seed, &bytes[..27], 0, Position::ZERO, position).is_none());
    }

    #[test]
    fn a_group_header_with_any_flipped_bit_is_none() {
        let group = GroupHeader {
            generation: 4,
            sequence: 3,
            lane: LaneId::from_bytes([9; 16]),
            first: Position::new(12),
            previous: Position::new(10),
            synced_up_to: Position::new(10),
            frames_bytes: 100,
            count: 2,
        };
        assert_eq!(GroupHeader::decode(&group.encode()), Some(group));
        assert_eq!(group.last(), Position::new(13));
        for at in 0..GROUP_HEADER_BYTES {
            let mut bytes = group.encode();
            bytes[at] ^= 0x10;
            assert_eq!(GroupHeader::decode(&bytes), None, "byte {at}");
        }
    }
}

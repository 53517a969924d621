//! Seals: what an opening must know of a closed file, so that it need not read the file.
//!
//! A seal stands beside its file as `<sequence>.seal`, and goes with it. Numbers are little endian:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `PSWLSEAL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | number of marks, at most 65,536 |
//! | 16 | 8 | sequence number of the file |
//! | 24 | 8 | generation |
//! | 32 | 16 | lane |
//! | 48 | 8 | previous position |
//! | 56 | 8 | first position in the file |
//! | 64 | 8 | last position in the file |
//! | 72 | 8 | records |
//! | 80 | 8 | offset behind the last synced frame |
//! | 88 | 32 | the owner's tag: what it keeps elsewhere of the file's records, in its own words |
//! | 120 | 16 each | marks: the record before a group, and the group's offset; about one a MiB |
//! | end | 4 | CRC-32C of all bytes before |
//!
//! **Order.** The file's last group is synced; it is closed; the owner syncs what its tag stands for;
//! then the seal is published: written, synced, renamed, its directory synced. So a seal is true from
//! the first instant that it can be read, whatever of that survives a crash. It is made on the owner's
//! own time, never on the log's thread: a file without a seal is read by the next opening.
//!
//! **Trust.** A seal is a short cut and no truth. One that is missing, torn, damaged, of another
//! generation, or not of one mind with its file's first block and length, or with where the next file
//! begins, is thrown away, and the file is read. Damage in a sealed file is met by its reader, is kept
//! aside and reported then (WAL-2), and takes the seal away. A file in which damage is known gets none.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use penstock_disk::{CrashPoint, Filesystem};
use penstock_model::{LaneId, Position};

use crate::error::{Context, LogError};
use crate::format::{BLOCK, take, u32_at, u64_at};
use crate::index::FileEntry;
use crate::names::seal_name;
use crate::scan::LiveFile;

/// The owner's word about a file's records. The log compares it and knows nothing of its meaning.
pub type SealTag = [u8; 32];

const MAGIC: &[u8; 8] = b"PSWLSEAL";
const VERSION: u32 = 1;
const TAG_AT: usize = 88;
const MARKS_AT: usize = 120;
const MARK_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// Most marks in a seal; a file of 64 GiB has as many. A file with more gets none.
const MAX_MARKS: usize = 65_536;

const MAX_SEAL_BYTES: usize = MARKS_AT + MAX_MARKS * MARK_BYTES + CHECKSUM_BYTES;

/// What a seal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) lane: LaneId,
    pub(crate) previous: Position,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) records: u64,
    pub(crate) end: u64,
    pub(crate) tag: SealTag,
    pub(crate) marks: Vec<(Position, u64)>,
}

impl Seal {
    /// The seal of a closed file that is whole.
    pub(crate) fn of(entry: &FileEntry, tag: SealTag) -> Self {
        Self {
            sequence: entry.sequence,
            generation: entry.generation,
            lane: entry.lane,
            previous: entry.previous,
            first: entry.first,
            last: entry.last,
            records: entry.records,
            end: entry.end,
            tag,
            marks: entry.marks().to_vec(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MARKS_AT + self.marks.len() * MARK_BYTES + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let marks = u32::try_from(self.marks.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&marks.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.lane.bytes());
        for position in [self.previous, self.first, self.last] {
            bytes.extend_from_slice(&position.get().to_le_bytes());
        }
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&self.end.to_le_bytes());
        bytes.extend_from_slice(&self.tag);
        for (before, offset) in &self.marks {
            bytes.extend_from_slice(&before.get().to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a whole seal whose numbers make sense; anything else is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let checked = bytes.len().checked_sub(CHECKSUM_BYTES)?;
        if checked < MARKS_AT
            || &bytes[..8] != MAGIC
            || u32_at(bytes, 8) != VERSION
            || u32_at(bytes, checked) != crc32c::crc32c(&bytes[..checked])
        {
            return None;
        }
        let (marks, rest) = bytes[MARKS_AT..checked].as_chunks::<MARK_BYTES>();
        if !rest.is_empty() || usize::try_from(u32_at(bytes, 12)) != Ok(marks.len()) {
            return None;
        }
        let seal = Self {
            sequence: u64_at(bytes, 16),
            generation: u64_at(bytes, 24),
            lane: LaneId::from_bytes(take(bytes, 32)),
            previous: Position::new(u64_at(bytes, 48)),
            first: Position::new(u64_at(bytes, 56)),
            last: Position::new(u64_at(bytes, 64)),
            records: u64_at(bytes, 72),
            end: u64_at(bytes, 80),
            tag: take(bytes, TAG_AT),
            marks: marks
                .iter()
                .map(|mark| (Position::new(u64_at(mark, 0)), u64_at(mark, 8)))
                .collect(),
        };
        seal.makes_sense().then_some(seal)
    }

    fn makes_sense(&self) -> bool {
        let ordered = self.previous < self.first && self.first <= self.last;
        let most_records = self.last.get().saturating_sub(self.first.get());
        let inside = |(before, offset): &(Position, u64)| {
            *before >= self.previous
                && *before < self.last
                && *offset >= BLOCK
                && *offset < self.end
                && offset.is_multiple_of(BLOCK)
        };
        ordered
            && self.records > 0
            && self.records - 1 <= most_records
            && self.marks.iter().all(inside)
            && self.marks.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1)
    }

    /// Whether the seal is of this file: `next` is where the file behind it says that this one ends.
    pub(crate) fn agrees(&self, live: &LiveFile, len: u64, next: Option<Position>) -> bool {
        live.header_whole
            && self.sequence == live.sequence
            && self.generation == live.generation
            && self.lane == live.lane
            && self.previous == live.previous
            && self.first == live.first
            && self.end <= len
            && next.is_none_or(|next| next == self.last)
    }

    /// What the index keeps of the file.
    pub(crate) fn into_entry(self, path: PathBuf, disk_bytes: u64) -> FileEntry {
        let mut entry = FileEntry::new(
            path,
            self.sequence,
            self.generation,
            self.lane,
            (self.previous, self.first),
        );
        entry.restore((self.first, self.last), self.records, self.end, self.marks);
        entry.disk_bytes = disk_bytes;
        entry.closed = true;
        entry.seal = Some(self.tag);
        entry
    }
}

/// Publishes the seal of a file that is closed and synced, and for which all is synced that the tag
/// stands for.
///
/// Durability: on `Ok`, it survives a power cut. On `Err`, it may or may not be there, and is true.
pub(crate) fn publish(
    filesystem: &dyn Filesystem,
    directory: &Path,
    seal: &Seal,
) -> Result<(), LogError> {
    let name = seal_name(seal.sequence);
    filesystem
        .publish(directory, OsStr::new(&name), &seal.encode())
        .context("seal", &directory.join(&name))?;
    CrashPoint::WalFileSealed.pass();
    Ok(())
}

/// Removes the seal of a file, if there is one. Durable after the directory's sync; a seal that comes
/// back without its file is removed by the next opening.
pub(crate) fn remove(
    filesystem: &dyn Filesystem,
    directory: &Path,
    sequence: u64,
) -> Result<(), LogError> {
    let path = directory.join(seal_name(sequence));
    match filesystem.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogError::new("remove", &path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads a seal; `None` if it is not whole. Errors of the disk are errors.
pub(crate) fn read(filesystem: &dyn Filesystem, path: &Path) -> Result<Option<Seal>, LogError> {
    let file = filesystem.open_read(path).context("open", path)?;
    let len = usize::try_from(file.len().context("read", path)?).unwrap_or(usize::MAX);
    if len > MAX_SEAL_BYTES {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    let count = file.read_at(&mut bytes, 0).context("read", path)?;
    bytes.truncate(count);
    Ok(Seal::decode(&bytes))
}

/// Whether a file with so many marks can be sealed.
pub(crate) const fn fits(marks: usize) -> bool {
    marks <= MAX_MARKS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal {
            sequence: 3,
            generation: 0xdead_beef,
            lane: LaneId::from_bytes([9; 16]),
            previous: Position::new(10),
            first: Position::new(12),
            last: Position::new(40),
            records: 29,
            end: 9_000,
            tag: [7; 32],
            marks: vec![(Position::new(10), 4_096), (Position::new(20), 8_192)],
        }
    }

    fn live() -> LiveFile {
        LiveFile {
            sequence: 3,
            generation: 0xdead_beef,
            lane: LaneId::from_bytes([9; 16]),
            first: Position::new(12),
            previous: Position::new(10),
            created_at_us: 5,
            header_whole: true,
            released: None,
        }
    }

    #[test]
    fn a_seal_reads_back_and_no_flipped_bit_or_cut_goes_unseen() {
        let bytes = seal().encode();
        assert_eq!(Seal::decode(&bytes), Some(seal()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Seal::decode(&damaged), None, "byte {at}");
            assert_eq!(Seal::decode(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_no_seal() {
        let wrong: [fn(&mut Seal); 6] = [
            |seal| seal.first = seal.previous,
            |seal| seal.last = Position::new(11),
            |seal| seal.records = 30,
            |seal| seal.records = 0,
            |seal| seal.marks[1].1 = 12_288,
            |seal| seal.marks.reverse(),
        ];
        for (index, change) in wrong.into_iter().enumerate() {
            let mut seal = seal();
            change(&mut seal);
            assert_eq!(Seal::decode(&seal.encode()), None, "{index}");
        }
    }

    #[test]
    fn a_seal_agrees_only_with_its_own_whole_file() {
        let next = Some(Position::new(40));
        assert!(seal().agrees(&live(), 9_000, next));
        assert!(seal().agrees(&live(), 9_000, None));
        assert!(!seal().agrees(&live(), 8_999, next));
        assert!(!seal().agrees(&live(), 9_000, Some(Position::new(41))));
        let others: [fn(&mut LiveFile); 6] = [
            |live| live.generation += 1,
            |live| live.sequence += 1,
            |live| live.lane = LaneId::from_bytes([8; 16]),
            |live| live.first = Position::new(11),
            |live| live.previous = Position::new(9),
            |live| live.header_whole = false,
        ];
        for (index, change) in others.into_iter().enumerate() {
            let mut live = live();
            change(&mut live);
            assert!(!seal().agrees(&live, 9_000, next), "{index}");
        }
    }
}

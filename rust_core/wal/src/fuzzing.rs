//! What fuzzing runs: one file of a log, built as the input says, and read.
//!
//! A fuzzer doesn't guess checksums, so the input is a list of pieces and not the file: group
//! headers and frames with any numbers in them and right checksums, loose bytes, and damage.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use penstock_disk::{FaultyFilesystem, File, Filesystem};
use penstock_model::{LaneId, Position};

use crate::format::{self, BLOCK, BLOCK_BYTES, FileHeader, GroupHeader};
use crate::scan::{self, Bounds, Identity, Piece, Scanner};

const SEQUENCE: u64 = 1;
const GENERATION: u64 = 0x5eed;
const LANE: [u8; 16] = [9; 16];

/// Longest file that is built: some groups, and fast to search byte by byte.
const MAX_FILE_BYTES: usize = 64 << 10;

/// Takes the input apart; behind its end everything reads as zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        // Small ones mostly; a large one shows where sums overflow.
        match self.byte() {
            255 => u64::MAX,
            254 => u64::from(u32::MAX),
            253 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            small => u64::from(small),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.to_vec()
    }
}

fn build(input: &mut Input<'_>) -> Vec<u8> {
    let header = FileHeader {
        sequence: SEQUENCE,
        generation: GENERATION,
        lane: LaneId::from_bytes(LANE),
        first: Position::new(1),
        previous: Position::ZERO,
        created_at_us: 0,
    };
    let mut file = header.encode(None).to_vec();
    while !input.0.is_empty() && file.len() < MAX_FILE_BYTES {
        match input.byte() % 5 {
            0 => {
                file.resize(file.len().next_multiple_of(BLOCK_BYTES), 0);
                let generation = match input.byte() {
                    255 => GENERATION - 1,
                    _ => GENERATION,
                };
                let group = GroupHeader {
                    generation,
                    sequence: SEQUENCE,
                    lane: LaneId::from_bytes(LANE),
                    first: Position::new(input.number()),
                    previous: Position::new(input.number()),
                    synced_up_to: Position::new(input.number()),
                    frames_bytes: input.number(),
                    count: u32::try_from(input.number()).unwrap_or(u32::MAX),
                };
                file.extend_from_slice(&group.encode());
            }
            1 => {
                let seed = format::frame_seed(GENERATION);
                let position = Position::new(input.number());
                let previous = Position::new(input.number());
                let (context, payload) = (input.bytes(), input.bytes());
                let head =
                    format::encode_frame_header(seed, position, previous, &context, &payload, None);
                for part in [&head[..], &context, &payload] {
                    file.extend_from_slice(part);
                }
            }
            2 => file.extend_from_slice(&input.bytes()),
            3 => {
                let at = usize::from(input.byte()) << 8 | usize::from(input.byte());
                let mask = input.byte();
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= mask;
                }
            }
            _ => file.resize(file.len().next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES, 0),
        }
    }
    file
}

fn open(bytes: &[u8]) -> io::Result<Arc<dyn File>> {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new("/file"))?;
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

/// Reads the file that `input` describes, and panics where something does not hold: what is read
/// stands in the file as it is given out, in ascending order, no byte of it twice; what is missing lies
/// between it; the end is found, and found again.
pub fn scan(input: &[u8]) {
    let mut input = Input(input);
    let synced = Position::new(input.number());
    let expected = match input.byte() {
        0 => None,
        _ => Some(Position::new(input.number())),
    };
    let cut = u64::from(input.byte()) << 4;
    let bytes = build(&mut input);
    let read = open(&bytes).and_then(|file| {
        let bounds = Bounds {
            end: (bytes.len() as u64).saturating_sub(cut),
            expected,
            synced,
        };
        check(&file, &bytes, bounds)
    });
    assert!(read.is_ok(), "memory has no errors: {read:?}");
}

fn check(file: &Arc<dyn File>, bytes: &[u8], bounds: Bounds) -> io::Result<()> {
    if let Identity::Live(live) = scan::identify(&**file, SEQUENCE)? {
        assert_eq!(live.sequence, SEQUENCE);
    }
    scan::remains(&**file)?;

    let mut scanner = Scanner::new(
        Arc::clone(file),
        SEQUENCE,
        GENERATION,
        BLOCK,
        Position::ZERO,
    );
    let mut last = Position::ZERO;
    // Where frames were read: start and end in the file.
    let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
    let tail = loop {
        match scanner.next(bounds)? {
            Piece::Frames(block) => {
                assert!(!block.frames.is_empty());
                for frame in &block.frames {
                    assert!(frame.position > last, "{frame:?}");
                    last = frame.position;
                    let (start, end) = (frame.start, frame.end());
                    let at = |offset: usize| block.base + offset as u64;
                    let read = &block.bytes.as_slice()[start..end];
                    let there = usize::try_from(at(start)).unwrap_or(usize::MAX);
                    assert_eq!(bytes.get(there..there + read.len()), Some(read));
                    assert!(at(end) <= bounds.end);
                    let before = taken.range(..at(end)).next_back();
                    assert!(before.is_none_or(|(_, before_end)| *before_end <= at(start)));
                    taken.insert(at(start), at(end));
                }
            }
            Piece::Bad(bad) => {
                assert!(bad.start <= bad.end, "{bad:?}");
                assert!(bad.after == last && bad.last >= last, "{bad:?}");
                last = bad.last;
            }
            Piece::End(tail) => break tail,
        }
    };
    assert!(tail.torn_end.is_none_or(|end| end >= tail.offset));
    if let Some(expected) = bounds.expected {
        assert!(last <= expected.max(Position::ZERO), "{last:?}");
    }
    Ok(())
}

//! What an opening reports.

use std::path::PathBuf;

use penstock_model::Position;

use crate::index::LaneSpan;

/// What opening a log found and did.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Lanes with records in the log, oldest first.
    pub lanes: Vec<LaneSpan>,
    /// First record in the log; zero if there is none.
    pub first: Position,
    /// Last record that the log knows of; new ones get higher positions. Zero in a new log.
    pub last: Position,
    pub records: u64,
    pub torn_tail: Option<TornTail>,
    pub damage: Vec<Damage>,
    /// Whole frames behind the last mark of what was synced; written once more and synced.
    pub rewritten_frames: u64,
    /// Files that were not read, since their seals say what is in them.
    pub sealed_files: u64,
    /// Bytes of the files that were read.
    pub read_bytes: u64,
}

/// Bytes behind the last whole frame that a crash left; they were never acknowledged and were cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Path of the file.
    pub file: String,
    /// Where the file ends now.
    pub offset: u64,
    /// Bytes of the group that was being written, as far as they can be told.
    pub cut_bytes: u64,
}

/// Synced bytes that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Path of the file, which may be missing altogether: then both byte offsets are zero.
    pub file: String,
    pub first_byte: u64,
    /// The last byte of the range; not the one behind it.
    pub last_byte: u64,
    /// First missing record; zero if none is missing and only bookkeeping was hit. Of a file of
    /// which nothing can be read it is the first that may be missing.
    pub first_position: Position,
    /// Last missing record; zero if none is. Of a file of which nothing can be read, and which no
    /// other follows, it is an upper limit: new records get higher positions (WAL-3).
    pub last_position: Position,
    /// Where the bytes were copied to, or the whole file was moved to.
    pub kept_aside: PathBuf,
    /// True if an earlier opening reported the same.
    pub known: bool,
}

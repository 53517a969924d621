//! Names in the log's directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use penstock_model::Position;

/// Where damaged bytes are kept aside, inside the log's directory.
pub(crate) const DAMAGED: &str = "damaged";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// Part of the log, or prepared to be.
    Log(u64),
    /// Released, waiting for its next use.
    Spare(u64),
    /// What an opening need not read the file of that number for.
    Seal(u64),
    /// A seal that was not published.
    UnfinishedSeal,
}

impl FileName {
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        let (digits, extension) = name.to_str()?.split_once('.')?;
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let sequence = digits.parse().ok()?;
        match extension {
            "wal" => Some(Self::Log(sequence)),
            "spare" => Some(Self::Spare(sequence)),
            "seal" => Some(Self::Seal(sequence)),
            "seal.tmp" => Some(Self::UnfinishedSeal),
            _ => None,
        }
    }
}

pub(crate) fn log_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.wal"))
}

pub(crate) fn spare_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.spare"))
}

pub(crate) fn seal_name(sequence: u64) -> String {
    format!("{sequence:020}.seal")
}

/// Name of a copy of damaged bytes: file, byte range, and the records that are missing there
/// (zeros if none).
pub(crate) fn damaged_name(
    sequence: u64,
    (start, end): (u64, u64),
    (first, last): (Position, Position),
) -> String {
    format!("{sequence:020}-{start}-{end}-{first}-{last}.bytes")
}

/// The missing records that such a name tells.
pub(crate) fn parse_damaged(name: &OsStr) -> Option<(Position, Position)> {
    let mut parts = name.to_str()?.strip_suffix(".bytes")?.split('-').skip(3);
    let first = parts.next()?.parse().ok()?;
    let last = parts.next()?.parse().ok()?;
    (parts.next().is_none() && first > 0 && first <= last)
        .then(|| (Position::new(first), Position::new(last)))
}

/// The number of the file that such a name tells.
pub(crate) fn parse_damaged_sequence(name: &OsStr) -> Option<u64> {
    let (digits, _) = name.to_str()?.strip_suffix(".bytes")?.split_once('-')?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_are_left_alone() {
        let path = log_path(Path::new("/w"), 7);
        assert_eq!(
            FileName::parse(path.file_name().unwrap()),
            Some(FileName::Log(7))
        );
        let path = spare_path(Path::new("/w"), 8);
        assert_eq!(
            FileName::parse(path.file_name().unwrap()),
            Some(FileName::Spare(8))
        );
        let seal = seal_name(9);
        assert_eq!(FileName::parse(OsStr::new(&seal)), Some(FileName::Seal(9)));
        assert_eq!(
            FileName::parse(OsStr::new(&(seal + ".tmp"))),
            Some(FileName::UnfinishedSeal)
        );
        for stranger in ["7.wal", "notes.txt", "0000000000000000000x.wal", "damaged"] {
            assert_eq!(FileName::parse(OsStr::new(stranger)), None);
        }
        let (first, last) = (Position::new(5), Position::new(6));
        let name = damaged_name(7, (4096, 4196), (first, last));
        assert_eq!(parse_damaged(OsStr::new(&name)), Some((first, last)));
        assert_eq!(parse_damaged_sequence(OsStr::new(&name)), Some(7));
    }
}

//! Records that could not be stored, set aside in `wal/quarantine/`, one file each.
//!
//! A file is named `<lane>-<position>.record`, the position in 20 decimal digits, and is published
//! whole and synced. Layout, little endian, version 1:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `PSQR` |
//! | 1 | version of this layout |
//! | 8 | when it was set aside, µs since the Unix epoch, signed |
//! | 2 + n | why, UTF-8 |
//! | 4 + n | the record's context, as the log had it |
//! | rest | the record's payload, as the log had it |
//!
//! Files of the layout before it have neither magic nor version, time or reason: they begin with the
//! length of the context. No context is as long as the magic would say.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use penstock_decode::Workspace;
use penstock_disk::Filesystem;
use penstock_model::{LaneId, Payload, Position};

use crate::directory::Layout;
use crate::error::EngineError;
use crate::inspect::InspectedRecord;

const MAGIC: [u8; 4] = *b"PSQR";
const LAYOUT_VERSION: u8 = 1;

/// Longest reason that is kept, in bytes. Ours have under 200.
const MAX_WHY_BYTES: usize = 1_000;

/// Largest file that is read back. A record has a payload of at most `max_request_bytes`, a u32,
/// and a context of 5 bytes for each of its events.
const MAX_FILE_BYTES: u64 = 8 << 30;

/// What is set aside.
pub(crate) struct Aside<'a> {
    pub(crate) lane: LaneId,
    pub(crate) position: Position,
    pub(crate) why: &'a str,
    pub(crate) at_us: i64,
    pub(crate) context: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// Sets a record aside.
///
/// Durability: on `Ok`, the file survives a power cut.
pub(crate) fn write(
    filesystem: &dyn Filesystem,
    layout: &Layout,
    record: &Aside<'_>,
) -> io::Result<()> {
    let directory = layout.quarantine();
    filesystem.create_dir_synced(&directory)?;
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let why = cut(record.why, MAX_WHY_BYTES).as_bytes();
    let why_len = u16::try_from(why.len()).map_err(too_large)?;
    let context_len = u32::try_from(record.context.len()).map_err(too_large)?;
    let mut bytes =
        Vec::with_capacity(19 + why.len() + record.context.len() + record.payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(LAYOUT_VERSION);
    bytes.extend_from_slice(&record.at_us.to_le_bytes());
    bytes.extend_from_slice(&why_len.to_le_bytes());
    bytes.extend_from_slice(why);
    bytes.extend_from_slice(&context_len.to_le_bytes());
    bytes.extend_from_slice(record.context);
    bytes.extend_from_slice(record.payload);
    let name = format!("{}-{:020}.record", record.lane, record.position);
    filesystem.publish(&directory, OsStr::new(&name), &bytes)
}

/// Which records are in quarantine, by the names of the files.
pub(crate) fn positions(
    filesystem: &dyn Filesystem,
    layout: &Layout,
) -> io::Result<HashSet<(LaneId, Position)>> {
    let directory = layout.quarantine();
    if !filesystem.exists(&directory)? {
        return Ok(HashSet::new());
    }
    let names = filesystem.read_dir(&directory)?;
    Ok(names
        .iter()
        .filter_map(|name| place_of(Path::new(name)))
        .collect())
}

/// Where a record stood whose file has this name.
fn place_of(path: &Path) -> Option<(LaneId, Position)> {
    let name = path.file_stem()?.to_str()?;
    let (lane, position) = name.split_once('-')?;
    Some((LaneId::parse(lane)?, Position::new(position.parse().ok()?)))
}

/// The beginning of a text, at most `max_bytes` long.
fn cut(text: &str, max_bytes: usize) -> &str {
    let end = text.floor_char_boundary(max_bytes);
    text.get(..end).unwrap_or_default()
}

/// A record in quarantine.
#[derive(Clone, Debug)]
pub struct QuarantinedRecord {
    pub record: InspectedRecord,
    /// Why it was set aside; empty if that was not kept.
    pub why: String,
    /// When it was set aside, microseconds since 1970; zero if that was not kept.
    pub set_aside_at_us: i64,
}

/// Reads one file of a quarantine. Nothing is changed. Holds the record in memory.
///
/// Errors: [`EngineError::Storage`], and [`EngineError::UnreadableRecord`] if the file or its name
/// is not of the form that stands above. A record that can't be decoded is no error: its `problem`
/// says so.
pub fn read_quarantined(path: &Path) -> Result<QuarantinedRecord, EngineError> {
    let unreadable = |reason: &str| EngineError::UnreadableRecord {
        record: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let (lane, position) =
        place_of(path).ok_or_else(|| unreadable("its name is not <lane>-<position>.record"))?;
    let file = crate::real_filesystem().open_read(path)?;
    let len = file.len()?;
    if len > MAX_FILE_BYTES {
        return Err(unreadable("it is too large"));
    }
    let len = usize::try_from(len).map_err(|_| unreadable("it is too large"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    let parts = split(&bytes).ok_or_else(|| unreadable("it is cut short, or of a newer layout"))?;
    let payload_start = bytes.len() - parts.payload_bytes;
    let why = String::from_utf8_lossy(parts.why).into_owned();
    let (set_aside_at_us, context) = (parts.at_us, parts.context.to_vec());
    let bytes = Payload::new(bytes);
    let payload = bytes.slice(payload_start..len);
    let mut record = InspectedRecord::new(lane, position, &context, payload);
    record.decode(&context, &mut Workspace::default());
    Ok(QuarantinedRecord {
        record,
        why,
        set_aside_at_us,
    })
}

pub(crate) struct Parts<'a> {
    at_us: i64,
    why: &'a [u8],
    pub(crate) context: &'a [u8],
    pub(crate) payload_bytes: usize,
}

pub(crate) fn split(bytes: &[u8]) -> Option<Parts<'_>> {
    let (magic, mut rest) = bytes.split_first_chunk::<4>()?;
    let (mut at_us, mut why) = (0, [].as_slice());
    let context_len = if *magic == MAGIC {
        let (version, behind) = rest.split_first()?;
        if *version != LAYOUT_VERSION {
            return None;
        }
        let (time, behind) = behind.split_first_chunk::<8>()?;
        at_us = i64::from_le_bytes(*time);
        let (why_len, behind) = behind.split_first_chunk::<2>()?;
        let (text, behind) = behind.split_at_checked(u16::from_le_bytes(*why_len).into())?;
        why = text;
        let (context_len, behind) = behind.split_first_chunk::<4>()?;
        rest = behind;
        *context_len
    } else {
        *magic
    };
    let context_len = usize::try_from(u32::from_le_bytes(context_len)).ok()?;
    let (context, payload) = rest.split_at_checked(context_len)?;
    Some(Parts {
        at_us,
        why,
        context,
        payload_bytes: payload.len(),
    })
}

#[cfg(test)]
mod tests {
    use penstock_disk::RealFilesystem;

    use super::*;

    fn aside<'a>(why: &'a str, context: &'a [u8], payload: &'a [u8]) -> Aside<'a> {
        Aside {
            lane: LaneId::from_bytes([7; 16]),
            position: Position::new(12),
            why,
            at_us: -3,
            context,
            payload,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let long = "ä".repeat(MAX_WHY_BYTES);
        write(
            &RealFilesystem,
            &layout,
            &aside(&long, b"context", b"payload"),
        )
        .unwrap();
        let name = format!("{}-{:020}.record", LaneId::from_bytes([7; 16]), 12);
        let path = layout.quarantine().join(name);
        let read = read_quarantined(&path).unwrap();
        assert_eq!(read.record.lane, LaneId::from_bytes([7; 16]));
        assert_eq!(read.record.position, Position::new(12));
        assert_eq!(read.record.payload.as_slice(), b"payload");
        assert_eq!(read.why, "ä".repeat(MAX_WHY_BYTES / 2));
        assert_eq!(read.set_aside_at_us, -3);
        assert!(read.record.problem.is_some(), "that was no context");
    }

    #[test]
    fn a_file_of_the_layout_before_is_read_too() {
        let mut bytes = 3_u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"abcpayload");
        let parts = split(&bytes).unwrap();
        assert_eq!((parts.context, parts.payload_bytes), (b"abc".as_slice(), 7));
        assert_eq!((parts.at_us, parts.why), (0, b"".as_slice()));
    }

    #[test]
    fn a_file_that_is_cut_short_is_refused() {
        let mut bytes = MAGIC.to_vec();
        bytes.push(LAYOUT_VERSION);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&2_u16.to_le_bytes());
        bytes.extend_from_slice(b"no");
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.push(b'c');
        for len in 0..bytes.len() {
            assert!(split(&bytes[..len]).is_none(), "cut at {len}");
        }
        assert!(split(&bytes).is_some());
    }
}

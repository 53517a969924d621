//! A look at a log from outside: its files, its records and its damage, file by file.
//!
//! Works on a log that is stopped, copied or in use; takes no lock and changes nothing. Damage is
//! told from an unfinished end as an opening tells it: by what the log itself says was synced
//! (WAL-2). The writer writes that down before we read it, so what is missing below it is missing,
//! unless the file was released meanwhile; therefore a file is looked at again before anything is
//! said against it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penstock_disk::{File, Filesystem};
use penstock_model::{LaneId, Position};

use crate::error::{Context, LogError, OpenError};
use crate::format::BLOCK;
use crate::names::{DAMAGED, FileName, damaged_name, parse_damaged, seal_name};
use crate::reader::ReadRecord;
use crate::repair::synced_mark;
use crate::scan::{
    BadRange, Bounds, FrameBlock, Identity, LiveFile, Piece, Remains, Scanner, Tail, identify,
    remains,
};
use crate::seal;

/// What is wrong with a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Bytes between whole records don't match their checksums.
    Records,
    /// The same, up to the end of the file.
    End,
    /// Only a header of a group was hit: no record is missing.
    GroupHeader,
    /// The first block was hit: no record is missing.
    FirstBlock,
    /// Nothing in the file can be read.
    WholeFile,
}

impl DamageKind {
    /// In words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Records => "bytes don't match their checksums",
            Self::End => {
                "nothing whole up to the end of the file: it is damaged, or one behind it is lost"
            }
            Self::GroupHeader => "the header of a group is damaged; no record is missing",
            Self::FirstBlock => "the first block is damaged; no record is missing",
            Self::WholeFile => "nothing in the file can be read",
        }
    }
}

/// Synced bytes that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDamage {
    pub kind: DamageKind,
    pub first_byte: u64,
    /// The last byte of the range; not the one behind it. Equal to `first_byte` if bytes are lacking.
    pub last_byte: u64,
    /// First missing record; zero if none is missing, or nobody knows.
    pub first_position: Position,
    pub last_position: Position,
    /// Where an opening or a repair has kept the bytes already.
    pub kept_aside: Option<PathBuf>,
}

/// What stands beside a file, for the next opening not to read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealState {
    #[default]
    None,
    Agrees,
    /// It is torn or damaged, or says something else than the file: the next opening throws it away.
    Disagrees,
}

impl SealState {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Agrees => "agrees",
            Self::Disagrees => "disagrees",
        }
    }
}

/// One file of the log.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub path: PathBuf,
    /// None if nothing in the file can be read.
    pub lane: Option<LaneId>,
    /// Microseconds since 1970; zero if the first block can't be read.
    pub created_at_us: i64,
    /// First whole record; zero if there is none.
    pub first: Position,
    pub last: Position,
    pub records: u64,
    /// Up to the end of the last whole record. The space that is reserved behind it isn't counted.
    pub bytes: u64,
    pub damage: Vec<FoundDamage>,
    /// Bytes of a group behind the last whole record that is being written, or that a crash cut
    /// short. Nobody was told that they are stored.
    pub unfinished_bytes: u64,
    pub seal: SealState,
}

impl FileReport {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            lane: None,
            created_at_us: 0,
            first: Position::ZERO,
            last: Position::ZERO,
            records: 0,
            bytes: 0,
            damage: Vec::new(),
            unfinished_bytes: 0,
            seal: SealState::None,
        }
    }
}

/// What an [`Inspector`] comes to next.
#[derive(Clone, Debug)]
pub enum InspectItem {
    /// The records of one group that are wanted; perhaps none.
    Records(Vec<ReadRecord>),
    /// A file that is done with; comes behind its records.
    File(FileReport),
}

#[derive(Debug)]
enum Found {
    Live(LiveFile),
    /// Nothing can be read; `missing` are the records that were in it, as far as others tell.
    Rotted {
        len: u64,
        missing: (Position, Position),
    },
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    sequence: u64,
    found: Found,
}

#[derive(Debug)]
struct OpenFile {
    live: LiveFile,
    file: Arc<dyn File>,
    scanner: Scanner,
    bounds: Bounds,
    report: FileReport,
    bad: Vec<BadRange>,
}

/// Goes through a log, oldest file first. Holds one commit group in memory.
#[derive(Debug)]
pub struct Inspector {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    from: Position,
    entries: VecDeque<Entry>,
    /// Names in the folder of what was kept aside.
    aside: Vec<OsString>,
    /// Everything up to here was synced before the inspection began.
    mark: Position,
    /// Last record accounted for; none if that can't be said.
    last: Option<Position>,
    open: Option<OpenFile>,
    pending: VecDeque<InspectItem>,
}

impl Inspector {
    /// Looks at the files of the log in `directory`, which must exist. Records before `from` are
    /// not given, and files that hold no others are passed by unread.
    ///
    /// Cost: reads the first block of each file and the headers of the newest.
    pub fn open(
        filesystem: Arc<dyn Filesystem>,
        directory: &Path,
        from: Position,
    ) -> Result<Self, OpenError> {
        let aside_directory = directory.join(DAMAGED);
        let aside = if filesystem
            .exists(&aside_directory)
            .context("read", &aside_directory)?
        {
            filesystem
                .read_dir(&aside_directory)
                .context("list", &aside_directory)?
        } else {
            Vec::new()
        };
        let entries = list(&*filesystem, directory)?;
        let mark = find_mark(&*filesystem, &entries)?;
        Ok(Self {
            filesystem,
            directory: directory.to_path_buf(),
            from,
            entries,
            aside,
            mark,
            last: None,
            open: None,
            pending: VecDeque::new(),
        })
    }

    /// The next records or the next file; `None` at the end of what was there at the opening.
    ///
    /// An error ends the inspection. Cost: reads one group.
    pub fn next_item(&mut self) -> Result<Option<InspectItem>, LogError> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(Some(item));
            }
            if let Some(open) = self.open.take() {
                self.read_on(open)?;
            } else if let Some(entry) = self.entries.pop_front() {
                self.begin(entry)?;
            } else {
                return Ok(None);
            }
        }
    }

    fn begin(&mut self, entry: Entry) -> Result<(), LogError> {
        let live = match entry.found {
            Found::Live(live) => live,
            Found::Rotted { len, missing } => {
                self.report_whole_file(entry.path, entry.sequence, len, missing);
                return Ok(());
            }
        };
        let next = self.next_live().copied();
        if let Some(next) = next
            && next.header_whole
            && next.previous < self.from
            && next.previous > Position::ZERO
        {
            self.last = Some(next.previous);
            return Ok(());
        }
        let Some(file) = open_if_there(&*self.filesystem, &entry.path)? else {
            self.last = None;
            return Ok(());
        };
        if !is_still(&*file, &live).context("read", &entry.path)? {
            // Released since the files were listed, and with it all before it.
            self.last = None;
            return Ok(());
        }
        let bounds = Bounds {
            end: file.len().context("read", &entry.path)?,
            expected: next.map(|next| next.previous),
            synced: self.mark,
        };
        // What is missing between two files was told with the first of them, which knows where the
        // second begins. Without a first one, all before was released.
        let after = self.last.unwrap_or(live.previous);
        let shared = Arc::clone(&file);
        let scanner = Scanner::new(shared, live.sequence, live.generation, BLOCK, after);
        let mut report = FileReport::new(entry.path);
        report.lane = Some(live.lane);
        report.created_at_us = live.created_at_us;
        self.open = Some(OpenFile {
            live,
            file,
            scanner,
            bounds,
            report,
            bad: Vec::new(),
        });
        Ok(())
    }

    fn next_live(&self) -> Option<&LiveFile> {
        self.entries.iter().find_map(|entry| match &entry.found {
            Found::Live(live) => Some(live),
            Found::Rotted { .. } => None,
        })
    }

    fn read_on(&mut self, mut open: OpenFile) -> Result<(), LogError> {
        let piece = open
            .scanner
            .next(open.bounds)
            .context("read", &open.report.path)?;
        match piece {
            Piece::Frames(block) => self.take_frames(&mut open, &block),
            Piece::Bad(bad) => {
                self.last = Some(bad.last);
                open.bad.push(bad);
            }
            Piece::End(tail) => return self.finish(open, tail),
        }
        self.open = Some(open);
        Ok(())
    }

    fn take_frames(&mut self, open: &mut OpenFile, block: &FrameBlock) {
        let (Some(first), Some(last)) = (block.frames.first(), block.frames.last()) else {
            return;
        };
        let report = &mut open.report;
        if report.records == 0 {
            report.first = first.position;
        }
        report.last = last.position;
        report.records += block.frames.len() as u64;
        report.bytes = block.base + last.end() as u64;
        self.last = Some(last.position);
        let wanted = block
            .frames
            .iter()
            .filter(|frame| frame.position >= self.from);
        let records = wanted.map(|frame| ReadRecord {
            lane: open.live.lane,
            position: frame.position,
            context: block.bytes.as_slice()[frame.context.clone()].to_vec(),
            payload: block.bytes.slice(frame.payload.clone()),
        });
        self.pending
            .push_back(InspectItem::Records(records.collect()));
    }

    fn finish(&mut self, open: OpenFile, tail: Tail) -> Result<(), LogError> {
        let OpenFile {
            live,
            file,
            bounds,
            mut report,
            mut bad,
            ..
        } = open;
        // A first block beside records that were synced can't be torn: it was written before.
        let synced = report.records > 0 && report.last <= self.mark;
        if !live.header_whole && bad.is_empty() && synced {
            report.damage.push(FoundDamage {
                kind: DamageKind::FirstBlock,
                first_byte: 0,
                last_byte: BLOCK - 1,
                first_position: Position::ZERO,
                last_position: Position::ZERO,
                kept_aside: self.kept_aside(live.sequence, (0, BLOCK), Default::default()),
            });
        }
        let blamed = !bad.is_empty() || !report.damage.is_empty();
        if blamed && !is_still(&*file, &live).context("read", &report.path)? {
            // Missing bytes of a file that is no longer in the log mean nothing.
            bad.clear();
            report.damage.clear();
        }
        for range in bad {
            if !self.blame_rotted(bounds, range) {
                let damage = self.describe(live.sequence, bounds, range);
                report.damage.push(damage);
            }
        }
        if bounds.expected.is_none()
            && let Some(torn_end) = tail.torn_end
        {
            report.unfinished_bytes = torn_end.saturating_sub(tail.offset);
        }
        report.seal = self.look_at_seal(&live, bounds, &report)?;
        self.pending.push_back(InspectItem::File(report));
        Ok(())
    }

    fn look_at_seal(
        &self,
        live: &LiveFile,
        bounds: Bounds,
        report: &FileReport,
    ) -> Result<SealState, LogError> {
        let path = self.directory.join(seal_name(live.sequence));
        if !self.filesystem.exists(&path).context("read", &path)? {
            return Ok(SealState::None);
        }
        let agrees = seal::read(&*self.filesystem, &path)?.is_some_and(|seal| {
            seal.agrees(live, bounds.end, bounds.expected)
                && seal.last == report.last
                && seal.records == report.records
                && seal.end == report.bytes
        });
        Ok(if agrees {
            SealState::Agrees
        } else {
            SealState::Disagrees
        })
    }

    fn describe(&self, sequence: u64, bounds: Bounds, bad: BadRange) -> FoundDamage {
        let positions = missing_positions(bad.after, bad.last);
        let kind = if bad.last == bad.after {
            DamageKind::GroupHeader
        } else if bad.end >= bounds.end {
            DamageKind::End
        } else {
            DamageKind::Records
        };
        FoundDamage {
            kind,
            first_byte: bad.start,
            last_byte: bad.end.saturating_sub(1).max(bad.start),
            first_position: positions.0,
            last_position: positions.1,
            kept_aside: self.kept_aside(sequence, (bad.start, bad.end), positions),
        }
    }

    /// What is missing at the end of a file was in the file behind it, if that one is there and
    /// can't be read; then it is reported with that one.
    fn blame_rotted(&mut self, bounds: Bounds, bad: BadRange) -> bool {
        if bad.end < bounds.end || Some(bad.last) != bounds.expected {
            return false;
        }
        let Some(Entry {
            found: Found::Rotted { missing, .. },
            ..
        }) = self.entries.front_mut()
        else {
            return false;
        };
        *missing = missing_positions(bad.after, bad.last);
        true
    }

    fn report_whole_file(
        &mut self,
        path: PathBuf,
        sequence: u64,
        len: u64,
        missing: (Position, Position),
    ) {
        let mut report = FileReport::new(path);
        report.damage.push(FoundDamage {
            kind: DamageKind::WholeFile,
            first_byte: 0,
            last_byte: len.saturating_sub(1),
            first_position: missing.0,
            last_position: missing.1,
            kept_aside: self.kept_aside(sequence, (0, len), missing),
        });
        self.pending.push_back(InspectItem::File(report));
    }

    /// Where the bytes were put, by their range or by the records that they held.
    fn kept_aside(
        &self,
        sequence: u64,
        range: (u64, u64),
        positions: (Position, Position),
    ) -> Option<PathBuf> {
        let name = OsString::from(damaged_name(sequence, range, positions));
        let found = self
            .aside
            .iter()
            .find(|kept| **kept == name || parse_damaged(kept) == Some(positions))?;
        Some(self.directory.join(DAMAGED).join(found))
    }
}

/// First and last missing record; zeros if none is missing.
fn missing_positions(after: Position, last: Position) -> (Position, Position) {
    if last > after {
        (after.next(), last)
    } else {
        Default::default()
    }
}

/// Opens a file; `None` if it was released since its name was read.
fn open_if_there(
    filesystem: &dyn Filesystem,
    path: &Path,
) -> Result<Option<Arc<dyn File>>, LogError> {
    match filesystem.open_read(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::new("open", path, error)),
    }
}

/// True if the file is what it was: neither released nor in its next use.
fn is_still(file: &dyn File, live: &LiveFile) -> io::Result<bool> {
    Ok(matches!(
        identify(file, live.sequence)?,
        Identity::Live(now) if now.generation == live.generation
    ))
}

fn list(filesystem: &dyn Filesystem, directory: &Path) -> Result<VecDeque<Entry>, OpenError> {
    let mut entries = Vec::new();
    for name in filesystem.read_dir(directory).context("list", directory)? {
        let Some(FileName::Log(sequence)) = FileName::parse(&name) else {
            continue;
        };
        let path = directory.join(name);
        let Some(file) = open_if_there(filesystem, &path)? else {
            continue;
        };
        let found = match identify(&*file, sequence).context("read", &path)? {
            Identity::Live(live) => Found::Live(live),
            Identity::Blank if is_rotted(&*file, sequence).context("read", &path)? => {
                Found::Rotted {
                    len: file.len().context("read", &path)?,
                    missing: Default::default(),
                }
            }
            Identity::Blank | Identity::Released => continue,
            Identity::Newer { version } => return Err(OpenError::NewerFormat { path, version }),
        };
        entries.push(Entry {
            path,
            sequence,
            found,
        });
    }
    entries.sort_by_key(|entry| entry.sequence);
    Ok(entries.into())
}

/// Tells whether a blank file may hold records. Looked at twice: the writer may be at the first
/// group of a new file just now.
fn is_rotted(file: &dyn File, sequence: u64) -> io::Result<bool> {
    for _ in 0..2 {
        let blank = matches!(identify(file, sequence)?, Identity::Blank);
        if !blank || remains(file)? != Remains::Damaged {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How far the log is known to be synced: by the newest file that says so.
fn find_mark(filesystem: &dyn Filesystem, entries: &VecDeque<Entry>) -> Result<Position, LogError> {
    for entry in entries.iter().rev() {
        let Found::Live(live) = &entry.found else {
            continue;
        };
        let Some(file) = open_if_there(filesystem, &entry.path)? else {
            continue;
        };
        let mark = synced_mark(&*file, live).context("read", &entry.path)?;
        if mark > Position::ZERO {
            return Ok(mark);
        }
    }
    Ok(Position::ZERO)
}

//! A model of a table and of how it is committed to, on the simulated disk.
//!
//! It follows the committer of the service (`python/penstock/table/log_table.py`): a commit names
//! files and carries one transaction a lane; nobody syncs it but us; a table is asked what it has,
//! and what it says counts only after it was written once more and synced; after a doubt, and never
//! by a return value, its transactions decide.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use penstock_disk::{FaultyFilesystem, Filesystem};
use penstock_model::{LaneId, Position};
use penstock_segment::{SegmentFile, TableKind};

use super::model::Found;
use super::note::TableNote;
use super::request::{SECRET, SNAPSHOT, VISITOR, id_of, number_of};
use super::table_log::{Snapshot, TableLog};

/// Commits between two checkpoints: few, so that a short world has some.
const CHECKPOINT_EVERY: u64 = 4;

/// Why a commit did not come to its end.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Try again: the table is asked first.
    Again,
    /// Nobody knows what is on the disk: only a restart helps.
    Hold,
}

impl From<io::Error> for CommitError {
    fn from(_: io::Error) -> Self {
        Self::Again
    }
}

/// What goes wrong beside the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mishap {
    /// The library raises after the commit has landed.
    pub(super) raises_after_landing: bool,
}

pub(super) struct Table {
    faulty: FaultyFilesystem,
    pub(super) kind: TableKind,
    directory: PathBuf,
    log: TableLog,
    snapshot: Snapshot,
    /// Where each lane is, as far as we moved it or found it.
    expected: BTreeMap<String, u64>,
    /// Entries below this were synced by this process.
    synced: u64,
    checkpoint: Option<u64>,
    /// A commit failed on the way: the table must be asked before the next.
    in_doubt: bool,
}

impl Table {
    /// Opens or makes a table. Durability: what it says of itself is synced.
    pub(super) fn open(
        faulty: &FaultyFilesystem,
        data_directory: &Path,
        kind: TableKind,
        note: Option<&TableNote>,
    ) -> io::Result<Self> {
        let directory = data_directory.join(kind.name());
        let filesystem: Arc<dyn Filesystem> = Arc::new(faulty.clone());
        let log = TableLog::open(&filesystem, &directory)?;
        let synced = note.map_or(0, |note| note.versions);
        log.mend(synced)?;
        let (snapshot, checkpoint) = log.load_synced(synced)?;
        if let Some(note) = note {
            let (found, noted) = (&snapshot, note.versions);
            assert!(
                found.next_version >= noted,
                "{kind:?} went back: {note:?}, {found:?}"
            );
            for (lane, position) in &note.txns {
                let seen = found.txns.get(lane);
                assert!(
                    seen >= Some(position),
                    "{kind:?} went back: {note:?}, {found:?}"
                );
            }
        }
        Ok(Self {
            faulty: faulty.clone(),
            kind,
            directory,
            log,
            expected: snapshot.txns.clone(),
            synced: snapshot.next_version,
            snapshot,
            checkpoint,
            in_doubt: false,
        })
    }

    /// The transactions, as the engine wants to be told of them.
    pub(super) fn committed(&self) -> Vec<(TableKind, LaneId, Position)> {
        let txns = self.snapshot.txns.iter();
        txns.map(|(lane, position)| {
            let lane = LaneId::parse(lane).unwrap();
            (self.kind, lane, Position::new(*position))
        })
        .collect()
    }

    /// Whether the newest entry may be one of ours that we do not know of.
    pub(super) const fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) fn has_passed(&self, lane: LaneId, position: Position) -> bool {
        let passed = self.snapshot.txns.get(&lane.to_string());
        passed.is_some_and(|passed| position.get() <= *passed)
    }

    /// What a note says of the table.
    pub(super) fn note(&self) -> TableNote {
        TableNote {
            versions: self.snapshot.next_version,
            txns: self.expected.clone(),
        }
    }

    /// Commits a cut's files for this table, unless it has them already.
    ///
    /// Durability: on `Ok`, the table has the cut after a power cut too.
    pub(super) fn commit(
        &mut self,
        files: &[&SegmentFile],
        txns: &[(LaneId, Position)],
        mishap: Mishap,
    ) -> Result<(), CommitError> {
        let Some(actions) = self.prepare(files, txns)? else {
            return Ok(());
        };
        self.write(&actions, mishap)
    }

    /// Asks the table what it has; what is to be committed, unless that is all there.
    pub(super) fn prepare(
        &mut self,
        files: &[&SegmentFile],
        txns: &[(LaneId, Position)],
    ) -> Result<Option<Snapshot>, CommitError> {
        let wanted: BTreeMap<String, u64> = txns
            .iter()
            .map(|(lane, position)| (lane.to_string(), position.get()))
            .collect();
        if self.in_doubt {
            self.refresh()?;
            self.settle(&wanted)?;
        }
        let is_new = self.snapshot.next_version == 0;
        if self.kind == TableKind::Recordings && is_new && files.is_empty() {
            // Made with its first row: a table that is not there has nothing to pass.
            return Ok(None);
        }
        let missing: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(lane, to)| self.expected.get(*lane).is_none_or(|known| known < *to))
            .map(|(lane, to)| (lane.clone(), *to))
            .collect();
        if missing.is_empty() {
            return Ok(None);
        }
        self.check_overlap(files, &wanted);
        for file in files {
            let contents = self.faulty.contents(&self.directory.join(&file.path));
            let size = contents.map(|contents| contents.len() as u64);
            assert_eq!(size, Some(file.size_bytes), "a file of the cut");
        }
        Ok(Some(Snapshot {
            next_version: 0,
            txns: missing,
            files: files.iter().map(|file| file.path.clone()).collect(),
        }))
    }

    /// Makes the commit on the version that was asked.
    pub(super) fn write(&mut self, actions: &Snapshot, mishap: Mishap) -> Result<(), CommitError> {
        self.in_doubt = true;
        let version = self.log.write_entry(&self.snapshot, actions)?;
        if mishap.raises_after_landing {
            return Err(CommitError::Again);
        }
        self.log.sync_entries(self.synced, version)?;
        (self.snapshot, _) = self.log.load()?;
        self.synced = version + 1;
        let there = |(lane, to): (&String, &u64)| self.snapshot.txns.get(lane) == Some(to);
        assert!(actions.txns.iter().all(there), "the commit is there");
        self.expected.extend(actions.txns.clone());
        self.in_doubt = false;
        Ok(())
    }

    /// A new object: everything that it reads is synced.
    fn refresh(&mut self) -> io::Result<()> {
        let (snapshot, checkpoint) = self.log.load_synced(self.synced)?;
        self.synced = snapshot.next_version;
        (self.snapshot, self.checkpoint) = (snapshot, checkpoint);
        Ok(())
    }

    /// After a doubt: finds by the transactions whether the commit landed.
    fn settle(&mut self, wanted: &BTreeMap<String, u64>) -> Result<(), CommitError> {
        for (lane, seen) in &self.snapshot.txns {
            let expected = self.expected.get(lane);
            if Some(seen) != expected && Some(seen) != wanted.get(lane).max(expected) {
                // Somebody else writes under our lane.
                return Err(CommitError::Hold);
            }
        }
        self.expected.clone_from(&self.snapshot.txns);
        self.in_doubt = false;
        Ok(())
    }

    /// No file may have rows that the table has, or rows beyond the cut. Positions grow from lane to
    /// lane (WAL-3).
    fn check_overlap(&self, files: &[&SegmentFile], wanted: &BTreeMap<String, u64>) {
        let mut lanes: Vec<(&String, &u64)> = wanted.iter().collect();
        lanes.sort_by_key(|(_, to)| **to);
        let mut lower = 0;
        for (lane, to) in lanes {
            if let Some(known) = self.expected.get(lane) {
                let upper = *known.min(to);
                for file in files {
                    let (first, last) = (file.first_position.get(), file.last_position.get());
                    let overlaps = lower <= upper && first <= upper && lower <= last;
                    assert!(!overlaps, "the table has rows of {file:?}");
                }
            }
            lower = to + 1;
        }
        let end = wanted.values().max().copied().unwrap_or(0);
        let beyond = |file: &&SegmentFile| file.last_position.get() > end;
        assert!(!files.iter().any(beyond), "rows beyond the cut");
    }

    /// Makes a checkpoint when it is due. A failure leaves the table whole, and in doubt.
    pub(super) fn checkpoint_if_due(&mut self, kept: u64) {
        let since = self.checkpoint.map_or(0, |version| version + 1);
        if self.in_doubt || self.snapshot.next_version - since < CHECKPOINT_EVERY {
            return;
        }
        match self.log.make_checkpoint(&self.snapshot, kept) {
            Ok(version) => self.checkpoint = Some(version),
            Err(_) => self.in_doubt = true,
        }
    }

    /// What is in the files that the table names. TAB-2: they were synced before they were named.
    pub(super) fn found(&self) -> Found {
        let mut found = Found::default();
        for file in &self.snapshot.files {
            let path = self.directory.join(file);
            let contents = self.faulty.contents(&path);
            let contents = contents.expect("a named file is there (TAB-2)");
            found.extend(&read_rows(self.kind, &contents));
        }
        found
    }
}

/// Whether a table is that of an event; `None` of the one whose rows have no ids.
pub(super) const fn is_for(kind: TableKind, id: u64) -> Option<bool> {
    match kind {
        TableKind::Events => Some(id & SNAPSHOT == 0),
        TableKind::Recordings => Some(id & SNAPSHOT != 0),
        TableKind::Rejected => None,
    }
}

/// Files kept in [`READ`]: several times as many as a world's tables name.
const MAX_READ_FILES: usize = 1_000;

/// By the address of the contents.
type ReadFiles = HashMap<*const Vec<u8>, (Arc<Vec<u8>>, Arc<Found>)>;

thread_local! {
    /// Files that were read before. The contents are kept with them, so that the very same bytes
    /// are known by their address, on all forks of a disk.
    static READ: RefCell<ReadFiles> = RefCell::default();
}

#[expect(clippy::rc_buffer, reason = "as the disk shares it")]
fn read_rows(kind: TableKind, contents: &Arc<Vec<u8>>) -> Arc<Found> {
    let address = Arc::as_ptr(contents);
    let known = READ.with_borrow(|read| read.get(&address).map(|(_, found)| Arc::clone(found)));
    known.unwrap_or_else(|| {
        let found = Arc::new(parse_rows(kind, contents));
        READ.with_borrow_mut(|read| {
            if read.len() >= MAX_READ_FILES {
                read.clear();
            }
            read.insert(address, (Arc::clone(contents), Arc::clone(&found)));
        });
        found
    })
}

fn parse_rows(kind: TableKind, contents: &[u8]) -> Found {
    let column = match kind {
        TableKind::Events | TableKind::Recordings => "uuid",
        TableKind::Rejected => "raw",
    };
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(contents)).unwrap();
    let mut found = Found::default();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).unwrap();
        let texts = texts_of(&*group, column);
        for text in &texts {
            let text = text.as_utf8().unwrap();
            if kind == TableKind::Rejected {
                found.rejected.push(number_of(text));
                continue;
            }
            let id = id_of(text);
            assert_eq!(
                is_for(kind, id),
                Some(true),
                "event {id} is in another table"
            );
            found.ids.push(id);
        }
        let is_visitor = |uuid: &ByteArray| id_of(uuid.as_utf8().unwrap()) & VISITOR != 0;
        if kind == TableKind::Events && texts.iter().any(is_visitor) {
            let [persons, properties] =
                ["distinct_id", "properties"].map(|name| texts_of(&*group, name));
            for (index, _) in texts
                .iter()
                .enumerate()
                .filter(|(_, uuid)| is_visitor(uuid))
            {
                let person = persons[index].as_utf8().unwrap();
                assert!(person.starts_with("cookieless_"), "{person}");
                assert!(!properties[index].as_utf8().unwrap().contains(SECRET));
            }
        }
    }
    found
}

/// A column of texts, none of which is null.
fn texts_of(group: &dyn RowGroupReader, column: &str) -> Vec<ByteArray> {
    let columns = group.metadata().columns();
    let mut names = columns.iter().map(|chunk| chunk.column_descr().name());
    let index = names.position(|name| name == column).unwrap();
    let rows = usize::try_from(group.metadata().num_rows()).unwrap();
    let ColumnReader::ByteArrayColumnReader(mut column) = group.get_column_reader(index).unwrap()
    else {
        panic!("texts")
    };
    let mut texts = Vec::with_capacity(rows);
    column.read_records(rows, None, None, &mut texts).unwrap();
    assert_eq!(texts.len(), rows, "a row is missing");
    texts
}

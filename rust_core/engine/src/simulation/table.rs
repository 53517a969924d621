//! A model of the tables and of how they are committed to, on the simulated disk.
//!
//! It follows the committer of the service (`python/penstock/table`): a commit is a numbered entry
//! that names files and carries one transaction a lane, made by creating its file exclusively;
//! nobody syncs it but us; a table is asked what it has, and what it says counts only after it was
//! written once more and synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use penstock_disk::Filesystem;
use penstock_model::{LaneId, Position};
use penstock_segment::{SegmentFile, TableKind};

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

#[derive(Debug, Default)]
struct Entries {
    next_version: u64,
    txns: BTreeMap<String, u64>,
    files: Vec<String>,
}

pub(super) struct Table {
    filesystem: Arc<dyn Filesystem>,
    kind: TableKind,
    directory: PathBuf,
    entries: Entries,
    /// A commit failed on the way: the table must be asked before the next.
    in_doubt: bool,
}

impl Table {
    /// Opens or makes a table. Durability: what it says of itself is synced.
    pub(super) fn open(
        filesystem: &Arc<dyn Filesystem>,
        data_directory: &Path,
        kind: TableKind,
    ) -> io::Result<Self> {
        let directory = data_directory.join(kind.name());
        filesystem.create_dir_synced(&directory.join("_delta_log"))?;
        let mut table = Self {
            filesystem: Arc::clone(filesystem),
            kind,
            directory,
            entries: Entries::default(),
            in_doubt: false,
        };
        table.reload()?;
        Ok(table)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("_delta_log")
    }

    fn entry_path(&self, version: u64) -> PathBuf {
        self.log().join(format!("{version:020}.json"))
    }

    /// Reads all entries, and syncs what no earlier sync is known to have made durable.
    fn reload(&mut self) -> io::Result<()> {
        let mut entries = Entries::default();
        loop {
            let path = self.entry_path(entries.next_version);
            if !self.filesystem.exists(&path)? {
                break;
            }
            let text = read(&*self.filesystem, &path)?;
            if !entries.add(&text) {
                // A crash left it unfinished: it is no commit, and the newest.
                let newer = self.entry_path(entries.next_version + 1);
                assert!(
                    !self.filesystem.exists(&newer)?,
                    "a torn entry in the middle"
                );
                self.filesystem
                    .rename(&path, &path.with_extension("torn"))?;
                break;
            }
            let file = self.filesystem.open_read_write(&path)?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.sync_all()?;
        }
        self.filesystem.sync_dir(&self.log())?;
        self.entries = entries;
        self.in_doubt = false;
        Ok(())
    }

    /// The transactions, as the engine wants to be told of them.
    pub(super) fn committed(&self) -> Vec<(TableKind, LaneId, Position)> {
        let txns = self.entries.txns.iter();
        txns.map(|(lane, position)| {
            let lane = LaneId::parse(lane).unwrap();
            (self.kind, lane, Position::new(*position))
        })
        .collect()
    }

    /// Commits a cut's files for this table, unless it has them already.
    ///
    /// Durability: on `Ok`, the table has the cut after a power cut too.
    pub(super) fn commit(
        &mut self,
        files: &[&SegmentFile],
        txns: &[(LaneId, Position)],
    ) -> Result<(), CommitError> {
        if self.in_doubt {
            self.reload()?;
        }
        if self.kind == TableKind::Recordings && self.entries.next_version == 0 && files.is_empty()
        {
            // Made with its first row: a table that is not there has nothing to pass.
            return Ok(());
        }
        let has = |(lane, position): &(LaneId, Position)| {
            let known = self.entries.txns.get(&lane.to_string());
            known.is_some_and(|known| *known >= position.get())
        };
        if txns.iter().all(has) {
            return Ok(());
        }
        self.in_doubt = true;
        let mut lines: Vec<String> = files
            .iter()
            .map(|file| format!("file {}", file.path))
            .collect();
        let txns = txns.iter();
        lines.extend(txns.map(|(lane, position)| format!("txn {lane} {}", position.get())));
        let text = format!("{}\nend {}\n", lines.join("\n"), lines.len());
        let path = self.entry_path(self.entries.next_version);
        let file = self.filesystem.create_new(&path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        if file.sync_all().is_err() {
            // Linux tells of a failed write once: dirty again, and once more.
            file.write_all_at(text.as_bytes(), 0)
                .and_then(|()| file.sync_all())
                .map_err(|_| CommitError::Hold)?;
        }
        self.filesystem
            .sync_dir(&self.log())
            .map_err(|_| CommitError::Hold)?;
        assert!(self.entries.add(&text), "it is whole");
        self.in_doubt = false;
        Ok(())
    }

    /// One text a row: the uuid of an event or a snapshot, the raw text of a refused one.
    pub(super) fn rows(&self) -> Vec<String> {
        let column = match self.kind {
            TableKind::Events | TableKind::Recordings => "uuid",
            TableKind::Rejected => "raw",
        };
        let mut rows = Vec::new();
        for file in &self.entries.files {
            // TAB-2: what is named was synced before.
            let path = self.directory.join(file);
            let contents = read_bytes(&*self.filesystem, &path).unwrap();
            let contents = bytes::Bytes::from(contents);
            let builder = ParquetRecordBatchReaderBuilder::try_new(contents).unwrap();
            for batch in builder.build().unwrap() {
                let batch = batch.unwrap();
                let texts = batch.column_by_name(column).unwrap().as_string::<i32>();
                rows.extend(texts.iter().flatten().map(ToOwned::to_owned));
            }
        }
        rows
    }
}

impl Entries {
    /// Adds an entry; false if it is not whole.
    fn add(&mut self, text: &str) -> bool {
        let Some((body, end)) = text
            .strip_suffix('\n')
            .and_then(|whole| whole.rsplit_once("end "))
        else {
            return false;
        };
        let lines: Vec<&str> = body.lines().collect();
        if end.parse() != Ok(lines.len()) {
            return false;
        }
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["file", path] => self.files.push(path.to_owned()),
                ["txn", lane, position] => {
                    let position: u64 = position.parse().unwrap();
                    let known = self.txns.entry(lane.to_owned()).or_default();
                    *known = position.max(*known);
                }
                _ => return false,
            }
        }
        self.next_version += 1;
        true
    }
}

fn read(filesystem: &dyn Filesystem, path: &Path) -> io::Result<String> {
    let bytes = read_bytes(filesystem, path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(filesystem: &dyn Filesystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = filesystem.open_read(path)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

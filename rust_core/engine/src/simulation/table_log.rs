//! The log of a table as it lies on disk: numbered entries, checkpoints, the name of the newest.
//!
//! Follows `python/penstock/table/log_files.py` and what the library does below it: an entry and a
//! checkpoint are written under a temporary name and renamed, unsynced; a power cut may leave the
//! name without the contents. Both end with a line that says how many stand before it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penstock_disk::Filesystem;

use super::table::CommitError;

const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// What a version of the table has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Number of the entry that comes next.
    pub(super) next_version: u64,
    /// Lane to position.
    pub(super) txns: BTreeMap<String, u64>,
    pub(super) files: Vec<String>,
}

impl Snapshot {
    /// Adds an entry's or a checkpoint's lines; false, and nothing, if they are not whole.
    fn add(&mut self, text: &str) -> bool {
        let Some((body, end)) = text
            .strip_suffix('\n')
            .and_then(|whole| whole.rsplit_once("end "))
        else {
            return false;
        };
        if end.parse() != Ok(body.lines().count()) {
            return false;
        }
        for line in body.lines() {
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
        true
    }

    pub(super) fn to_text(&self) -> String {
        let mut lines: Vec<String> = self
            .files
            .iter()
            .map(|path| format!("file {path}"))
            .collect();
        let txns = self.txns.iter();
        lines.extend(txns.map(|(lane, position)| format!("txn {lane} {position}")));
        let count = lines.len();
        lines.push(format!("end {count}"));
        lines.join("\n") + "\n"
    }
}

/// What lies in the log's directory.
#[derive(Debug, Default)]
struct Listing {
    entries: Vec<u64>,
    checkpoints: Vec<u64>,
    /// Which checkpoint [`LAST_CHECKPOINT`] names.
    named: Option<u64>,
}

impl Listing {
    /// Whether every entry from `start` to the newest is there.
    fn reaches_back_to(&self, start: u64) -> bool {
        let entries = self.entries.iter().filter(|entry| **entry >= start);
        let newest = self.entries.last().copied().unwrap_or(0);
        !self.entries.is_empty() && entries.copied().eq(start..=newest)
    }
}

#[derive(Debug)]
pub(super) struct TableLog {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
}

impl TableLog {
    /// Durability: the directory, on `Ok`.
    pub(super) fn open(filesystem: &Arc<dyn Filesystem>, table: &Path) -> io::Result<Self> {
        let directory = table.join("_delta_log");
        filesystem.create_dir_synced(&directory)?;
        let filesystem = Arc::clone(filesystem);
        Ok(Self {
            filesystem,
            directory,
        })
    }

    fn entry(&self, version: u64) -> PathBuf {
        self.directory.join(format!("{version:020}.json"))
    }

    fn checkpoint(&self, version: u64) -> PathBuf {
        self.directory.join(format!("{version:020}.checkpoint"))
    }

    fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for name in self.filesystem.read_dir(&self.directory)? {
            let name = name.to_string_lossy().into_owned();
            match name.split_once('.') {
                Some((version, "json")) => listing.entries.push(version.parse().unwrap()),
                Some((version, "checkpoint")) => listing.checkpoints.push(version.parse().unwrap()),
                None if name == LAST_CHECKPOINT => {
                    let text = self.read(&self.directory.join(&name))?;
                    listing.named = text.trim().parse().ok();
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let file = self.filesystem.open_read(path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap()];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn is_whole(&self, path: &Path) -> io::Result<bool> {
        Ok(Snapshot::default().add(&self.read(path)?))
    }

    /// Moves aside what a power cut tore, as far as the log still holds it. Whatever is not torn at
    /// its newest end was once synced: it must be whole. `synced`: number of entries that were, by
    /// the note.
    pub(super) fn mend(&self, synced: u64) -> io::Result<()> {
        let listing = self.list()?;
        let mut whole = Vec::new();
        let mut torn = Vec::new();
        for version in &listing.checkpoints {
            if self.is_whole(&self.checkpoint(*version))? {
                whole.push(*version);
            } else {
                torn.push(*version);
            }
        }
        let missing = listing
            .named
            .filter(|named| !listing.checkpoints.contains(named));
        torn.extend(missing);
        for version in torn {
            let older = whole.last().copied().unwrap_or(0);
            assert!(
                listing.reaches_back_to(older),
                "checkpoint {version} is damaged, and entries before it are gone: {listing:?}"
            );
            let mut paths = vec![self.checkpoint(version)];
            if listing.named == Some(version) {
                paths.push(self.directory.join(LAST_CHECKPOINT));
            }
            self.move_aside(&paths)?;
        }
        let mut whole_above = false;
        for version in listing.entries.iter().rev() {
            if whole.last().is_some_and(|checkpoint| version <= checkpoint) {
                break;
            }
            if self.is_whole(&self.entry(*version))? {
                whole_above = true;
                continue;
            }
            assert!(
                !whole_above && *version >= synced,
                "entry {version} is damaged; {synced} were synced: {listing:?}"
            );
            self.move_aside(&[self.entry(*version)])?;
        }
        Ok(())
    }

    fn move_aside(&self, paths: &[PathBuf]) -> io::Result<()> {
        let table = self.directory.parent().unwrap();
        let aside = table.join("_torn");
        self.filesystem.create_dir_synced(&aside)?;
        for path in paths {
            if !self.filesystem.exists(path)? {
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let mut number = 0;
            while self
                .filesystem
                .exists(&aside.join(format!("{name}.{number}")))?
            {
                number += 1;
            }
            self.filesystem
                .rename(path, &aside.join(format!("{name}.{number}")))?;
        }
        for directory in [&aside, &self.directory] {
            self.filesystem.sync_dir(directory)?;
        }
        Ok(())
    }

    /// Reads the newest version and makes durable all that it rests on. Of what is newer than the
    /// `synced` first entries nobody knows whether an earlier process synced it, or failed to: it is
    /// written again.
    pub(super) fn load_synced(&self, synced: u64) -> io::Result<(Snapshot, Option<u64>)> {
        let loaded = self.load()?;
        if let (_, Some(checkpoint)) = loaded {
            self.sync(&self.checkpoint(checkpoint), checkpoint + 1 >= synced)?;
        }
        let last = self.directory.join(LAST_CHECKPOINT);
        if self.filesystem.exists(&last)? {
            self.sync(&last, false)?;
        }
        let first = loaded.1.map_or(0, |checkpoint| checkpoint + 1);
        for version in first..loaded.0.next_version {
            self.sync(&self.entry(version), version >= synced)?;
        }
        self.filesystem.sync_dir(&self.directory)?;
        Ok(loaded)
    }

    /// Reads the newest version, and the number of the checkpoint that it was read by.
    pub(super) fn load(&self) -> io::Result<(Snapshot, Option<u64>)> {
        let listing = self.list()?;
        let mut snapshot = Snapshot::default();
        let newest = listing.checkpoints.last().copied();
        if let Some(version) = newest {
            let path = self.checkpoint(version);
            assert!(snapshot.add(&self.read(&path)?), "mended before");
            snapshot.next_version = version + 1;
        }
        let first = snapshot.next_version;
        for version in listing.entries.into_iter().filter(|entry| *entry >= first) {
            assert_eq!(version, snapshot.next_version, "an entry is missing");
            let path = self.entry(version);
            assert!(snapshot.add(&self.read(&path)?), "mended before");
            snapshot.next_version = version + 1;
        }
        Ok((snapshot, newest))
    }

    fn sync(&self, path: &Path, again: bool) -> io::Result<()> {
        let file = self.filesystem.open_read_write(path)?;
        if again {
            let text = self.read(path)?;
            file.write_all_at(text.as_bytes(), 0)?;
        }
        file.sync_all()
    }

    /// What the library does at a commit: the next free number is taken, unless an entry that came
    /// in between has a lane in common. Durability: none.
    pub(super) fn write_entry(&self, base: &Snapshot, actions: &Snapshot) -> io::Result<u64> {
        let mut version = base.next_version;
        while self.filesystem.exists(&self.entry(version))? {
            let mut other = Snapshot::default();
            assert!(other.add(&self.read(&self.entry(version))?));
            if other
                .txns
                .keys()
                .any(|lane| actions.txns.contains_key(lane))
            {
                return Err(io::Error::other("a commit of this lane came between"));
            }
            version += 1;
        }
        self.write_renamed(&self.entry(version), &actions.to_text())?;
        Ok(version)
    }

    fn write_renamed(&self, path: &Path, text: &str) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        if self.filesystem.exists(&temporary)? {
            self.filesystem.remove_file(&temporary)?;
        }
        let file = self.filesystem.create_new(&temporary)?;
        file.write_all_at(text.as_bytes(), 0)?;
        self.filesystem.rename(&temporary, path)
    }

    /// Syncs what the library wrote from `first` on, and the directory. Linux tells of a failed write once, so after
    /// a failure the bytes are written once more. Durability: on `Ok`, the entries survive.
    pub(super) fn sync_entries(&self, first: u64, last: u64) -> Result<(), CommitError> {
        for version in first..=last {
            let path = self.entry(version);
            self.sync(&path, false)
                .or_else(|_| self.sync(&path, true))
                .map_err(|_| CommitError::Hold)?;
        }
        self.filesystem
            .sync_dir(&self.directory)
            .map_err(|_| CommitError::Hold)
    }

    /// Makes a checkpoint of the newest version as the library does, syncs and reads it back; then
    /// lets older entries and checkpoints go, but for the newest `kept` entries.
    pub(super) fn make_checkpoint(&self, snapshot: &Snapshot, kept: u64) -> io::Result<u64> {
        let version = snapshot.next_version - 1;
        let path = self.checkpoint(version);
        self.write_renamed(&path, &snapshot.to_text())?;
        let last = self.directory.join(LAST_CHECKPOINT);
        self.write_renamed(&last, &format!("{version}\n"))?;
        for path in [&path, &last] {
            self.sync(path, false).or_else(|_| self.sync(path, true))?;
        }
        self.filesystem.sync_dir(&self.directory)?;
        let mut back = Snapshot {
            next_version: snapshot.next_version,
            ..Snapshot::default()
        };
        assert!(back.add(&self.read(&path)?) && back == *snapshot);
        let listing = self.list()?;
        for entry in listing.entries {
            if entry + kept < version {
                self.filesystem.remove_file(&self.entry(entry))?;
            }
        }
        for other in listing.checkpoints {
            if other < version {
                self.filesystem.remove_file(&self.checkpoint(other))?;
            }
        }
        self.filesystem.sync_dir(&self.directory)?;
        Ok(version)
    }
}

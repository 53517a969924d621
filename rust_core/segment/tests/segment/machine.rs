//! A builder on a disk that forgets what was not synced.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use penstock_disk::{Crash, FaultyFilesystem, File, Filesystem, FilesystemKind, LockGuard};
use penstock_segment::{
    ByTable, Codec, CutBuilder, Layout, SegmentError, SegmentFile, SegmentOptions,
};

use crate::checks::{Rows, checked_rows};
use crate::samples::Logged;
use crate::support::{OPTIONS, files_below};

/// The data directory: made, synced and kept by the engine.
pub(crate) const DATA: &str = "/data";

/// Spills partitions, and writes row groups before a file is closed.
pub(crate) const SMALL: SegmentOptions = SegmentOptions {
    codec: Codec::None,
    row_group_rows: 3,
    batch_rows: 2,
    max_open_partitions: 3,
    max_open_files: 2,
    ..OPTIONS
};

/// One process and its disk.
pub(crate) struct Machine {
    pub(crate) disk: FaultyFilesystem,
    pub(crate) builder: CutBuilder,
}

impl Machine {
    /// A first start: the data directory is there and durable, nothing is in it.
    pub(crate) fn new(options: SegmentOptions) -> Self {
        let disk = FaultyFilesystem::new();
        disk.create_dir_synced(Path::new(DATA)).unwrap();
        Self::start(disk, options)
    }

    /// A start on a disk as it was left.
    pub(crate) fn start(disk: FaultyFilesystem, options: SegmentOptions) -> Self {
        let filesystem: Arc<dyn Filesystem> = Arc::new(disk.clone());
        let builder = builder(&filesystem, options);
        Self { disk, builder }
    }

    /// Adds all records and makes them a cut.
    pub(crate) fn cut(&mut self, log: &[Logged]) -> Result<Vec<SegmentFile>, SegmentError> {
        build_cut(&mut self.builder, log)
    }

    pub(crate) fn rows(&self, files: &[SegmentFile]) -> Rows {
        checked_rows(&self.disk, Path::new(DATA), files)
    }

    /// The rows that are left when the power fails now. The builder must not be used after.
    pub(crate) fn rows_after_power_cut(&self, files: &[SegmentFile]) -> Rows {
        self.disk.crash(Crash::LoseUnsynced);
        self.rows(files)
    }

    pub(crate) fn files_on_disk(&self) -> BTreeSet<PathBuf> {
        files_below(&self.disk, Path::new(DATA))
    }
}

/// A builder of all tables in the data directory.
pub(crate) fn builder(filesystem: &Arc<dyn Filesystem>, options: SegmentOptions) -> CutBuilder {
    CutBuilder::new(filesystem, Path::new(DATA), Layout::Partitioned, options)
}

pub(crate) fn build_cut(
    builder: &mut CutBuilder,
    log: &[Logged],
) -> Result<Vec<SegmentFile>, SegmentError> {
    for record in log {
        builder.append(&record.meta(), ByTable::ALL)?;
    }
    builder.finish()
}

/// Where the files of a cut are.
pub(crate) fn paths_of(files: &[SegmentFile]) -> BTreeSet<PathBuf> {
    let path = |file: &SegmentFile| Path::new(DATA).join(file.table.name()).join(&file.path);
    files.iter().map(path).collect()
}

/// What a sync is of: the nth file that was made, or a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Synced {
    File(usize),
    Directory(PathBuf),
}

#[derive(Debug, Default)]
struct Ledger {
    made: usize,
    swallowed: BTreeSet<Synced>,
    synced: BTreeSet<Synced>,
}

/// Passes everything on to a disk except for some syncs, which it says were done.
///
/// Stops the test at operations that could overwrite or change a file of somebody else.
#[derive(Clone, Debug)]
pub(crate) struct Liar {
    disk: FaultyFilesystem,
    ledger: Arc<Mutex<Ledger>>,
}

impl Liar {
    pub(crate) fn new(disk: &FaultyFilesystem) -> Self {
        Self {
            disk: disk.clone(),
            ledger: Arc::default(),
        }
    }

    /// Leaves out these syncs, and no others any more.
    pub(crate) fn swallow(&self, swallowed: impl IntoIterator<Item = Synced>) {
        self.ledger.lock().unwrap().swallowed = swallowed.into_iter().collect();
    }

    /// Everything that was asked to be synced since this was asked.
    pub(crate) fn take_synced(&self) -> BTreeSet<Synced> {
        std::mem::take(&mut self.ledger.lock().unwrap().synced)
    }

    fn passes(&self, synced: Synced) -> bool {
        let mut ledger = self.ledger.lock().unwrap();
        let passes = !ledger.swallowed.contains(&synced);
        ledger.synced.insert(synced);
        passes
    }
}

impl Filesystem for Liar {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.open_read(path)
    }

    fn open_read_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        panic!("{} is opened to be changed", path.display())
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.disk.create_new(path)?;
        let mut ledger = self.ledger.lock().unwrap();
        let number = ledger.made;
        ledger.made += 1;
        Ok(Arc::new(LiarsFile {
            file,
            number,
            liar: self.clone(),
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.disk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        panic!("{} is renamed to {}", from.display(), to.display())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.disk.len(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.passes(Synced::Directory(path.to_owned())) {
            return self.disk.sync_dir(path);
        }
        Ok(())
    }

    fn lock_exclusive(&self, path: &Path) -> io::Result<LockGuard> {
        self.disk.lock_exclusive(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }

    fn filesystem_kind(&self, path: &Path) -> io::Result<FilesystemKind> {
        self.disk.filesystem_kind(path)
    }
}

#[derive(Debug)]
struct LiarsFile {
    file: Arc<dyn File>,
    number: usize,
    liar: Liar,
}

impl File for LiarsFile {
    fn write_all_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_all_vectored_at(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn write_out(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.write_out(offset, len)
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.liar.passes(Synced::File(self.number)) {
            return self.file.sync_all();
        }
        Ok(())
    }
}

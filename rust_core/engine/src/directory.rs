//! The data directory: its lock, its format file, the check of the file system, the reserve.
//!
//! ```text
//! format.json   {"format_version": 1, "created_at_unix_us": …}; written once, checked before anything is opened
//! lock          held with flock while an engine is open
//! reserve       preallocated; freed when the disk is full so that what was acknowledged can be flushed
//! wal/ dedup/ cookieless/
//! events/ …     a folder for each table, by its name
//! ```

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use penstock_disk::{Filesystem, FilesystemKind, LockGuard};
use penstock_segment::TableKind;

use crate::error::EngineError;

/// The format that this release writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const FORMAT_FILE: &str = "format.json";
const LOCK_FILE: &str = "lock";

/// Paths inside a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("wal").join("quarantine")
    }

    pub(crate) fn dedup(&self) -> PathBuf {
        self.root.join("dedup")
    }

    pub(crate) fn cookieless(&self) -> PathBuf {
        self.root.join("cookieless")
    }

    fn table(&self, table: TableKind) -> PathBuf {
        self.root.join(table.name())
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }
}

/// Checks and locks the data directory; makes what is missing.
///
/// Durability: on `Ok` the directories and the format file survive a power cut.
pub(crate) fn open(
    filesystem: &dyn Filesystem,
    layout: &Layout,
    now_us: i64,
) -> Result<LockGuard, EngineError> {
    let unusable = |error: io::Error| EngineError::Unusable {
        path: layout.root.clone(),
        reason: error.to_string(),
    };
    filesystem
        .create_dir_synced(&layout.root)
        .map_err(unusable)?;
    let lock = lock(filesystem, layout)?;
    if filesystem
        .exists(&layout.root.join(FORMAT_FILE))
        .map_err(unusable)?
    {
        check_format(filesystem, layout)?;
        // A killed process may have left its name in the page cache only: it must be durable before
        // anything stands beside it.
        filesystem.sync_dir(&layout.root).map_err(unusable)?;
    } else {
        let tables = TableKind::ALL.map(|table| layout.table(table));
        for path in [layout.wal(), layout.dedup()].iter().chain(&tables) {
            if filesystem.exists(path).map_err(unusable)? {
                // Without the file nothing tells what wrote these: reading them wrongly could
                // cost events.
                return Err(EngineError::Unusable {
                    path: layout.root.clone(),
                    reason: format!("{FORMAT_FILE} is missing beside {}", path.display()),
                });
            }
        }
        let text =
            format!("{{\"format_version\": {FORMAT_VERSION}, \"created_at_unix_us\": {now_us}}}\n");
        filesystem
            .publish(&layout.root, OsStr::new(FORMAT_FILE), text.as_bytes())
            .map_err(unusable)?;
    }
    filesystem
        .create_dir_synced(&layout.wal())
        .map_err(unusable)?;
    Ok(lock)
}

/// Locks the data directory, which must exist, against other processes.
pub(crate) fn lock(filesystem: &dyn Filesystem, layout: &Layout) -> Result<LockGuard, EngineError> {
    filesystem
        .lock_exclusive(&layout.root.join(LOCK_FILE))
        .map_err(|error| {
            let path = layout.root.clone();
            if error.kind() == io::ErrorKind::WouldBlock {
                EngineError::InUse { path }
            } else {
                EngineError::Unusable {
                    path,
                    reason: error.to_string(),
                }
            }
        })
}

/// Checks a data directory that is there already, and changes nothing.
pub(crate) fn check_existing(
    filesystem: &dyn Filesystem,
    layout: &Layout,
) -> Result<(), EngineError> {
    let found = filesystem.exists(&layout.root.join(FORMAT_FILE));
    let reason = match found {
        Ok(true) => return check_format(filesystem, layout),
        Ok(false) => format!("no data directory: no {FORMAT_FILE} there"),
        Err(error) => error.to_string(),
    };
    Err(EngineError::Unusable {
        path: layout.root.clone(),
        reason,
    })
}

fn check_format(filesystem: &dyn Filesystem, layout: &Layout) -> Result<(), EngineError> {
    let unusable = |reason: String| EngineError::Unusable {
        path: layout.root.clone(),
        reason,
    };
    let bytes = read_small(filesystem, &layout.root.join(FORMAT_FILE))
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    let found = format_version(&text)
        .ok_or_else(|| unusable(format!("{FORMAT_FILE} names no format version")))?;
    if found > FORMAT_VERSION {
        return Err(EngineError::NewerFormat {
            path: layout.root.clone(),
            found,
            supported: FORMAT_VERSION,
        });
    }
    Ok(())
}

/// The number behind `"format_version":`. The file is ours and one line: no JSON reader is needed.
fn format_version(text: &str) -> Option<u32> {
    let (_, behind) = text.split_once("\"format_version\":")?;
    let digits: String = behind
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// Files of a few kilobytes that are read whole. A larger one is not ours.
const MAX_SMALL_FILE_BYTES: u64 = 16 << 20;

fn read_small(filesystem: &dyn Filesystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = filesystem.open_read(path)?;
    let len = file.len()?;
    if len > MAX_SMALL_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// What is not promised on this file system, in words for the operator.
pub(crate) fn file_system_warnings(filesystem: &dyn Filesystem, layout: &Layout) -> Vec<String> {
    match filesystem.filesystem_kind(&layout.root) {
        Ok(FilesystemKind::Network) => vec![
            "network file system: a sync may not reach the disk and the lock may not exclude"
                .to_owned(),
        ],
        Ok(FilesystemKind::Memory) => {
            vec!["memory file system: nothing survives a restart of the machine".to_owned()]
        }
        Ok(FilesystemKind::Ordinary) => Vec::new(),
        Err(error) => vec![format!("file system unknown: {error}")],
    }
}

/// Makes a file of `bytes` reserved bytes, or leaves the one of that size that is there.
pub(crate) fn preallocate(filesystem: &dyn Filesystem, path: &Path, bytes: u64) -> io::Result<()> {
    let file = if filesystem.exists(path)? {
        filesystem.open_read_write(path)?
    } else {
        filesystem.create_new(path)?
    };
    file.allocate(bytes)?;
    file.set_len(bytes)
}

/// The synced note of what the tables have passed (see `penstock/table/note.py`).
const NOTE_FILE: &str = "tables.json";

/// Publishes the note in the log's directory.
pub(crate) fn write_note(
    filesystem: &dyn Filesystem,
    layout: &Layout,
    note: &[u8],
) -> io::Result<()> {
    filesystem.publish(&layout.wal(), OsStr::new(NOTE_FILE), note)
}

/// Reads the note; `None` if none was ever written.
pub(crate) fn read_note(
    filesystem: &dyn Filesystem,
    layout: &Layout,
) -> io::Result<Option<Vec<u8>>> {
    read_if_there(filesystem, &layout.wal().join(NOTE_FILE))
}

fn read_if_there(filesystem: &dyn Filesystem, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if filesystem.exists(path)? {
        read_small(filesystem, path).map(Some)
    } else {
        Ok(None)
    }
}

/// The ledger's book (see `ledger/book.rs`).
const LEDGER_FILE: &str = "ledger";

/// Publishes the ledger's book in the log's directory.
pub(crate) fn write_ledger(
    filesystem: &dyn Filesystem,
    layout: &Layout,
    book: &[u8],
) -> io::Result<()> {
    filesystem.publish(&layout.wal(), OsStr::new(LEDGER_FILE), book)
}

/// Reads the ledger's book; `None` if none was ever written.
pub(crate) fn read_ledger(
    filesystem: &dyn Filesystem,
    layout: &Layout,
) -> io::Result<Option<Vec<u8>>> {
    read_if_there(filesystem, &layout.wal().join(LEDGER_FILE))
}

/// Lets the calling thread yield to those that answer requests: building only has to keep up on
/// average. Where it is not allowed, building takes its equal share.
pub(crate) fn lower_priority() {
    let thread = rustix::thread::gettid();
    rustix::process::setpriority_process(Some(thread), BUILD_NICENESS).ok();
}

/// Linux gives a thread of this niceness about a tenth of a busy core.
const BUILD_NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use penstock_disk::{Crash, FaultyFilesystem, RealFilesystem};

    use super::*;

    #[test]
    fn a_directory_opens_twice_in_a_row_and_not_twice_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("data"));
        let filesystem = RealFilesystem;
        let lock = open(&filesystem, &layout, 1).unwrap();
        let second = open(&filesystem, &layout, 2);
        assert!(matches!(second, Err(EngineError::InUse { .. })));
        drop(lock);
        open(&filesystem, &layout, 3).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let text = b"{\"format_version\": 2}";
        RealFilesystem
            .publish(folder.path(), OsStr::new(FORMAT_FILE), text)
            .unwrap();
        let opened = open(&RealFilesystem, &layout, 1);
        assert!(matches!(
            opened,
            Err(EngineError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            })
        ));
    }

    #[test]
    fn data_without_a_format_file_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        RealFilesystem.create_dir_synced(&layout.wal()).unwrap();
        assert!(matches!(
            open(&RealFilesystem, &layout, 1),
            Err(EngineError::Unusable { .. })
        ));
    }

    #[test]
    fn a_first_start_that_is_cut_short_twice_is_no_obstacle() {
        let layout = Layout::new(Path::new("/data"));
        for killed_at in 1..=12 {
            for cut_at in 1..=12 {
                for seed in 0..8 {
                    let disk = FaultyFilesystem::new();
                    disk.crash_before(killed_at, Crash::KeepUnsynced);
                    drop(open(&disk, &layout, 1));
                    disk.crash(Crash::KeepUnsynced);
                    disk.crash_before(cut_at, Crash::KeepSome { seed });
                    drop(open(&disk, &layout, 2));
                    disk.crash(Crash::KeepSome { seed });
                    let opened = open(&disk, &layout, 3);
                    assert!(
                        opened.is_ok(),
                        "killed before operation {killed_at}, power cut before {cut_at}: {opened:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_note_reads_back_and_is_absent_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        drop(open(&RealFilesystem, &layout, 1).unwrap());
        assert_eq!(read_note(&RealFilesystem, &layout).unwrap(), None);
        write_note(&RealFilesystem, &layout, b"{}").unwrap();
        assert_eq!(
            read_note(&RealFilesystem, &layout).unwrap(),
            Some(b"{}".to_vec())
        );
    }
}

//! What the other crates may ask of a file system.

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::CrashPoint;

/// How the names of files end that [`Filesystem::publish`] has not published yet.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Most that [`File::write_all_paced_at`] leaves to the next sync.
///
/// A sync of the log takes 0.4 ms, 12 ms where the device has 10 MB of another file to take, and
/// what is sent in smaller pieces costs more calls. Syncs of 56 kB at 800/s beside 12 MB a second:
/// p99 0.6 to 1.5 ms without the 12 MB, 1.0 to 2.3 with pieces of 64 to 256 KiB, 2.9 to 6.7 where
/// each megabyte was synced and 7.5 to 7.8 where each 128 KiB were: syncs of two files wait for each
/// other in the journal (ext4 with fast commits, virtio, 2 cores).
pub(crate) const PIECE_BYTES: u64 = 128 << 10;

/// An open file. Reads and writes name their offset, so a handle may be shared by threads.
pub trait File: Send + Sync + Debug {
    /// Writes all of `slices`, one behind the other, from `offset` on; grows the file if needed.
    ///
    /// Durability: none before a sync. On `Err`, any part may have been written.
    fn write_all_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on; as [`Self::write_all_vectored_at`].
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_vectored_at(&[IoSlice::new(bytes)], offset)
    }

    /// Writes all of `bytes` from `offset` on, and sends each piece to the device before the next is
    /// written: the way to write much while somebody waits for the sync of another file.
    ///
    /// Durability: none before a sync. On `Err` as a [`Self::sync_data`] that failed.
    fn write_all_paced_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PIECE_BYTES - offset % PIECE_BYTES;
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (piece, behind) = rest.split_at(len);
            self.write_all_at(piece, offset)?;
            offset += len as u64;
            rest = behind;
            if offset.is_multiple_of(PIECE_BYTES) {
                self.write_out(offset - PIECE_BYTES, PIECE_BYTES)?;
            }
        }
        Ok(())
    }

    /// Reads at most `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buffer` from `offset` on. `UnexpectedEof` if the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buffer, offset)? == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Reserves space up to `len` bytes and makes the file at least that long; new bytes are zero.
    ///
    /// Where the file system can't reserve, zeros are written, which takes as long as writing does.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts the file, or extends it by zeros without reserving space. Not durable before a sync.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// True if the length is zero.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Syncs contents and length.
    ///
    /// Durability: on `Ok`, all that was written survives a power cut, except the file's name, for
    /// which see [`Filesystem::sync_dir`]. On `Err`, the operating system may have thrown away the
    /// writes and will not report them again: a second sync that succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Syncs contents and all metadata; otherwise as [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Sends what was written in a range to the device, and waits until it was taken. Where the system
    /// can't, nothing happens: it only leaves less to the next sync, and does not keep those of other
    /// files waiting as a sync does.
    ///
    /// Durability: none; the device may forget it, and the file its length. On `Err` as
    /// [`Self::sync_data`]: the next sync need not report it again, so the file is of no more use.
    fn write_out(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Tells the system that a synced range won't be read soon, so that its memory can serve the next
    /// write. A hint: what was not synced stays, and where it is not understood nothing happens.
    fn forget_cached(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

/// What stands below a path, as far as promises of durability go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesystemKind {
    /// A local file system on a device, or one whose device can't be told (overlay).
    Ordinary,
    /// NFS, SMB, 9p, FUSE and the like: a sync may promise less, locks may not exclude.
    Network,
    /// tmpfs or ramfs: nothing survives a restart of the machine.
    Memory,
}

/// Held as long as the lock is wanted; dropping it unlocks.
#[derive(Debug)]
pub struct LockGuard {
    _held: Box<dyn Debug + Send + Sync>,
}

impl LockGuard {
    pub(crate) fn new(held: impl Debug + Send + Sync + 'static) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

/// A file system.
pub trait Filesystem: Send + Sync + Debug {
    /// Opens an existing file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    fn open_read_write(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file; `AlreadyExists` if there is one.
    ///
    /// Durability: the name survives a power cut only after [`Self::sync_dir`] of its directory.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file that only this process's user may read; otherwise as
    /// [`Self::create_new`], which a file system without owners may as well do.
    fn create_new_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create_new(path)
    }

    /// Creates one directory; `AlreadyExists` if there is one. Durable after the parent's sync.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// Moves a file, replacing what has the new name. Durable after the directory's sync.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after the directory's sync.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// True if a file or directory has this name; errors other than "not found" are errors.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Length of a file in bytes.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Makes the names in a directory durable: creations, renames and removals so far.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Locks a file, made if missing, against other processes. `WouldBlock` if another holds it.
    fn lock_exclusive(&self, path: &Path) -> io::Result<LockGuard>;

    /// Bytes that an ordinary user can still write below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// What kind of file system `path` is on.
    fn filesystem_kind(&self, path: &Path) -> io::Result<FilesystemKind>;

    /// Creates the missing levels of `path`, and makes the path durable.
    ///
    /// Syncs the parent of each new level, and of the deepest level that was there: a process that
    /// was killed between its creation and that sync left a name that only looks durable. Levels
    /// above that one were synced before it was made here, or are not ours.
    /// Durability: on `Ok`, all levels survive a power cut, as far as they were made by this call
    /// or one like it.
    fn create_dir_synced(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for level in path.ancestors() {
            if level.as_os_str().is_empty() {
                break;
            }
            if self.exists(level)? {
                if level.parent().is_some() {
                    sync_parent_of_existing(self, level)?;
                }
                break;
            }
            missing.push(level);
        }
        for level in missing.into_iter().rev() {
            match self.create_dir(level) {
                Ok(()) => {}
                // Someone else was quicker; the parent is synced all the same.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            self.sync_dir(parent_of(level))?;
        }
        Ok(())
    }

    /// Writes a whole file so that, whatever happens, `name` holds the old or the new bytes.
    ///
    /// Writes `name.tmp`, syncs it, renames it and syncs the directory.
    /// Durability: on `Ok`, the new bytes survive a power cut. One caller at a time for a name.
    fn publish(&self, directory: &Path, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        publish_as(self, directory, name, bytes, Self::create_new)
    }

    /// The same for a secret: a file that only this process's user may read.
    fn publish_private(&self, directory: &Path, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        publish_as(self, directory, name, bytes, Self::create_new_private)
    }
}

fn publish_as<F: Filesystem + ?Sized>(
    filesystem: &F,
    directory: &Path,
    name: &OsStr,
    bytes: &[u8],
    create: impl Fn(&F, &Path) -> io::Result<Arc<dyn File>>,
) -> io::Result<()> {
    let mut temporary_name = name.to_os_string();
    temporary_name.push(TEMPORARY_SUFFIX);
    let temporary = directory.join(temporary_name);
    match filesystem.remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = create(filesystem, &temporary)?;
    file.write_all_paced_at(bytes, 0)?;
    file.sync_all()?;
    CrashPoint::PublishWritten.pass();
    filesystem.rename(&temporary, &directory.join(name))?;
    filesystem.sync_dir(directory)
}

fn sync_parent_of_existing<F: Filesystem + ?Sized>(filesystem: &F, level: &Path) -> io::Result<()> {
    match filesystem.sync_dir(parent_of(level)) {
        // A parent that may not be read is the operator's, as a home directory's is: then so is
        // the name in it, and the call that makes one there without being able to sync it fails.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// The directory that holds `path`; the current one for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

//! The real thing.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::{Errno, retry_on_intr};

use crate::{File, Filesystem, FilesystemKind, LockGuard};

/// Most slices the kernel takes in one `pwritev` (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Zeros written at a time where the file system can't reserve space: large enough for full speed,
/// small enough to be allocated without thought.
const ZERO_BYTES: usize = 256 * 1024;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFilesystem;

impl RealFilesystem {
    /// The operating system's file system, ready to be shared.
    pub fn shared() -> Arc<dyn Filesystem> {
        Arc::new(Self)
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
}

impl RealFile {
    fn open(options: &OpenOptions, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Self {
            file: options.open(path)?,
        }))
    }
}

/// Writes everything, in chunks that the kernel takes, going on after a short write.
fn write_all_vectored(file: &fs::File, slices: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    let mut next = 0;
    while next < slices.len() {
        let chunk = &slices[next..slices.len().min(next + MAX_SLICES)];
        let mut written = retry_on_intr(|| rustix::io::pwritev(file, chunk, offset))?;
        offset += written as u64;
        let mut done = 0;
        while done < chunk.len() && written >= chunk[done].len() {
            written -= chunk[done].len();
            done += 1;
        }
        if done == 0 && written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        next += done;
        if written > 0 {
            // A short write ended inside this slice. It is rare (a full disk, mostly), so its rest
            // is written alone rather than by rebuilding the list.
            let rest = &chunk[done][written..];
            file.write_all_at(rest, offset)?;
            offset += rest.len() as u64;
            next += 1;
        }
    }
    Ok(())
}

/// In a build for tests, fails every `fdatasync` while the file exists that the environment names:
/// how a test makes the disk of a real server fail.
#[cfg(feature = "testing")]
fn injected_sync_failure() -> io::Result<()> {
    match std::env::var_os("PENSTOCK_TEST_FAIL_SYNC_FILE") {
        Some(path) if Path::new(&path).exists() => Err(Errno::IO.into()),
        _ => Ok(()),
    }
}

/// Writes a range of the page cache to the device, and waits for it.
fn sync_file_range(file: &fs::File, offset: u64, len: u64) -> rustix::io::Result<()> {
    let out_of_range = |_| Errno::INVAL;
    let offset = i64::try_from(offset).map_err(out_of_range)?;
    let len = i64::try_from(len).map_err(out_of_range)?;
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // Not tried again after EINTR: an error that it reports may not be reported twice.
    #[expect(unsafe_code, reason = "rustix does not have the call")]
    // SAFETY: the call takes no memory, and the descriptor is open as long as `file` is borrowed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

impl File for RealFile {
    fn write_all_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        write_all_vectored(&self.file, slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let reserve = || rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len);
        match retry_on_intr(reserve) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.write_zeros_up_to(len),
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(feature = "testing")]
        injected_sync_failure()?;
        // Not `std`'s call, which would try again after EINTR: a failed sync is never repeated.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.file)?)
    }

    fn write_out(&self, offset: u64, len: u64) -> io::Result<()> {
        #[cfg(feature = "testing")]
        injected_sync_failure()?;
        match sync_file_range(&self.file, offset, len) {
            // A file system or sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::SPIPE) => Ok(()),
            result => Ok(result?),
        }
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        let len = NonZeroU64::new(len);
        rustix::fs::fadvise(&self.file, offset, len, Advice::DontNeed).ok();
    }
}

impl RealFile {
    fn write_zeros_up_to(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZERO_BYTES];
        let mut offset = File::len(self)?;
        while offset < len {
            let count = usize::try_from(len - offset)
                .unwrap_or(usize::MAX)
                .min(ZERO_BYTES);
            self.file.write_all_at(&zeros[..count], offset)?;
            offset += count as u64;
        }
        Ok(())
    }
}

impl Filesystem for RealFilesystem {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFile::open(OpenOptions::new().read(true), path)
    }

    fn open_read_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFile::open(OpenOptions::new().read(true).write(true), path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFile::open(
            OpenOptions::new().read(true).write(true).create_new(true),
            path,
        )
    }

    fn create_new_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        RealFile::open(&options, path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlink(path)?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = OpenOptions::new().read(true).open(path)?;
        Ok(rustix::fs::fsync(&directory)?)
    }

    fn lock_exclusive(&self, path: &Path) -> io::Result<LockGuard> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
        Ok(LockGuard::new(file))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let status = rustix::fs::statvfs(path)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn filesystem_kind(&self, path: &Path) -> io::Result<FilesystemKind> {
        let status = rustix::fs::statfs(path)?;
        #[expect(
            clippy::cast_sign_loss,
            reason = "magic numbers are 32 bits, of any sign"
        )]
        #[expect(clippy::cast_possible_truncation, reason = "magic numbers are 32 bits")]
        let magic = status.f_type as u32;
        Ok(kind_of_magic(magic))
    }
}

/// Kind by `statfs` magic number; the numbers are those of statfs(2) and linux/magic.h.
fn kind_of_magic(magic: u32) -> FilesystemKind {
    match magic {
        // tmpfs, ramfs
        0x0102_1994 | 0x8584_58f6 => FilesystemKind::Memory,
        // NFS, SMB (three generations), 9p, FUSE, Ceph, AFS (two), Lustre, Coda, OCFS2
        0x0000_6969 | 0x0000_517b | 0xff53_4d42 | 0xfe53_4d42 | 0x0102_1997 | 0x6573_5546
        | 0x00c3_6400 | 0x5346_414f | 0x6b41_4653 | 0x0bd0_0bd0 | 0x7375_7245 | 0x7461_636f => {
            FilesystemKind::Network
        }
        _ => FilesystemKind::Ordinary,
    }
}

//! The only crate that touches the file system.
//!
//! Two small object-safe traits, [`Filesystem`] and [`File`], name every operation that the other
//! crates need, and say for each what survives a power cut. [`RealFilesystem`] is Linux;
//! `FaultyFilesystem` (feature `testing`) is memory that forgets what was not synced. The same feature
//! lets a test end the process at a [`CrashPoint`].

mod crash;
mod filesystem;
mod linux;
mod sequential;
#[cfg(any(test, feature = "testing"))]
mod testing;
#[cfg(test)]
mod tests;

pub use crash::CrashPoint;
pub use filesystem::{File, Filesystem, FilesystemKind, LockGuard, TEMPORARY_SUFFIX};
pub use linux::RealFilesystem;
pub use sequential::SequentialWriter;
#[cfg(any(test, feature = "testing"))]
pub use testing::{Crash, Fault, FaultyFilesystem, Fork, Operation, Random};

/// True if `error` says that the disk, the quota or the file size limit is used up.
///
/// Such an operation may succeed later, after something was removed.
pub fn is_disk_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

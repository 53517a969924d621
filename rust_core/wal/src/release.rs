//! Lets go of files that nobody needs any more.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use penstock_disk::{CrashPoint, Filesystem};
use penstock_model::Position;

use crate::error::{Context, LogError};
use crate::index::{FileEntry, Index};
use crate::names::spare_path;
use crate::prepare::Preparer;
use crate::repair::mark_released;
use crate::seal;

/// What a release did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReleaseReport {
    pub files: u64,
    /// Of these, kept for reuse.
    pub recycled: u64,
    /// Bytes that the files took, recycled ones included.
    pub bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Releaser {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    index: Arc<Mutex<Index>>,
    preparer: Arc<Preparer>,
    /// Held by what changes, or looks closely at, files of the log that nobody writes any more.
    running: Mutex<()>,
}

impl Releaser {
    pub(crate) fn new(
        filesystem: Arc<dyn Filesystem>,
        directory: PathBuf,
        index: Arc<Mutex<Index>>,
        preparer: Arc<Preparer>,
    ) -> Self {
        Self {
            filesystem,
            directory,
            index,
            preparer,
            running: Mutex::new(()),
        }
    }

    pub(crate) fn could_release(&self, up_to: Position) -> bool {
        releasable(&self.index.lock(), up_to).is_some()
    }

    pub(crate) fn release(&self, up_to: Position) -> Result<ReleaseReport, LogError> {
        let _one_at_a_time = self.running.lock();
        let mut report = ReleaseReport::default();
        let mut spares = Vec::new();
        let result = loop {
            let Some(entry) = releasable(&self.index.lock(), up_to) else {
                break Ok(());
            };
            match self.release_file(&entry, spares.len()) {
                Ok(Some(spare)) => {
                    spares.push(spare);
                    report.recycled += 1;
                }
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            report.files += 1;
            report.bytes += entry.disk_bytes;
            // Oldest first, so that what is left is always the newer part of the log.
            self.index.lock().files.pop_front();
            CrashPoint::WalFileReleased.pass();
        };
        if report.files > 0 {
            self.filesystem
                .sync_dir(&self.directory)
                .context("sync", &self.directory)?;
        }
        for spare in spares {
            self.preparer.add_spare(spare);
        }
        result.map(|()| report)
    }

    /// Keeps files from being released while the guard is held.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.running.lock()
    }

    /// Marks a file as released, synced, and renames or removes it. Gives the new path if renamed.
    fn release_file(
        &self,
        entry: &FileEntry,
        more_spares: usize,
    ) -> Result<Option<PathBuf>, LogError> {
        let path = &entry.path;
        let file = self
            .filesystem
            .open_read_write(path)
            .context("open", path)?;
        mark_released(&*file, entry.generation).context("release", path)?;
        CrashPoint::WalFileMarked.pass();
        // Behind the mark, so that a file of the log never stands without the seal it had.
        seal::remove(&*self.filesystem, &self.directory, entry.sequence)?;
        if self.preparer.wants_spare(more_spares) {
            let spare = spare_path(&self.directory, entry.sequence);
            self.filesystem
                .rename(path, &spare)
                .context("rename", path)?;
            return Ok(Some(spare));
        }
        self.filesystem.remove_file(path).context("remove", path)?;
        Ok(None)
    }
}

/// The oldest file, if its records are all at or below `up_to` and there is a newer one.
fn releasable(index: &Index, up_to: Position) -> Option<FileEntry> {
    let oldest = index.files.front()?;
    (index.files.len() > 1 && oldest.closed && oldest.last <= up_to).then(|| oldest.clone())
}

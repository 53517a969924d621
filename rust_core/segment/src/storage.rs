//! Files and directories below one table, and what makes their names durable (TAB-2).

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penstock_disk::{Filesystem, SequentialWriter};

use crate::SegmentError;

/// Directories remembered as durable; past it all are forgotten, which costs a sync each to learn
/// again. About the partitions that are written to in a day.
const MAX_KNOWN_DIRECTORIES: usize = 4_096;

/// The directory of one table.
#[derive(Debug)]
pub(crate) struct TableDirectory {
    filesystem: Arc<dyn Filesystem>,
    root: PathBuf,
    synced: bool,
    /// Directories whose names in their parents were synced by this process. One that exists
    /// without that may be the work of a process that died before its sync.
    durable: HashSet<PathBuf>,
    /// Directories made or met since the last sync, to be durable after it.
    met: HashSet<PathBuf>,
    /// Directories to sync: those with new files and the parents of those in `met`.
    unsynced: BTreeSet<PathBuf>,
}

impl TableDirectory {
    /// `synced`: whether anything here is ever made durable.
    pub(crate) fn new(filesystem: Arc<dyn Filesystem>, root: &Path, synced: bool) -> Self {
        Self {
            filesystem,
            root: root.to_owned(),
            synced,
            durable: HashSet::new(),
            met: HashSet::new(),
            unsynced: BTreeSet::new(),
        }
    }

    /// Creates a file in a directory below the root, and the directories that it needs.
    ///
    /// Durability: none before [`Self::sync_names`]. Errors: `AlreadyExists` rather than overwrite.
    pub(crate) fn create(
        &mut self,
        directory: &str,
        name: &str,
    ) -> Result<SequentialWriter, SegmentError> {
        let directory = self.root.join(directory);
        let path = directory.join(name);
        let created = self
            .create_directories(&directory)
            .and_then(|()| self.filesystem.create_new(&path))
            .or_else(|error| {
                if error.kind() != io::ErrorKind::NotFound {
                    return Err(error);
                }
                // Somebody cleared empty directories away: nothing that was known holds.
                self.durable.clear();
                self.met.clear();
                self.create_directories(&directory)?;
                self.filesystem.create_new(&path)
            });
        let file = created.map_err(|source| SegmentError::Storage { path, source })?;
        if self.synced {
            self.unsynced.insert(directory);
        }
        Ok(SequentialWriter::new(file))
    }

    fn create_directories(&mut self, directory: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = directory
            .ancestors()
            .take_while(|level| level.starts_with(&self.root))
            .take_while(|level| !self.durable.contains(*level) && !self.met.contains(*level))
            .collect();
        for level in missing.into_iter().rev() {
            if level == self.root {
                self.filesystem.create_dir_synced(level)?;
            } else {
                match self.filesystem.create_dir(level) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            self.met.insert(level.to_owned());
            if let (true, Some(parent)) = (self.synced, level.parent())
                && !parent.as_os_str().is_empty()
            {
                self.unsynced.insert(parent.to_owned());
            }
        }
        Ok(())
    }

    /// Syncs every directory that got a name since the last call.
    ///
    /// Durability: on `Ok`, all files created so far can be found after a power cut.
    pub(crate) fn sync_names(&mut self) -> Result<(), SegmentError> {
        for directory in &self.unsynced {
            self.filesystem
                .sync_dir(directory)
                .map_err(|source| SegmentError::Storage {
                    path: directory.clone(),
                    source,
                })?;
        }
        self.unsynced.clear();
        self.durable.extend(self.met.drain());
        if self.durable.len() > MAX_KNOWN_DIRECTORIES {
            self.durable.clear();
        }
        Ok(())
    }

    /// Forgets the directories since the last [`Self::sync_names`], when no file there is wanted.
    ///
    /// They are met anew when they are needed. Until then they may be cleared away as empty, and a
    /// sync of one that is gone would fail every cut from then on.
    pub(crate) fn forget_unsynced(&mut self) {
        self.met.clear();
        self.unsynced.clear();
    }

    /// Removes a file of an abandoned cut, if it can be: else it stays unnamed until a vacuum.
    pub(crate) fn remove(&self, relative: &str) {
        drop(self.filesystem.remove_file(&self.root.join(relative)));
    }

    pub(crate) fn path_of(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }
}

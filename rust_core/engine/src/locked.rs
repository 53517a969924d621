//! A data directory that a tool has locked, to change what no running server may see changed.

use std::path::Path;
use std::sync::Arc;

use penstock_disk::{Filesystem, LockGuard};

use crate::directory::{self, Layout};
use crate::error::EngineError;

/// The lock of a data directory whose server is stopped. Dropping it lets the next one start.
#[derive(Debug)]
pub struct LockedDirectory {
    filesystem: Arc<dyn Filesystem>,
    layout: Layout,
    _lock: LockGuard,
}

impl LockedDirectory {
    /// Locks the data directory at `path`, which must be one already.
    ///
    /// Errors: [`EngineError::InUse`] while a server runs; [`EngineError::Unusable`] if that is no
    /// data directory; a newer format.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let filesystem = crate::real_filesystem();
        let layout = Layout::new(path);
        directory::check_existing(&*filesystem, &layout)?;
        let lock = directory::lock(&*filesystem, &layout)?;
        Ok(Self {
            filesystem,
            layout,
            _lock: lock,
        })
    }

    /// What the tables had passed, as the server last noted it; `None` if it never did.
    pub fn table_note(&self) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(directory::read_note(&*self.filesystem, &self.layout)?)
    }

    /// Replaces the note, from which the next start of a server goes on.
    ///
    /// Durability: on `Ok`, the new note survives a power cut; on `Err`, the old or the new one.
    pub fn write_table_note(&self, note: &[u8]) -> Result<(), EngineError> {
        self.filesystem.create_dir_synced(&self.layout.wal())?;
        Ok(directory::write_note(
            &*self.filesystem,
            &self.layout,
            note,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_directory() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let filesystem = crate::real_filesystem();
        drop(directory::open(&*filesystem, &Layout::new(folder.path()), 1).unwrap());
        folder
    }

    #[test]
    fn a_note_is_replaced_and_read_back() {
        let folder = data_directory();
        let locked = LockedDirectory::open(folder.path()).unwrap();
        assert_eq!(locked.table_note().unwrap(), None);
        locked.write_table_note(b"first").unwrap();
        locked.write_table_note(b"second").unwrap();
        assert_eq!(locked.table_note().unwrap().unwrap(), b"second");
    }

    #[test]
    fn a_directory_is_locked_once_until_it_is_let_go() {
        let folder = data_directory();
        let locked = LockedDirectory::open(folder.path()).unwrap();
        let second = LockedDirectory::open(folder.path());
        assert!(matches!(second, Err(EngineError::InUse { .. })));
        drop(locked);
        assert!(LockedDirectory::open(folder.path()).is_ok());
    }

    #[test]
    fn what_is_no_data_directory_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let refused = LockedDirectory::open(folder.path());
        assert!(matches!(refused, Err(EngineError::Unusable { .. })));
        assert!(
            !crate::real_filesystem()
                .exists(&folder.path().join("lock"))
                .unwrap()
        );
    }
}

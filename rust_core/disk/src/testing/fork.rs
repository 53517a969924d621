//! Copies of a disk, each to crash in its own way while the first one goes on.

use super::filesystem::FaultyFilesystem;
use super::state::{Crash, State};

/// Copies of the state, made while the process goes on.
pub(super) struct Watch {
    pub(super) forks: Vec<Fork>,
    pub(super) mark: Box<dyn Fn() -> usize + Send>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(&self.forks).finish()
    }
}

/// The disk as it was right before an operation that changes or syncs anything.
#[derive(Clone, Debug)]
pub struct Fork {
    pub(super) state: State,
    /// What the watcher's `mark` said then.
    pub mark: usize,
    /// Number of the operation, over the whole life of the file system.
    pub operation: u64,
}

impl Fork {
    /// A disk of its own on which the machine crashes in that moment. Contents are shared until
    /// one of both changes, so a fork costs little.
    pub fn crashed(&self, crash: Crash) -> FaultyFilesystem {
        FaultyFilesystem::crashed(self.state.clone(), crash)
    }

    /// False if no crash can lose anything, so that all of them leave the same.
    pub fn is_unsynced(&self) -> bool {
        self.state.is_unsynced()
    }
}

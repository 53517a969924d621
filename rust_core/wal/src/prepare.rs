//! Makes the next file before it is needed, so that the log thread never waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use penstock_disk::{CrashPoint, File, Filesystem};

use crate::error::{Context, LogError};
use crate::format;
use crate::names::log_path;
use crate::scan::read_first_block;

/// A file with its space reserved and its name durable, of which nothing is part of the log yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) path: PathBuf,
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn File>,
    /// The generation that its first block declares released, if it was used before.
    pub(crate) released: Option<u64>,
    pub(crate) disk_bytes: u64,
}

#[derive(Debug)]
struct State {
    ready: Option<Prepared>,
    /// Someone is at work on the next one.
    busy: bool,
    /// The helper should make one.
    wanted: bool,
    closing: bool,
    /// Making a file panicked: a bug, after which none is made any more.
    panicked: Option<LogError>,
    spares: Vec<PathBuf>,
    next_sequence: u64,
}

/// Keeps one file ready.
#[derive(Debug)]
pub(crate) struct Preparer {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    file_bytes: u64,
    max_spares: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Preparer {
    pub(crate) fn new(
        filesystem: Arc<dyn Filesystem>,
        directory: &Path,
        file_bytes: u64,
        max_spares: usize,
        spares: Vec<PathBuf>,
        last_sequence: u64,
    ) -> Self {
        let state = State {
            ready: None,
            busy: false,
            wanted: true,
            closing: false,
            panicked: None,
            spares,
            next_sequence: last_sequence + 1,
        };
        let directory = directory.to_path_buf();
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self {
            filesystem,
            directory,
            file_bytes,
            max_spares,
            state,
            changed,
        }
    }

    /// The next file: the one that is ready, or made now.
    ///
    /// A failure of the helper shows here only if making the file fails again; a panic always.
    pub(crate) fn take(&self) -> Result<Prepared, LogError> {
        self.ensure()?;
        let mut state = self.state.lock();
        state.wanted = true;
        self.changed.notify_all();
        if let Some(prepared) = state.ready.take() {
            return Ok(prepared);
        }
        drop(state);
        // Only one thread takes files, so this is not reached; it would be right all the same.
        self.make()
    }

    /// Waits until a file is ready.
    pub(crate) fn ensure(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        while state.busy {
            self.changed.wait(&mut state);
        }
        if let Some(error) = &state.panicked {
            return Err(error.clone());
        }
        if state.ready.is_some() {
            return Ok(());
        }
        state.busy = true;
        drop(state);
        self.make_ready()
    }

    /// Makes the file that `busy` stands for.
    fn make_ready(&self) -> Result<(), LogError> {
        // A panic must not leave `busy` behind: everyone would wait for a file that nobody makes.
        let made = catch_unwind(AssertUnwindSafe(|| self.make()))
            .unwrap_or_else(|_| Err(LogError::panicked("prepare a file in", &self.directory)));
        let mut state = self.state.lock();
        state.busy = false;
        state.wanted = false;
        self.changed.notify_all();
        state.panicked = made
            .as_ref()
            .err()
            .filter(|error| error.is_fatal())
            .cloned();
        state.ready = Some(made?);
        Ok(())
    }

    /// The helper thread: makes a file whenever one was taken.
    pub(crate) fn run(&self) {
        loop {
            let mut state = self.state.lock();
            while !state.closing && (state.busy || !state.wanted || state.ready.is_some()) {
                self.changed.wait(&mut state);
            }
            if state.closing {
                return;
            }
            state.busy = true;
            drop(state);
            // An error is not lost: whoever needs the file tries again and gets its own.
            if self.make_ready().is_err() {
                self.state.lock().wanted = false;
            }
        }
    }

    /// Ends [`Self::run`].
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// True if a released file is of use, when `more` are about to be added already.
    pub(crate) fn wants_spare(&self, more: usize) -> bool {
        self.state.lock().spares.len() + more < self.max_spares
    }

    /// Takes a released file whose new name is durable.
    pub(crate) fn add_spare(&self, path: PathBuf) {
        self.state.lock().spares.push(path);
    }

    /// Removes the released files.
    pub(crate) fn drop_spares(&self) {
        let spares = std::mem::take(&mut self.state.lock().spares);
        for spare in spares {
            // Best effort: nothing in it is part of the log, and an opening finds what is left.
            drop(self.filesystem.remove_file(&spare));
        }
    }

    fn make(&self) -> Result<Prepared, LogError> {
        let (spare, sequence) = {
            let mut state = self.state.lock();
            let sequence = state.next_sequence;
            state.next_sequence += 1;
            (state.spares.pop(), sequence)
        };
        let path = log_path(&self.directory, sequence);
        let made = match &spare {
            Some(spare) => self.recycle(spare, &path, sequence),
            None => self.create(&path, sequence),
        };
        if made.is_err() {
            // Under one of its names; a released file that can't be used would be in the way of
            // the next try. Best effort: an opening removes what this can't.
            drop(self.filesystem.remove_file(&path));
            if let Some(spare) = &spare {
                drop(self.filesystem.remove_file(spare));
            }
        }
        made
    }

    fn recycle(&self, spare: &Path, path: &Path, sequence: u64) -> Result<Prepared, LogError> {
        let file = self
            .filesystem
            .open_read_write(spare)
            .context("open", spare)?;
        let block = read_first_block(&*file).context("read", spare)?;
        let released = format::decode_release(&block);
        self.filesystem
            .rename(spare, path)
            .context("rename", spare)?;
        self.reserve(path, sequence, file, released)
    }

    fn create(&self, path: &Path, sequence: u64) -> Result<Prepared, LogError> {
        let file = self.filesystem.create_new(path).context("create", path)?;
        self.reserve(path, sequence, file, None)
    }

    fn reserve(
        &self,
        path: &Path,
        sequence: u64,
        file: Arc<dyn File>,
        released: Option<u64>,
    ) -> Result<Prepared, LogError> {
        CrashPoint::WalFileNamed.pass();
        file.allocate(self.file_bytes).context("allocate", path)?;
        file.sync_all().context("sync", path)?;
        // The name must be durable before a record in the file is acknowledged (WAL-1).
        self.filesystem
            .sync_dir(&self.directory)
            .context("sync", &self.directory)?;
        let disk_bytes = file.len().context("read", path)?;
        Ok(Prepared {
            path: path.to_path_buf(),
            sequence,
            file,
            released,
            disk_bytes,
        })
    }
}

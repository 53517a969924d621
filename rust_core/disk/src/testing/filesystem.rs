//! The traits over the memory file system.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::faults::{Fault, Operation, Plan, Planned};
use super::fork::{Fork, Watch};
use super::state::{Crash, Inode, Node, State};
use crate::{File, Filesystem, FilesystemKind, LockGuard};

#[derive(Debug, Default)]
struct Machine {
    state: State,
    plan: Plan,
    /// Changing operations that still come to the next planned crash, itself included.
    crash_in: Option<(u64, Crash)>,
    /// A planned crash has struck, so the process that goes on calling does not exist.
    off: bool,
    capacity_bytes: Option<u64>,
    /// Changing operations so far.
    operations: u64,
    /// Files that a sync lied about.
    lies: Vec<usize>,
    watch: Option<Watch>,
}

impl Machine {
    fn crash(&mut self, crash: Crash) {
        self.state.crash(crash);
        self.plan.clear();
        self.crash_in = None;
        self.off = false;
    }

    /// Counts one operation and says whether it is to fail. The machine may crash right before it.
    fn strike(&mut self, operation: Operation) -> Option<Fault> {
        if operation.changes() && !self.off {
            self.operations += 1;
            if let Some(watch) = &mut self.watch {
                watch.forks.push(Fork {
                    state: self.state.clone(),
                    mark: (watch.mark)(),
                    operation: self.operations,
                });
            }
            if let Some((left, crash)) = self.crash_in {
                self.crash_in = Some((left.saturating_sub(1), crash));
                if left <= 1 {
                    self.crash(crash);
                    self.off = true;
                }
            }
        }
        if self.off {
            return Some(Fault::Io);
        }
        self.plan.strike(operation)
    }

    fn check(&mut self, operation: Operation) -> io::Result<()> {
        match self.strike(operation) {
            None | Some(Fault::Lie) => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.state.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if is_root(parent) => Ok(()),
            Some(parent) if self.state.names.get(parent) == Some(Node::Directory) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn check_capacity(&self, inode: usize, end: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity_bytes else {
            return Ok(());
        };
        let growth = end.saturating_sub(self.state.inodes[inode].seen.len() as u64);
        if growth > 0 && self.state.used_bytes().saturating_add(growth) > capacity {
            return Err(Fault::DiskFull.error());
        }
        Ok(())
    }
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

/// A file system in memory: keeps apart what was synced, crashes, fails and rots on demand.
///
/// Starts empty, with a root. Cloning shares it. Deterministic: the same calls and seeds give the
/// same contents.
#[derive(Clone, Debug, Default)]
pub struct FaultyFilesystem {
    machine: Arc<Mutex<Machine>>,
}

impl FaultyFilesystem {
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine crashes in this state.
    pub(super) fn crashed(state: State, crash: Crash) -> Self {
        let mut machine = Machine {
            state,
            ..Machine::default()
        };
        machine.crash(crash);
        Self {
            machine: Arc::new(Mutex::new(machine)),
        }
    }

    /// Cuts the power, or kills the process: handles and locks are dead, and of what was not
    /// synced remains what `crash` says.
    pub fn crash(&self, crash: Crash) {
        self.machine.lock().crash(crash);
    }

    /// Crashes right before the `nth` next operation that changes or syncs anything; 1 is the very
    /// next. That operation fails and so do all that follow, whose process is dead, until
    /// [`Self::heal`] or [`Self::crash`] lets another one begin.
    pub fn crash_before(&self, nth: u64, crash: Crash) {
        self.machine.lock().crash_in = Some((nth, crash));
    }

    /// Makes the `nth` next operation of the kind fail, once; 1 is the very next.
    pub fn fail_nth(&self, operation: Operation, nth: u64, fault: Fault) {
        let passes = nth.saturating_sub(1);
        let planned = Planned {
            operation,
            passes,
            fault,
            forever: false,
        };
        self.machine.lock().plan.add(planned);
    }

    /// Makes every operation of the kind fail until [`Self::heal`].
    pub fn fail_all(&self, operation: Operation, fault: Fault) {
        self.machine.lock().plan.add(Planned {
            operation,
            passes: 0,
            fault,
            forever: true,
        });
    }

    /// True if a planned crash has struck and no other process has begun.
    pub fn is_off(&self) -> bool {
        self.machine.lock().off
    }

    /// Forgets all planned faults, and the planned crash; if it has struck, the next process begins.
    pub fn heal(&self) {
        let mut machine = self.machine.lock();
        machine.plan.clear();
        machine.crash_in = None;
        machine.off = false;
    }

    /// From now on keeps the state right before each operation that changes or syncs anything, with
    /// what `mark` says then; for [`Self::take_forks`]. `mark` must not touch this file system.
    pub fn watch(&self, mark: impl Fn() -> usize + Send + 'static) {
        let mark = Box::new(mark);
        let forks = Vec::new();
        self.machine.lock().watch = Some(Watch { forks, mark });
    }

    /// Keeps no more states.
    pub fn unwatch(&self) {
        self.machine.lock().watch = None;
    }

    /// The states kept since the last call, in order.
    pub fn take_forks(&self) -> Vec<Fork> {
        let mut machine = self.machine.lock();
        let watch = machine.watch.as_mut();
        watch.map_or_else(Vec::new, |watch| std::mem::take(&mut watch.forks))
    }

    /// The state of this moment.
    pub fn fork(&self) -> Fork {
        let machine = self.machine.lock();
        Fork {
            state: machine.state.clone(),
            mark: 0,
            operation: machine.operations,
        }
    }

    /// Operations so far that changed or synced anything.
    pub fn operations(&self) -> u64 {
        self.machine.lock().operations
    }

    /// The files that a sync lied about since the last call, by the names that they have now.
    pub fn take_lies(&self) -> Vec<PathBuf> {
        let mut machine = self.machine.lock();
        let lies = std::mem::take(&mut machine.lies);
        let names = machine.state.names.iter();
        names
            .filter(|(_, node)| matches!(node, Node::File(inode) if lies.contains(inode)))
            .map(|(path, _)| path.to_path_buf())
            .collect()
    }

    /// Bytes that the files which have a name take.
    pub fn used_bytes(&self) -> u64 {
        self.machine.lock().state.used_bytes()
    }

    /// What a file holds now, shared with the file until that changes. None if there is no such file.
    pub fn contents(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        let machine = self.machine.lock();
        let inode = machine.file(path).ok()?;
        Some(Arc::clone(&machine.state.inodes[inode].seen))
    }

    /// Limits the bytes that all files together may take; `None` for no limit.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.machine.lock().capacity_bytes = capacity_bytes;
    }

    /// Changes the bits of `mask` in one byte of a file, durably and unnoticed. Nothing happens
    /// past the end of the file.
    ///
    /// # Panics
    ///
    /// Panics if there is no such file.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut machine = self.machine.lock();
        #[expect(
            clippy::expect_used,
            reason = "a test that names no file is a wrong test"
        )]
        let inode = machine.file(path).expect("a file to flip bits in");
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        machine.state.inodes[inode].flip(offset, mask);
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn File>> {
        let mut machine = self.machine.lock();
        machine.check(Operation::Open)?;
        let inode = machine.file(path)?;
        Ok(self.handle(inode, machine.state.life, writable))
    }

    fn handle(&self, inode: usize, life: u64, writable: bool) -> Arc<dyn File> {
        Arc::new(FaultyFile {
            machine: Arc::clone(&self.machine),
            inode,
            life,
            writable,
        })
    }
}

impl Filesystem for FaultyFilesystem {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path, false)
    }

    fn open_read_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path, true)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut machine = self.machine.lock();
        machine.check(Operation::Create)?;
        machine.check_parent(path)?;
        if machine.state.names.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        machine.state.inodes.push(Inode::default());
        let inode = machine.state.inodes.len() - 1;
        machine.state.add(path, Node::File(inode));
        Ok(self.handle(inode, machine.state.life, true))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.check(Operation::Create)?;
        if is_root(path) || machine.state.names.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        machine.check_parent(path)?;
        machine.state.add(path, Node::Directory);
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let machine = self.machine.lock();
        if !is_root(path) && machine.state.names.get(path) != Some(Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(machine
            .state
            .names
            .below(path)
            .filter(|name| name.parent() == Some(path))
            .filter_map(|name| name.file_name().map(OsString::from))
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.check(Operation::Rename)?;
        machine.check_parent(to)?;
        let node = Node::File(machine.file(from)?);
        machine.state.rename(to, node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.check(Operation::Remove)?;
        machine.file(path)?;
        machine.state.remove(path);
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(is_root(path) || self.machine.lock().state.names.contains(path))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let machine = self.machine.lock();
        let inode = machine.file(path)?;
        Ok(machine.state.inodes[inode].seen.len() as u64)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let fault = machine.strike(Operation::SyncDir);
        if let Some(fault) = fault.filter(|fault| *fault != Fault::Lie) {
            return Err(fault.error());
        }
        if !is_root(path) && machine.state.names.get(path) != Some(Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if fault.is_none() {
            machine.state.sync_dir(path);
        }
        Ok(())
    }

    fn lock_exclusive(&self, path: &Path) -> io::Result<LockGuard> {
        let mut machine = self.machine.lock();
        if machine.file(path).is_err() {
            machine.check_parent(path)?;
            machine.state.inodes.push(Inode::default());
            let inode = machine.state.inodes.len() - 1;
            machine.state.add(path, Node::File(inode));
        }
        if !machine.state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = machine.state.life;
        let machine = Arc::clone(&self.machine);
        Ok(LockGuard::new(HeldLock {
            machine,
            path: path.to_path_buf(),
            life,
        }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let machine = self.machine.lock();
        Ok(machine.capacity_bytes.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(machine.state.used_bytes())
        }))
    }

    fn filesystem_kind(&self, _path: &Path) -> io::Result<FilesystemKind> {
        Ok(FilesystemKind::Memory)
    }
}

#[derive(Debug)]
struct HeldLock {
    machine: Arc<Mutex<Machine>>,
    path: PathBuf,
    life: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut machine = self.machine.lock();
        if machine.state.life == self.life {
            machine.state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct FaultyFile {
    machine: Arc<Mutex<Machine>>,
    inode: usize,
    life: u64,
    writable: bool,
}

impl FaultyFile {
    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.machine.lock();
        if machine.state.life != self.life {
            // The process that had this handle is gone.
            return Err(Fault::Io.error());
        }
        act(&mut machine)
    }

    fn change<T>(&self, act: impl FnOnce(&mut Machine) -> io::Result<T>) -> io::Result<T> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(act)
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|machine| {
            let fault = machine.strike(Operation::Sync);
            if fault == Some(Fault::Lie) {
                machine.lies.push(self.inode);
                return Ok(());
            }
            if let Some(fault) = fault {
                return Err(self.lose_unsynced(machine, fault));
            }
            machine.state.inodes[self.inode].sync();
            Ok(())
        })
    }

    /// What a sync or a write-out does that fails.
    fn lose_unsynced(&self, machine: &mut Machine, fault: Fault) -> io::Error {
        // A crash has settled already what remains.
        if machine.state.life == self.life {
            machine.state.inodes[self.inode].fail_sync();
        }
        fault.error()
    }
}

fn in_memory(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl File for FaultyFile {
    fn write_all_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.change(|machine| {
            let start = in_memory(offset)?;
            let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
            for slice in slices {
                bytes.extend_from_slice(slice);
            }
            let fault = machine.strike(Operation::Write);
            let fault = fault.filter(|fault| *fault != Fault::Lie);
            if let Some(Fault::Short { bytes: kept }) = fault {
                bytes.truncate(kept);
                machine.state.inodes[self.inode].write(start, bytes);
            } else if fault.is_none() {
                machine.check_capacity(self.inode, offset + bytes.len() as u64)?;
                machine.state.inodes[self.inode].write(start, bytes);
            }
            fault.map_or(Ok(()), |fault| Err(fault.error()))
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|machine| {
            machine.check(Operation::Read)?;
            let contents = &machine.state.inodes[self.inode].seen;
            let start = in_memory(offset)?.min(contents.len());
            let count = buffer.len().min(contents.len() - start);
            buffer[..count].copy_from_slice(&contents[start..start + count]);
            Ok(count)
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(|machine| {
            machine.check(Operation::Allocate)?;
            machine.check_capacity(self.inode, len)?;
            let len = in_memory(len)?;
            if len > machine.state.inodes[self.inode].seen.len() {
                machine.state.inodes[self.inode].set_len(len);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|machine| {
            machine.check(Operation::SetLen)?;
            machine.check_capacity(self.inode, len)?;
            machine.state.inodes[self.inode].set_len(in_memory(len)?);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|machine| Ok(machine.state.inodes[self.inode].seen.len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    /// Changes nothing, as what is not synced may be lost and may be kept at any time.
    fn write_out(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.change(|machine| {
            let fault = machine.strike(Operation::WriteOut);
            let Some(fault) = fault.filter(|fault| *fault != Fault::Lie) else {
                return Ok(());
            };
            Err(self.lose_unsynced(machine, fault))
        })
    }
}

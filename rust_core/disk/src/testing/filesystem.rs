//! The traits over the memory file system.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::faults::{Fault, Operation, Plan, Planned};
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
        if operation.changes()
            && let Some((left, crash)) = self.crash_in
        {
            self.crash_in = Some((left.saturating_sub(1), crash));
            if left <= 1 {
                self.crash(crash);
                self.off = true;
            }
        }
        if self.off {
            return Some(Fault::Io);
        }
        self.plan.strike(operation)
    }

    fn check(&mut self, operation: Operation) -> io::Result<()> {
        self.strike(operation)
            .map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.state.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if is_root(parent) => Ok(()),
            Some(parent) if self.state.names.get(parent) == Some(&Node::Directory) => Ok(()),
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
        if machine.state.names.contains_key(path) {
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
        if is_root(path) || machine.state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        machine.check_parent(path)?;
        machine.state.add(path, Node::Directory);
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let machine = self.machine.lock();
        if !is_root(path) && machine.state.names.get(path) != Some(&Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(machine
            .state
            .names
            .keys()
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
        Ok(is_root(path) || self.machine.lock().state.names.contains_key(path))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let machine = self.machine.lock();
        let inode = machine.file(path)?;
        Ok(machine.state.inodes[inode].seen.len() as u64)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.check(Operation::SyncDir)?;
        if !is_root(path) && machine.state.names.get(path) != Some(&Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        machine.state.sync_dir(path);
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
            if let Some(fault) = machine.strike(Operation::Sync) {
                // A crash has settled already what remains.
                if machine.state.life == self.life {
                    machine.state.inodes[self.inode].fail_sync();
                }
                return Err(fault.error());
            }
            machine.state.inodes[self.inode].sync();
            Ok(())
        })
    }
}

fn in_memory(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl File for FaultyFile {
    fn write_all_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.change(|machine| {
            let start = in_memory(offset)?;
            let mut bytes: Vec<u8> = slices
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            let fault = machine.strike(Operation::Write);
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
}

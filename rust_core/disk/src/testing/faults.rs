//! Operations that fail on purpose.

use std::io;

/// A kind of operation, for choosing which one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Open,
    Create,
    Read,
    Write,
    Allocate,
    SetLen,
    Sync,
    WriteOut,
    Rename,
    Remove,
    SyncDir,
}

impl Operation {
    /// True for all but those that only look.
    pub(super) const fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read)
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A sync or a write-out that fails so loses what it was asked to bring to the disk, as on
    /// Linux.
    Io,
    /// ENOSPC.
    DiskFull,
    /// A write that stores only the first `bytes` and then fails with ENOSPC.
    Short { bytes: usize },
    /// No error but a panic, as a bug on the way would cause.
    Panic,
    /// A sync that says it is done and is not: a power cut before the next one that is honest loses
    /// what it was about. Other operations it leaves as they are.
    Lie,
}

impl Fault {
    /// # Panics
    ///
    /// Panics for [`Self::Panic`].
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
            Self::DiskFull | Self::Short { .. } => {
                io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
            }
            Self::Panic => panic!("planned"),
            Self::Lie => unreachable!("a lie is no error"),
        }
    }
}

/// A fault that waits for its operation.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) operation: Operation,
    /// Operations of the kind that still pass before it strikes.
    pub(super) passes: u64,
    pub(super) fault: Fault,
    /// Strikes every time from then on, not once.
    pub(super) forever: bool,
}

/// The faults to come.
#[derive(Debug, Default)]
pub(super) struct Plan(Vec<Planned>);

impl Plan {
    pub(super) fn add(&mut self, planned: Planned) {
        self.0.push(planned);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts one operation and says whether it is to fail.
    pub(super) fn strike(&mut self, operation: Operation) -> Option<Fault> {
        let mut struck = None;
        self.0.retain_mut(|planned| {
            if planned.operation != operation {
                return true;
            }
            if planned.passes > 0 {
                planned.passes -= 1;
                return true;
            }
            struck.get_or_insert(planned.fault);
            planned.forever
        });
        struck
    }
}

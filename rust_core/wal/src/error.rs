//! What can go wrong, by operation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file operation of the log failed, as far as a caller acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogErrorKind {
    /// No space left; may pass once something was removed.
    DiskFull,
    /// Anything else; the device or the file system needs a person, or the log a reopening.
    Io,
    /// A thread of the log panicked: a bug. The log takes nothing more, and can't be reopened in
    /// this process, since what it left half done can't be reasoned about.
    Panicked,
}

/// A failed file operation of the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct LogError {
    pub kind: LogErrorKind,
    /// What was tried, as a verb.
    pub operation: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: Arc<io::Error>,
}

impl LogError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let kind = if penstock_disk::is_disk_full(&source) {
            LogErrorKind::DiskFull
        } else {
            LogErrorKind::Io
        };
        Self {
            kind,
            operation,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn panicked(operation: &'static str, path: &Path) -> Self {
        Self {
            kind: LogErrorKind::Panicked,
            operation,
            path: path.to_path_buf(),
            source: Arc::new(io::Error::other("a thread of the log panicked")),
        }
    }

    /// True if only a new process can help.
    pub fn is_fatal(&self) -> bool {
        self.kind == LogErrorKind::Panicked
    }

    /// True if it may pass once something was removed.
    pub fn is_disk_full(&self) -> bool {
        self.kind == LogErrorKind::DiskFull
    }

    /// Stable code: `disk_full`, `storage_failed` or `log_panicked`.
    pub fn code(&self) -> &'static str {
        match self.kind {
            LogErrorKind::DiskFull => "disk_full",
            LogErrorKind::Io => "storage_failed",
            LogErrorKind::Panicked => "log_panicked",
        }
    }
}

/// Attaches what was tried, and on which file, to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, LogError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::new(operation, path, source))
    }
}

/// Why a log could not be opened. Nothing was released; what recovery had repaired stays repaired.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the log: {0}")]
    Io(#[from] LogError),
    /// Use the newer release, or drain the log with it.
    #[error("log file {} is of format version {version}, newer than {}", path.display(), crate::format::VERSION)]
    NewerFormat { path: PathBuf, version: u32 },
}

/// Why a record was not taken. Nothing of it was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Retry after files were released. A record larger than the log may become gets this too.
    #[error("the log is full: {used_bytes} of {max_bytes} bytes")]
    WalFull { used_bytes: u64, max_bytes: u64 },
    /// Retry after the queue has moved.
    #[error("the queue of the log is full: {queued_bytes} of {max_bytes} bytes")]
    QueueFull { queued_bytes: u64, max_bytes: u64 },
    /// An earlier write or sync failed; retry after [`crate::Log::reopen`].
    #[error("the log refuses records until it is reopened: {error}")]
    Poisoned {
        #[source]
        error: LogError,
    },
    #[error("the log is closed")]
    Closed,
}

impl AppendError {
    /// Stable code for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WalFull { .. } => "wal_full",
            Self::QueueFull { .. } => "wal_queue_full",
            Self::Poisoned { error } => error.code(),
            Self::Closed => "wal_closed",
        }
    }
}

//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// Code `dedup_io`. Nothing that was durable is lost; the same call may succeed later.
    #[error("cannot use {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Code `dedup_secret`. Without its secret the ids on disk match nothing: put the file back,
    /// or remove the directory and with it the memory of earlier events.
    #[error("the secret in {path} is missing or damaged")]
    Secret { path: PathBuf },
    /// Code `dedup_busy`. Another persist job has begun and has not been finished.
    #[error("ids are being persisted already")]
    Busy,
    /// Code `dedup_options`. No generation of a useful size fits.
    #[error("dedup memory of {memory_bytes} bytes is below the {min_bytes} needed")]
    MemoryTooSmall { memory_bytes: u64, min_bytes: u64 },
}

impl DedupError {
    /// Stable name of the kind.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "dedup_io",
            Self::Secret { .. } => "dedup_secret",
            Self::Busy => "dedup_busy",
            Self::MemoryTooSmall { .. } => "dedup_options",
        }
    }
}

/// Names the path in an error.
pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(io::Error) -> DedupError + '_ {
    |source| DedupError::Io {
        path: path.to_path_buf(),
        source,
    }
}

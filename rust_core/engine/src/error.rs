//! Operating errors of opening and running an engine.

use std::path::PathBuf;

use penstock_model::Position;
use penstock_wal::OpenError;

/// Why an engine could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("data directory {} is in use by another process", .path.display())]
    InUse { path: PathBuf },
    #[error("data directory {} has format {found}; this release reads {supported}", .path.display())]
    NewerFormat {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    #[error("data directory {} is unusable: {reason}", .path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("{reason}")]
    NewerLog { reason: String },
    #[error("cannot open the log: {reason}")]
    Log { reason: String },
    /// The log holds records that this release can't read as they were taken.
    #[error(
        "the log can't be replayed from position {position}: {reason}; \
         drain it with the release that wrote it"
    )]
    OtherRelease { position: Position, reason: String },
    /// A record that was asked for by itself can't be read.
    #[error("{record} can't be read: {reason}")]
    UnreadableRecord { record: String, reason: String },
    #[error("cannot open the deduplication state: {reason}")]
    Dedup { reason: String },
    #[error("cannot use the storage: {source}")]
    Storage {
        #[from]
        source: std::io::Error,
    },
    #[error("engine is closed")]
    Closed,
}

impl EngineError {
    pub(crate) fn log(error: &dyn std::error::Error) -> Self {
        Self::Log {
            reason: with_causes(error),
        }
    }

    /// Why a log could not be opened or repaired.
    pub(crate) fn opening(error: &OpenError) -> Self {
        match error {
            OpenError::NewerFormat { .. } => Self::NewerLog {
                reason: error.to_string(),
            },
            OpenError::Io(_) => Self::log(error),
        }
    }

    pub(crate) fn dedup(error: &dyn std::error::Error) -> Self {
        Self::Dedup {
            reason: with_causes(error),
        }
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "data_directory_in_use",
            Self::NewerFormat { .. } | Self::NewerLog { .. } => "data_directory_newer_format",
            Self::Unusable { .. } => "data_directory_unusable",
            Self::Log { .. } => "log_unreadable",
            Self::OtherRelease { .. } => "data_directory_other_release",
            Self::UnreadableRecord { .. } => "record_unreadable",
            Self::Dedup { .. } => "dedup_unreadable",
            Self::Storage { .. } => "storage_failed",
            Self::Closed => "closed",
        }
    }

    /// Whether the data directory itself is the matter (exit code 3 of `penstock serve`).
    pub const fn concerns_data_directory(&self) -> bool {
        matches!(
            self,
            Self::InUse { .. }
                | Self::NewerFormat { .. }
                | Self::NewerLog { .. }
                | Self::Unusable { .. }
                | Self::OtherRelease { .. }
        )
    }
}

/// An error's message with those of its causes: the operating system's is mostly the last.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

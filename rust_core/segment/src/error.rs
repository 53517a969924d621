//! Why a record could not be appended or a cut not be finished.

use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;
use penstock_model::Position;

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A time outside of the years 1 to 9999: its partition would make the table unopenable.
    #[error("record {position} holds a time outside of the years 1 to 9999")]
    TimeOutOfRange { position: Position },
    /// Reads back as null from a table's partition values.
    #[error("record {position} has an empty project")]
    EmptyProject { position: Position },
    #[error("record {position} has a project whose directory name is longer than 255 bytes")]
    ProjectTooLong { position: Position },
    #[error("cannot write segment {path}")]
    Storage {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot encode segment {path}")]
    Encode {
        path: PathBuf,
        #[source]
        source: ParquetError,
    },
    /// Rows were lost by an earlier error, so what is left is no cut.
    #[error("the cut failed earlier and has to be abandoned")]
    Failed,
}

impl SegmentError {
    /// Stable name, for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TimeOutOfRange { .. } => "segment_time_out_of_range",
            Self::EmptyProject { .. } => "segment_empty_project",
            Self::ProjectTooLong { .. } => "segment_project_too_long",
            Self::Storage { .. } => "segment_storage_failed",
            Self::Encode { .. } => "segment_encode_failed",
            Self::Failed => "segment_cut_failed",
        }
    }

    /// Whether the record itself can't be stored, so that trying again can't help.
    ///
    /// Nothing of the record was appended then, and the builder goes on as before. After any other
    /// error only [`crate::CutBuilder::abandon`] is of use.
    pub const fn concerns_record(&self) -> bool {
        match self {
            Self::TimeOutOfRange { .. }
            | Self::EmptyProject { .. }
            | Self::ProjectTooLong { .. } => true,
            Self::Storage { .. } | Self::Encode { .. } | Self::Failed => false,
        }
    }
}

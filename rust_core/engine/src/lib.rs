//! The façade that wires the rooms: admission, foreground, background, recovery, metrics.
//!
//! Two halves share one durable seam, the log. The *foreground* ([`Engine::submit`]) decodes a
//! request, decides about each of its events, appends one record and answers when its commit group
//! is synced (ACK-1). The *background* turns records into segments and hands out *cuts*: all rows
//! at or below one position, to be committed to the tables by the caller, who then says so with
//! [`Engine::cut_committed`] and thereby releases the log's files (TAB-3).

mod admission;
mod answer;
mod background;
mod backlog;
mod completion;
mod cut;
mod decided;
mod dedup_keys;
mod directory;
mod engine;
mod error;
mod foreground;
mod import;
mod inspect;
mod journal;
mod ledger;
mod locked;
mod metrics;
mod options;
mod passed;
mod projects;
mod quarantine;
mod reading;
mod record;
mod recovery;
mod replay;
mod sealing;
mod sequencer;
mod shared;
#[cfg(test)]
mod simulation;
mod supervisor;
mod tail;
mod token_of;
mod visitors;

pub use admission::{EngineState, StateReport};
pub use answer::{Completion, Submission, SubmitSummary};
pub use cut::{Cut, CutLane};
pub use engine::Engine;
pub use error::EngineError;
pub use import::{ImportError, ImportedRecord};
pub use inspect::{AcceptedEvent, CheckStep, InspectedRecord, LogInspector, repair_log};
pub use journal::{LogEvent, LogLevel};
pub use ledger::{Counts, Entry, LedgerLine, LedgerRead, read_ledger};
pub use locked::LockedDirectory;
pub use options::{EngineOptions, ProjectOptions};
pub use penstock_decode::v1::{Head as V1Head, RawHead as RawV1Head};
pub use penstock_disk::CrashPoint;
pub use penstock_segment::{ByTable, SegmentFile, TableKind, delta_schema_json};
pub use penstock_wal::{FileReport, FoundDamage};
pub use quarantine::{QuarantinedRecord, read_quarantined};
pub use tail::{TailRead, read_tail};
pub use token_of::token_of;

/// The machine's file system.
pub fn real_filesystem() -> std::sync::Arc<dyn penstock_disk::Filesystem> {
    std::sync::Arc::new(penstock_disk::RealFilesystem)
}

/// How segments are written: the defaults of `segment` under the two budgets of the settings.
pub fn segment_options(
    max_buffered_bytes: usize,
    max_open_partitions: usize,
) -> penstock_segment::SegmentOptions {
    penstock_segment::SegmentOptions {
        max_buffered_bytes,
        max_open_partitions,
        ..penstock_segment::SegmentOptions::DEFAULT
    }
}

/// The pieces that benchmarks and bindings call without an engine.
pub mod decode {
    pub use penstock_decode::{DECODER_VERSION, Workspace, decode_request};
}

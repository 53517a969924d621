//! Opaque records: durable, in order, recoverable. Knows nothing of events.
//!
//! [`Log::append`] fixes a record's place and returns at once. The log's own thread takes what has
//! gathered, writes it as one commit group, syncs, and hands the records to the [`GroupSink`]
//! (ACK-1); the next group gathers meanwhile. [`Log::open`] gives back everything that was ever
//! synced (WAL-1) and says what it could not (WAL-2). [`LogReader`] reads durable records in
//! this process; [`read_tail`] reads them in another one, without a lock, and so does [`Inspector`],
//! which also says what it finds file by file.

mod aside;
mod checksum;
mod error;
mod format;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod group_buffers;
mod index;
mod inspect;
mod log;
mod names;
mod prepare;
mod queue;
mod reader;
mod recover;
mod release;
mod repair;
mod report;
mod scan;
mod seal;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use checksum::PayloadChecksum;
pub use error::{AppendError, LogError, LogErrorKind, OpenError};
pub use index::LaneSpan;
pub use inspect::{DamageKind, FileReport, FoundDamage, InspectItem, Inspector, SealState};
pub use log::{Log, LogOptions};
pub use queue::LogState;
pub use reader::{DamagedRange, Gap, GapKind, LogItem, LogReader, ReadRecord};
pub use recover::repair;
pub use release::ReleaseReport;
pub use report::{Damage, Recovery, TornTail};
pub use seal::SealTag;
pub use tail::{TailRecord, TailReport, read_tail};

use penstock_model::Position;

/// What the log stores: two byte strings of which it knows nothing.
pub trait LogRecord: Send + 'static {
    /// What was decided about the payload.
    fn context(&self) -> &[u8];

    /// The bytes as received. Written from here without a copy, unless short.
    fn payload(&self) -> &[u8];

    /// Of the payload as it is; must be right, or the record can't be read back.
    fn payload_checksum(&self) -> Option<PayloadChecksum> {
        None
    }
}

/// Told of each commit group, on the log's thread, with no lock of the log held.
///
/// Must not call [`Log::reopen`] or [`Log::close`], which wait for the call to return.
pub trait GroupSink<R>: Send + Sync + 'static {
    /// The records are synced. Called in log order, and for no record that is not (ACK-1).
    fn group_synced(&self, records: Vec<(Position, R)>);

    /// Writing or syncing failed: the group, and all that was queued behind it, is given up. Its
    /// positions are passed (WAL-3). Frames of it may still be on disk until the log is reopened.
    fn group_failed(&self, records: Vec<(Position, R)>, error: &LogError);
}

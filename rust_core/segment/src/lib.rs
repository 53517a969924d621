//! Events to Arrow columns to Parquet files: one file for each partition of a cut.
//!
//! A [`CutBuilder`] takes the records of the log in order and sorts their events into partitions
//! (`project`, `date`) of the table `events` or, for session replay, of `recordings`; refused events
//! go into the table `rejected`. [`CutBuilder::finish`] closes and syncs every file, so that a table may name it (TAB-2). Nothing else in the workspace
//! knows Arrow or Parquet.
//!
//! A partition is held as growing columns; a full batch of rows goes through the Parquet encoder,
//! which holds one row group, compressed; a full row group goes to the file. Small partitions never
//! get an encoder before they are closed. All of it counts against one budget (LIM-2).

mod calendar;
mod columns;
mod cut;
mod error;
mod events;
mod names;
mod options;
mod partition;
mod record;
mod recordings;
mod rejected;
mod schema;
mod stats;
mod storage;
mod tables;
mod writer;

pub use cut::{CutBuilder, SegmentFile};
pub use error::SegmentError;
pub use names::{MAX_NAME_BYTES, partition_directory};
pub use options::{Codec, Layout, SegmentOptions};
pub use record::RecordMeta;
pub use schema::delta_schema_json;
pub use tables::{ByTable, TableKind};

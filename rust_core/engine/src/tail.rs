//! What the log holds above the tables, for a query in another process.
//!
//! No lock is taken and nothing is written in the data directory. Records are built into Parquet
//! files in a folder of the caller's by the very code that builds segments, so a row looks the same
//! before and after its commit, and memory stays within the builder's budget however long the
//! tail is.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

use penstock_decode::Workspace;
use penstock_model::{LaneId, Payload, Position};
use penstock_segment::{ByTable, Codec, CutBuilder, RecordMeta, SegmentOptions, TableKind};

use crate::directory::Layout;
use crate::error::EngineError;
use crate::replay::replay;

/// Files with the unflushed rows, and how far they reach.
#[derive(Clone, Debug, Default)]
pub struct TailRead {
    /// Absolute paths; every column of the table is inside.
    pub files: Vec<(TableKind, PathBuf)>,
    /// (lane, first, last): positions that were read or passed on purpose, joined up.
    pub spans: Vec<(LaneId, Position, Position)>,
    /// Sentences that name what could not be read.
    pub damage: Vec<String>,
}

/// Reads the log below `data_directory` into Parquet files in `output_directory`.
///
/// At most `memory_bytes` of rows are held before they are written to a file.
/// `above` names, by lane, a position up to which records need not be built; they count as read.
/// A record that can't be replayed is named in `damage` and counts as read: it is on its way to
/// quarantine.
pub fn read_tail<S: BuildHasher>(
    data_directory: &Path,
    output_directory: &Path,
    above: &HashMap<LaneId, Position, S>,
    memory_bytes: usize,
) -> Result<TailRead, EngineError> {
    let filesystem = crate::real_filesystem();
    let layout = Layout::new(data_directory);
    let options = SegmentOptions {
        // Written, read once and thrown away: compression would cost more than it saves.
        codec: Codec::None,
        max_buffered_bytes: memory_bytes,
        ..SegmentOptions::DEFAULT
    };
    let mut builder = CutBuilder::new(
        &filesystem,
        output_directory,
        penstock_segment::Layout::Flat,
        options,
    );
    let mut read = TailRead::default();
    let mut workspace = Workspace::default();
    if !filesystem.exists(&layout.wal())? {
        return Ok(read);
    }
    let wanted =
        |lane: LaneId, position: Position| above.get(&lane).is_none_or(|passed| position > *passed);
    let report =
        penstock_wal::read_tail(
            &*filesystem,
            &layout.wal(),
            &wanted,
            &mut |record| match replay(
                &record.context,
                &Payload::new(record.payload),
                &mut workspace,
            ) {
                Ok((stored, batch)) => builder
                    .append(
                        &RecordMeta {
                            lane: record.lane,
                            position: record.position,
                            project: &stored.project,
                            received_at_us: stored.request.received_at_us,
                            client_address: stored.request.client_address,
                            endpoint: stored.request.endpoint,
                            batch: &batch,
                        },
                        ByTable::ALL,
                    )
                    .or_else(|error| {
                        if error.concerns_record() {
                            read.damage.push(error.to_string());
                            Ok(())
                        } else {
                            Err(std::io::Error::other(error))
                        }
                    }),
                Err(error) => {
                    read.damage
                        .push(format!("record {}: {error}", record.position));
                    Ok(())
                }
            },
        )
        .map_err(|error| EngineError::log(&error))?;
    let files = builder.finish().map_err(|error| EngineError::log(&error))?;
    for file in files {
        read.files
            .push((file.table, output_directory.join(&file.path)));
    }
    read.spans = report.spans;
    read.damage.extend(report.damage);
    Ok(read)
}

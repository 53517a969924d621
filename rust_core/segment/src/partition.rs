//! One partition that is being filled: rows that are not a batch yet, and its file once there is one.

use penstock_model::{BatchView, Event, Outcome};

use crate::cut::{RecordTexts, SegmentFile};
use crate::events::{EventRows, Room};
use crate::names::FileNames;
use crate::recordings::RecordingRows;
use crate::rejected::RejectedRows;
use crate::stats::{FileStats, RowPlace};
use crate::storage::TableDirectory;
use crate::writer::{FileFormat, FileWriter};
use crate::{SegmentError, SegmentOptions, TableKind};

/// A batch is encoded when its texts reach this: offsets into them have 31 bits, and rows can be of
/// megabytes. About 2 k rows of 1 kB. With four times as much building was no faster (both 90 k rows
/// per CPU second), and the server took 35 MB more.
const MAX_BATCH_BYTES: usize = 2 << 20;

/// What a partition takes besides its rows: its columns, its statistics, its place in the map.
const EMPTY_PARTITION_BYTES: usize = 8 << 10;

/// What compression contexts take once a file's columns have been compressed, which the encoder
/// does not count: measured as resident memory over 64 open files.
const OPEN_FILE_BYTES: usize = 2 << 20;

/// What a table's files have in common while a builder lives.
#[derive(Debug)]
pub(crate) struct TableOutput {
    pub(crate) directory: TableDirectory,
    pub(crate) format: FileFormat,
    /// Before file names: tells tables in one flat folder apart.
    pub(crate) name_prefix: String,
    pub(crate) synced: bool,
}

/// Where a partition's rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) table: TableKind,
    /// Relative to the table's directory, encoded; empty: the directory itself.
    pub(crate) directory: String,
    /// Raw values of the partition columns.
    pub(crate) values: Vec<(String, String)>,
    pub(crate) flat: bool,
}

#[derive(Debug)]
enum Rows {
    Events(EventRows),
    Rejected(RejectedRows),
    Recordings(RecordingRows),
}

#[derive(Debug)]
pub(crate) struct Partition {
    destination: Destination,
    rows: Rows,
    /// Bytes of the rows that are not encoded yet.
    row_bytes: usize,
    /// Bytes that room was made for, as the batch before took them.
    room_bytes: usize,
    writer: Option<FileWriter>,
    /// Bytes that the encoder held after the last batch.
    encoder_bytes: usize,
    stats: Option<FileStats>,
    /// When it was last appended to, in the builder's count.
    pub(crate) last_used: u64,
}

impl Partition {
    pub(crate) fn new(destination: Destination) -> Self {
        let rows = empty_rows(&destination, Room::default());
        Self {
            destination,
            rows,
            row_bytes: 0,
            room_bytes: 0,
            writer: None,
            encoder_bytes: 0,
            stats: None,
            last_used: 0,
        }
    }

    /// Adds one event that belongs here; true if that made a full batch.
    pub(crate) fn push(
        &mut self,
        record: &RecordTexts<'_>,
        view: BatchView<'_>,
        event: &Event,
        index: i32,
        options: &SegmentOptions,
    ) -> bool {
        let meta = record.meta;
        let (timestamp_us, rows) = match (&mut self.rows, event.outcome) {
            (Rows::Events(rows), Outcome::Accepted) => {
                self.row_bytes += rows.push(record, view, event, index);
                (Some(event.timestamp_us), rows.rows())
            }
            (Rows::Recordings(rows), Outcome::Accepted) => {
                self.row_bytes += rows.push(record, view, event, index);
                (Some(event.timestamp_us), rows.rows())
            }
            (Rows::Rejected(rows), Outcome::Rejected(code)) => {
                let max_raw_bytes = options.max_rejected_raw_bytes;
                self.row_bytes += rows.push(record, view, event, code, index, max_raw_bytes);
                (None, rows.rows())
            }
            (rows, outcome) => unreachable!("no row of {rows:?} is made of {outcome:?}"),
        };
        let place = RowPlace {
            timestamp_us,
            received_at_us: meta.received_at_us,
            lane: meta.lane,
            position: meta.position,
        };
        match &mut self.stats {
            Some(stats) => stats.add(place),
            None => self.stats = Some(FileStats::of(place)),
        }
        rows >= options.batch_rows || self.row_bytes >= MAX_BATCH_BYTES
    }

    /// Encodes the rows, to go on with as many; makes the file if there is none yet.
    pub(crate) fn encode(
        &mut self,
        output: &mut TableOutput,
        names: &FileNames,
        made: &mut Vec<(TableKind, String)>,
    ) -> Result<(), SegmentError> {
        let room = match &self.rows {
            Rows::Events(rows) => rows.room(),
            Rows::Rejected(_) | Rows::Recordings(_) => Room::default(),
        };
        self.room_bytes = self.row_bytes;
        self.encode_rows(room, output, names, made)
    }

    fn encode_rows(
        &mut self,
        room: Room,
        output: &mut TableOutput,
        names: &FileNames,
        made: &mut Vec<(TableKind, String)>,
    ) -> Result<(), SegmentError> {
        if self.row_bytes == 0 {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.rows, empty_rows(&self.destination, room));
        self.row_bytes = 0;
        let columns = match rows {
            Rows::Events(rows) => rows.finish(),
            Rows::Rejected(rows) => rows.finish(),
            Rows::Recordings(rows) => rows.finish(),
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                none.insert(
                    self.destination
                        .create(self.stats.as_ref(), output, names, made)?,
                )
            }
        };
        writer.write(&output.directory, columns)?;
        self.encoder_bytes = writer.held_bytes() + OPEN_FILE_BYTES;
        Ok(())
    }

    /// Closes the file: rows, footer and contents synced where the layout is. None if it never had
    /// a row.
    pub(crate) fn close(
        mut self,
        output: &mut TableOutput,
        names: &FileNames,
        made: &mut Vec<(TableKind, String)>,
    ) -> Result<Option<SegmentFile>, SegmentError> {
        self.encode_rows(Room::default(), output, names, made)?;
        let (Some(writer), Some(stats)) = (self.writer, self.stats) else {
            return Ok(None);
        };
        let (path, size_bytes) = writer.close(&output.directory, &stats, output.synced)?;
        let table = self.destination.table;
        Ok(Some(SegmentFile {
            table,
            path,
            size_bytes,
            rows: stats.rows(),
            partition: self.destination.values,
            stats_json: stats.delta_json(table),
            first_position: stats.first_position(),
            last_position: stats.last_position(),
        }))
    }

    pub(crate) const fn has_file(&self) -> bool {
        self.writer.is_some()
    }

    /// Bytes that closing this partition would free.
    pub(crate) fn held_bytes(&self) -> usize {
        EMPTY_PARTITION_BYTES + self.row_bytes.max(self.room_bytes) + self.encoder_bytes
    }
}

impl Destination {
    #[expect(
        clippy::expect_used,
        reason = "rows are encoded only where there are some"
    )]
    fn create(
        &self,
        stats: Option<&FileStats>,
        output: &mut TableOutput,
        names: &FileNames,
        made: &mut Vec<(TableKind, String)>,
    ) -> Result<FileWriter, SegmentError> {
        let stats = stats.expect("a row was pushed before");
        let lane = stats.lanes().first().expect("every row has a lane");
        let name = names.next(&output.name_prefix, *lane, stats.first_position());
        let path = match self.directory.as_str() {
            "" => name.clone(),
            directory => format!("{directory}/{name}"),
        };
        let file = output.directory.create(&self.directory, &name)?;
        made.push((self.table, path.clone()));
        FileWriter::new(&output.format, &output.directory, path, file)
    }
}

fn empty_rows(destination: &Destination, room: Room) -> Rows {
    match destination.table {
        TableKind::Events => Rows::Events(EventRows::new(destination.flat, room)),
        TableKind::Rejected => Rows::Rejected(RejectedRows::new(destination.flat)),
        TableKind::Recordings => Rows::Recordings(RecordingRows::new(destination.flat)),
    }
}

//! Makes records, and reads files back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use penstock_disk::{Filesystem, RealFilesystem};
use penstock_model::{
    Batch, BatchText, ClientIp, Code, Endpoint, Event, LaneId, Outcome, Payload, Position, Text,
    Uuid, Warnings,
};
use penstock_segment::{
    ByTable, CutBuilder, Layout, RecordMeta, SegmentError, SegmentFile, SegmentOptions, TableKind,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2024-02-29T12:34:56.000007Z.
pub(crate) const NOON_US: i64 = 1_709_210_096_000_007;
pub(crate) const DAY_US: i64 = 86_400_000_000;
pub(crate) const LANE: LaneId = LaneId::from_bytes([7; 16]);

/// Small enough that every limit is out of the way of a few rows.
pub(crate) const OPTIONS: SegmentOptions = SegmentOptions::DEFAULT;

/// A batch whose texts are all in its side buffer.
pub(crate) struct BatchMaker(pub(crate) Batch);

impl BatchMaker {
    pub(crate) fn new(token: &str) -> Self {
        let mut maker = Self(Batch {
            text: BatchText::Received(Payload::new(Vec::new())),
            side: String::new(),
            events: Vec::new(),
            token: Text::EMPTY,
            historical: false,
            sent_at_us: None,
        });
        maker.0.token = maker.text(token);
        maker
    }

    pub(crate) fn text(&mut self, text: &str) -> Text {
        let start = self.0.side.len();
        self.0.side.push_str(text);
        Text::in_side(start, self.0.side.len())
    }

    /// An event with the least that one has; its id is its number.
    pub(crate) fn event(&mut self, outcome: Outcome, timestamp_us: i64) -> &mut Event {
        let number = self.0.events.len();
        let event = Event {
            outcome,
            uuid: Uuid((number as u128).to_be_bytes()),
            uuid_given: true,
            event: self.text("$pageview"),
            distinct_id: self.text(&format!("user-{number}")),
            timestamp_us,
            client_timestamp: None,
            properties: self.text(r#"{"a":1}"#),
            session_id: None,
            window_id: None,
            snapshot_source: None,
            lib: None,
            lib_version: None,
            elements_chain: None,
            ip: ClientIp::Unsaid,
            propertyless: false,
            cookieless: false,
            warnings: Warnings::default(),
            raw: self.text(r#"{"event":"$pageview"}"#),
        };
        self.0.events.push(event);
        self.0.events.last_mut().unwrap()
    }
}

/// A batch of accepted events at the given times.
pub(crate) fn accepted_at(times_us: &[i64]) -> Batch {
    let mut maker = BatchMaker::new("token");
    for time_us in times_us {
        maker.event(Outcome::Accepted, *time_us);
    }
    maker.0
}

/// A record of the upload of session replay.
pub(crate) fn upload<'a>(position: u64, project: &'a str, batch: &'a Batch) -> RecordMeta<'a> {
    RecordMeta {
        endpoint: Endpoint::Recordings,
        ..record(position, project, batch)
    }
}

/// A batch of refused events.
pub(crate) fn refused(count: usize) -> Batch {
    let mut maker = BatchMaker::new("token");
    for _ in 0..count {
        maker.event(Outcome::Rejected(Code::EventTooLarge), NOON_US);
    }
    maker.0
}

pub(crate) fn record<'a>(position: u64, project: &'a str, batch: &'a Batch) -> RecordMeta<'a> {
    RecordMeta {
        lane: LANE,
        position: Position::new(position),
        project,
        received_at_us: NOON_US,
        client_address: None,
        endpoint: Endpoint::Batch,
        batch,
    }
}

/// A builder over a folder that goes away.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    layout: Layout,
    pub(crate) builder: CutBuilder,
}

impl Bench {
    pub(crate) fn new(layout: Layout, options: SegmentOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let filesystem = RealFilesystem::shared();
        let builder = CutBuilder::new(&filesystem, folder.path(), layout, options);
        Self {
            folder,
            layout,
            builder,
        }
    }

    pub(crate) fn partitioned() -> Self {
        Self::new(Layout::Partitioned, OPTIONS)
    }

    pub(crate) fn append(&mut self, record: &RecordMeta<'_>) -> Result<(), SegmentError> {
        self.builder.append(record, ByTable::ALL)
    }

    pub(crate) fn path_of(&self, file: &SegmentFile) -> PathBuf {
        let folder = self.folder.path();
        match self.layout {
            Layout::Partitioned => folder.join(file.table.name()).join(&file.path),
            Layout::Flat => folder.join(&file.path),
        }
    }

    pub(crate) fn read(&self, file: &SegmentFile) -> Vec<Row> {
        read(&RealFilesystem, &self.path_of(file)).0
    }

    pub(crate) fn metadata(&self, file: &SegmentFile) -> Arc<ParquetMetaData> {
        read(&RealFilesystem, &self.path_of(file)).1
    }

    /// All rows of a table's files.
    pub(crate) fn rows_of(&self, table: TableKind, files: &[SegmentFile]) -> Vec<Row> {
        let files = files.iter().filter(|file| file.table == table);
        files.flat_map(|file| self.read(file)).collect()
    }

    pub(crate) fn files_on_disk(&self) -> BTreeSet<PathBuf> {
        files_below(&RealFilesystem, self.folder.path())
    }
}

/// Every file below a directory.
pub(crate) fn files_below(filesystem: &dyn Filesystem, directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for name in filesystem.read_dir(&directory).unwrap() {
            let path = directory.join(name);
            if filesystem.read_dir(&path).is_ok() {
                open.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

/// A row by column name; times and dates as numbers.
pub(crate) type Row = BTreeMap<String, Value>;

/// Reads a Parquet file whole.
pub(crate) fn read(filesystem: &dyn Filesystem, path: &Path) -> (Vec<Row>, Arc<ParquetMetaData>) {
    let file = filesystem.open_read(path).unwrap();
    let mut contents = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut contents, 0).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(contents)).unwrap();
    let metadata = Arc::clone(builder.metadata());
    let mut rows = Vec::new();
    for batch in builder.build().unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns());
            rows.push(
                columns
                    .map(|(field, column)| (field.name().clone(), value(column, row)))
                    .collect(),
            );
        }
    }
    (rows, metadata)
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => json!(column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            json!(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(row);
            (0..list.len()).map(|index| value(&list, index)).collect()
        }
        other => panic!("no column of ours reads back as {other}"),
    }
}

//! Sorts the records of a cut into partitions and closes their files.

use std::hash::RandomState;
use std::path::Path;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use penstock_disk::Filesystem;
use penstock_model::{BatchView, Event, Position};

use crate::calendar::{Day, in_range};
use crate::names::{FileNames, partition_directory};
use crate::partition::{Destination, Partition, TableOutput};
use crate::storage::TableDirectory;
use crate::writer::FileFormat;
use crate::{ByTable, Layout, RecordMeta, SegmentError, SegmentOptions, TableKind};

/// One finished Parquet file: written and, in a partitioned layout, synced with its name (TAB-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    pub table: TableKind,
    /// Relative to the table's directory, in a flat layout to the root, as it is on disk.
    pub path: String,
    /// Length of the file.
    pub size_bytes: u64,
    /// At least one.
    pub rows: u64,
    /// Raw values of the partition columns, by name; empty in a flat layout.
    pub partition: Vec<(String, String)>,
    /// Delta's statistics: row count, and ranges of the time and position columns.
    pub stats_json: String,
    /// Least position of a row.
    pub first_position: Position,
    /// Greatest position of a row.
    pub last_position: Position,
}

/// Builds the files of one cut after the other.
///
/// Memory: [`Self::buffered_bytes`] stays below `max_buffered_bytes` between calls, plus at most
/// one batch and what growing columns reserve; a single thread uses it, without locks.
#[derive(Debug)]
pub struct CutBuilder {
    layout: Layout,
    options: SegmentOptions,
    names: FileNames,
    outputs: ByTable<TableOutput>,
    open: HashMap<PartitionKey, Box<Partition>, RandomState>,
    /// Sum over `open`.
    held_bytes: usize,
    /// Those of `open` with a file.
    open_files: usize,
    /// Counts runs of events for one partition: the clock of "least recently used".
    tick: u64,
    rows: ByTable<u64>,
    /// Files that were closed early: written and synced, unnamed until the cut.
    closed: Vec<SegmentFile>,
    /// Every file of this cut, closed or not: what abandoning removes.
    made: Vec<(TableKind, String)>,
    /// Files that a limit has closed before their cut, since the builder was made.
    closed_early: u64,
    /// Set by an error that lost rows.
    failed: bool,
}

impl CutBuilder {
    /// Starts with no rows; directories are made with their first file.
    ///
    /// Tables are below `root` by name; in a flat layout all files are in it, and their names tell
    /// the tables apart.
    pub fn new(
        filesystem: &Arc<dyn Filesystem>,
        root: &Path,
        layout: Layout,
        options: SegmentOptions,
    ) -> Self {
        let synced = layout == Layout::Partitioned;
        let outputs = ByTable::from_fn(|table| {
            let (directory, name_prefix) = match layout {
                Layout::Partitioned => (root.join(table.name()), String::new()),
                Layout::Flat => (root.to_owned(), format!("{}-", table.name())),
            };
            TableOutput {
                directory: TableDirectory::new(Arc::clone(filesystem), &directory, synced),
                format: FileFormat::new(table, layout, &options),
                name_prefix,
                synced,
            }
        });
        Self {
            layout,
            names: FileNames::new(),
            outputs,
            options,
            open: HashMap::default(),
            held_bytes: 0,
            open_files: 0,
            tick: 0,
            rows: ByTable::default(),
            closed: Vec::new(),
            made: Vec::new(),
            closed_early: 0,
            failed: false,
        }
    }

    /// Adds the rows of one record, each to its table: accepted events to `events`, or to
    /// `recordings` if that is what the endpoint takes, refused ones to `rejected`, duplicates
    /// nowhere (TAB-1). A table that is not in `tables` has passed the record already.
    ///
    /// Durability: none before [`Self::finish`]. Errors: if [`SegmentError::concerns_record`],
    /// nothing of the record was added and the builder goes on; after others, abandon the cut.
    /// Cost: 3–4 µs for an event of 1 kB, encoding and compressing included.
    pub fn append(
        &mut self,
        record: &RecordMeta<'_>,
        tables: ByTable<bool>,
    ) -> Result<(), SegmentError> {
        if self.failed {
            return Err(SegmentError::Failed);
        }
        let endpoint = record.endpoint;
        let wanted =
            |event: &Event| TableKind::of(endpoint, event.outcome).filter(|table| tables[*table]);
        check(record, &wanted)?;
        let result = self.append_checked(record, &wanted);
        self.failed = result.is_err();
        result
    }

    /// Rows since the last cut, over all tables.
    pub fn rows(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Rows since the last cut.
    pub const fn rows_by_table(&self) -> ByTable<u64> {
        self.rows
    }

    /// Files that a cut would have now.
    pub fn files(&self) -> usize {
        self.closed.len() + self.open.len()
    }

    /// Bytes of memory that the open partitions hold: rows, encoders, compression contexts.
    pub const fn buffered_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Partitions that rows are being added to.
    pub fn open_partitions(&self) -> usize {
        self.open.len()
    }

    /// Files that were closed before their cut, for a limit, since the builder was made.
    pub const fn closed_early(&self) -> u64 {
        self.closed_early
    }

    /// Closes all files and gives them out by table and path; the builder is empty then.
    ///
    /// Durability: in a partitioned layout, on `Ok` every file survives a power cut: contents, name
    /// and directories up to the table's (TAB-2). On `Err`, abandon the cut.
    pub fn finish(&mut self) -> Result<Vec<SegmentFile>, SegmentError> {
        if self.failed {
            return Err(SegmentError::Failed);
        }
        let result = self.close_all();
        self.failed = result.is_err();
        result
    }

    /// Forgets all rows since the last cut and removes their files; the builder is empty then.
    ///
    /// A file that can't be removed stays, named by no table, until a vacuum.
    pub fn abandon(&mut self) {
        self.open.clear();
        for (table, path) in std::mem::take(&mut self.made) {
            self.outputs[table].directory.remove(&path);
        }
        for output in self.outputs.values_mut() {
            output.directory.forget_unsynced();
        }
        self.forget();
    }

    fn append_checked(
        &mut self,
        record: &RecordMeta<'_>,
        wanted: &impl Fn(&Event) -> Option<TableKind>,
    ) -> Result<(), SegmentError> {
        let view = record.batch.view();
        let texts = RecordTexts::of(record, view);
        let layout = self.layout;
        let mut rows = record
            .batch
            .events
            .iter()
            .zip(0..)
            .filter_map(|(event, index)| wanted(event).map(|table| (table, event, index)))
            .peekable();
        while let Some((table, event, _)) = rows.peek() {
            // Events that follow each other mostly belong together: one look-up for all of a run.
            let key = KeyRef::of(layout, *table, record, event);
            self.open_partition(key)?;
            let Some(partition) = self.open.get_mut(&key) else {
                unreachable!("the partition was opened just now")
            };
            self.tick += 1;
            partition.last_used = self.tick;
            let held_before = partition.held_bytes();
            let file_before = partition.has_file();
            let mut full = false;
            while !full
                && let Some((_, event, index)) =
                    rows.next_if(|(table, next, _)| KeyRef::of(layout, *table, record, next) == key)
            {
                full = partition.push(&texts, view, event, index, &self.options);
                self.rows[key.table] += 1;
            }
            if full {
                let output = &mut self.outputs[key.table];
                partition.encode(output, &self.names, &mut self.made)?;
            }
            self.held_bytes = self.held_bytes + partition.held_bytes() - held_before;
            self.open_files += usize::from(partition.has_file() && !file_before);
            self.keep_limits()?;
        }
        Ok(())
    }

    /// Makes sure that there is a partition under `key`.
    fn open_partition(&mut self, key: KeyRef<'_>) -> Result<(), SegmentError> {
        if self.open.contains_key(&key) {
            return Ok(());
        }
        while self.open.len() >= self.options.max_open_partitions.max(1) {
            self.close_early(|partition| std::cmp::Reverse(partition.last_used))?;
        }
        let partition = Partition::new(key.destination(self.layout));
        self.held_bytes += partition.held_bytes();
        self.open.insert(key.to_key(), Box::new(partition));
        Ok(())
    }

    /// Closes files early until the limits hold (LIM-2).
    fn keep_limits(&mut self) -> Result<(), SegmentError> {
        while self.open_files > self.options.max_open_files.max(1) {
            self.close_early(|partition| {
                (partition.has_file(), std::cmp::Reverse(partition.last_used))
            })?;
        }
        while self.held_bytes > self.options.max_buffered_bytes && !self.open.is_empty() {
            self.close_early(Partition::held_bytes)?;
        }
        Ok(())
    }

    /// Closes the partition of the highest rank; its file stays unnamed until the cut.
    fn close_early<R: Ord>(&mut self, rank: impl Fn(&Partition) -> R) -> Result<(), SegmentError> {
        let highest = self
            .open
            .iter()
            .max_by_key(|(_, partition)| rank(partition));
        if let Some(key) = highest.map(|(key, _)| key.clone()) {
            self.closed_early += 1;
            self.close(&key)?;
        }
        Ok(())
    }

    fn close(&mut self, key: &PartitionKey) -> Result<(), SegmentError> {
        let Some(partition) = self.open.remove(key) else {
            return Ok(());
        };
        self.held_bytes -= partition.held_bytes();
        self.open_files -= usize::from(partition.has_file());
        let output = &mut self.outputs[key.table];
        let file = partition.close(output, &self.names, &mut self.made)?;
        self.closed.extend(file);
        Ok(())
    }

    fn close_all(&mut self) -> Result<Vec<SegmentFile>, SegmentError> {
        let mut keys: Vec<PartitionKey> = self.open.keys().cloned().collect();
        keys.sort_unstable();
        for key in &keys {
            self.close(key)?;
        }
        for output in self.outputs.values_mut() {
            output.directory.sync_names()?;
        }
        let mut files = std::mem::take(&mut self.closed);
        files.sort_unstable_by(|a, b| (a.table, &a.path).cmp(&(b.table, &b.path)));
        self.forget();
        Ok(files)
    }

    /// Starts the next cut. Directories that are known to be durable stay known.
    fn forget(&mut self) {
        self.open = HashMap::default();
        self.held_bytes = 0;
        self.open_files = 0;
        self.rows = ByTable::default();
        self.closed.clear();
        self.made.clear();
        self.failed = false;
    }
}

/// Refuses a record of which a row could not be stored, before any of its rows is added.
///
/// Decoding and settings have decided all of this before; here it is the last guard of the table.
fn check(
    record: &RecordMeta<'_>,
    wanted: &impl Fn(&Event) -> Option<TableKind>,
) -> Result<(), SegmentError> {
    let position = record.position;
    let mut any = false;
    let mut in_years = in_range(record.received_at_us);
    for event in &record.batch.events {
        if let Some(table) = wanted(event) {
            any = true;
            in_years &= !table.is_by_event_time() || in_range(event.timestamp_us);
        }
    }
    if !any {
        return Ok(());
    }
    if !in_years {
        return Err(SegmentError::TimeOutOfRange { position });
    }
    if record.project.is_empty() {
        return Err(SegmentError::EmptyProject { position });
    }
    if partition_directory("project", record.project).is_none() {
        return Err(SegmentError::ProjectTooLong { position });
    }
    Ok(())
}

/// What the rows of a record share, made once.
#[derive(Debug)]
pub(crate) struct RecordTexts<'a> {
    pub(crate) meta: &'a RecordMeta<'a>,
    pub(crate) lane: String,
    pub(crate) log_position: i64,
    pub(crate) token: &'a str,
    pub(crate) client_address: Option<String>,
}

impl<'a> RecordTexts<'a> {
    #[expect(
        clippy::expect_used,
        reason = "2^63 records take a quarter of a million years"
    )]
    fn of(record: &'a RecordMeta<'a>, view: BatchView<'a>) -> Self {
        Self {
            meta: record,
            lane: record.lane.to_string(),
            log_position: i64::try_from(record.position.get()).expect("positions stay below 2^63"),
            token: view.get(record.batch.token),
            client_address: record.client_address.map(|address| address.to_string()),
        }
    }
}

/// A partition's place in the map. In a flat layout there is one for each table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PartitionKey {
    table: TableKind,
    /// Empty where all projects share a file.
    project: Box<str>,
    day: Day,
}

/// A [`PartitionKey`] to look up by. Its fields hash as those do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    table: TableKind,
    project: &'a str,
    day: Day,
}

impl Equivalent<PartitionKey> for KeyRef<'_> {
    fn equivalent(&self, key: &PartitionKey) -> bool {
        self.table == key.table && self.day == key.day && *self.project == *key.project
    }
}

impl<'a> KeyRef<'a> {
    fn of(layout: Layout, table: TableKind, record: &RecordMeta<'a>, event: &Event) -> Self {
        let (project, day) = match layout {
            Layout::Flat => ("", Day::default()),
            Layout::Partitioned if table.is_by_event_time() => {
                (record.project, Day::of_micros(event.timestamp_us))
            }
            Layout::Partitioned => ("", Day::of_micros(record.received_at_us)),
        };
        Self {
            table,
            project,
            day,
        }
    }

    fn to_key(self) -> PartitionKey {
        PartitionKey {
            table: self.table,
            project: self.project.into(),
            day: self.day,
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "projects are checked before a row is added"
    )]
    fn destination(self, layout: Layout) -> Destination {
        if layout == Layout::Flat {
            return Destination {
                table: self.table,
                directory: String::new(),
                values: Vec::new(),
                flat: true,
            };
        }
        let date = self.day.to_string();
        let mut directory = format!("date={date}");
        let mut values = vec![("date".to_owned(), date)];
        if self.table.is_by_event_time() {
            let project = partition_directory("project", self.project).expect("checked before");
            directory = format!("{project}/{directory}");
            values.insert(0, ("project".to_owned(), self.project.to_owned()));
        }
        Destination {
            table: self.table,
            directory,
            values,
            flat: false,
        }
    }
}

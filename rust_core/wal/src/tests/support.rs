//! A log on the faulty file system, stepped by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_disk::{Crash, FaultyFilesystem, Filesystem};
use penstock_model::{Clock, ManualClock, Position};

use crate::{
    GroupSink, Log, LogError, LogItem, LogOptions, LogRecord, ReadRecord, Recovery, TailRecord,
    TailReport, read_tail,
};

pub(super) const DIRECTORY: &str = "/data/wal";

/// Small, so that files fill and groups split after a few records.
pub(super) const SMALL: LogOptions = LogOptions {
    file_bytes: 32 * 1024,
    max_group_bytes: 2 * 1024,
    max_wal_bytes: 1024 * 1024,
    max_recycled_files: 2,
    max_queue_bytes: 64 * 1024,
    minimum_next: Position::new(1),
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestRecord {
    pub(super) context: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl TestRecord {
    /// A record whose bytes tell it from others: `name` fills the payload.
    pub(super) fn new(name: u8, payload_bytes: usize) -> Self {
        Self {
            context: vec![name, 1, 2],
            payload: vec![name; payload_bytes],
        }
    }
}

impl LogRecord for TestRecord {
    fn context(&self) -> &[u8] {
        &self.context
    }

    fn payload(&self) -> &[u8] {
        &self.payload
    }
}

#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) synced: Mutex<Vec<(Position, TestRecord)>>,
    pub(super) failed: Mutex<Vec<(Position, TestRecord)>>,
}

impl GroupSink<TestRecord> for Sink {
    fn group_synced(&self, records: Vec<(Position, TestRecord)>) {
        self.synced.lock().extend(records);
    }

    fn group_failed(&self, records: Vec<(Position, TestRecord)>, _error: &LogError) {
        self.failed.lock().extend(records);
    }
}

/// A machine with a log that is opened again and again.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) filesystem: FaultyFilesystem,
    pub(super) options: LogOptions,
    pub(super) sink: Arc<Sink>,
}

pub(super) type TestLog = Log<TestRecord>;

impl Machine {
    pub(super) fn new() -> Self {
        Self::with(SMALL)
    }

    pub(super) fn with(options: LogOptions) -> Self {
        Self {
            filesystem: FaultyFilesystem::new(),
            options,
            sink: Arc::default(),
        }
    }

    pub(super) fn open(&self) -> (TestLog, Recovery) {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(&self) -> Result<(TestLog, Recovery), crate::OpenError> {
        Log::open_without_threads(
            self.shared(),
            Path::new(DIRECTORY),
            self.options,
            clock(),
            Arc::clone(&self.sink) as Arc<_>,
        )
    }

    pub(super) fn shared(&self) -> Arc<dyn Filesystem> {
        Arc::new(self.filesystem.clone())
    }

    /// Ends the log's life in the given way and opens it anew.
    pub(super) fn crash_and_open(&self, log: TestLog, crash: Crash) -> (TestLog, Recovery) {
        self.filesystem.crash(crash);
        drop(log);
        self.open()
    }

    /// Files in the log's directory with this ending.
    pub(super) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let directory = Path::new(DIRECTORY);
        let names = self.filesystem.read_dir(directory).unwrap();
        let paths = names.into_iter().map(|name| directory.join(name));
        paths
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect()
    }

    pub(super) fn tail(&self) -> (Vec<TailRecord>, TailReport) {
        let mut records = Vec::new();
        let report = read_tail(
            &self.filesystem,
            Path::new(DIRECTORY),
            &|_, _| true,
            &mut |record| {
                records.push(record);
                Ok(())
            },
        )
        .unwrap();
        (records, report)
    }
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(1_700_000_000_000_000))
}

/// Appends a record and writes it as a group of its own.
pub(super) fn put(log: &TestLog, name: u8, payload_bytes: usize) -> Position {
    let position = log.append(TestRecord::new(name, payload_bytes)).unwrap();
    while log.step() {}
    position
}

pub(super) fn read_items(log: &TestLog, from: Position) -> Vec<LogItem> {
    let mut reader = log.reader(from);
    std::iter::from_fn(|| reader.next_item().unwrap()).collect()
}

pub(super) fn read_all(log: &TestLog) -> Vec<ReadRecord> {
    let items = read_items(log, Position::new(1));
    items
        .into_iter()
        .filter_map(|item| match item {
            LogItem::Record(record) => Some(record),
            LogItem::Gap(_) => None,
        })
        .collect()
}

/// The names of all records that the log gives back.
pub(super) fn names(log: &TestLog) -> Vec<u8> {
    read_all(log)
        .iter()
        .map(|record| record.context[0])
        .collect()
}

pub(super) fn position(value: u64) -> Position {
    Position::new(value)
}

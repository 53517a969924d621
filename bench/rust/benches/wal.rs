//! Appending bodies and waiting until they are on disk, in groups as load makes them; beside it what the
//! disk takes without a log; and reading a log when it is opened.
//!
//! `PENSTOCK_BENCH_LOG_BYTES` says how large the log is that is read: 256 MiB by default.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use penstock_bench::Corpus;
use penstock_disk::{Filesystem, RealFilesystem};
use penstock_model::{Payload, Position, SystemClock};
use penstock_wal::{GroupSink, Log, LogError, LogOptions, LogRecord, PayloadChecksum, repair};

use crate::{scratch, throughput};

/// Records in flight: what 64 connections give. The log makes its groups of them.
const IN_FLIGHT: usize = 64;
const CONTEXT_BYTES: usize = 128;

/// With its checksum, as the engine's foreground makes it.
#[derive(Debug)]
struct Record(Payload, Option<PayloadChecksum>);

impl LogRecord for Record {
    fn context(&self) -> &[u8] {
        &[0; CONTEXT_BYTES]
    }

    fn payload(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn payload_checksum(&self) -> Option<PayloadChecksum> {
        self.1
    }
}

#[derive(Debug)]
struct Synced(Sender<Position>);

impl GroupSink<Record> for Synced {
    fn group_synced(&self, records: Vec<(Position, Record)>) {
        for (position, _) in &records {
            // Nobody listens any more once the bench is over.
            self.0.send(*position).ok();
        }
    }

    fn group_failed(&self, _records: Vec<(Position, Record)>, error: &LogError) {
        panic!("the disk refused a group: {error:?}");
    }
}

/// Appends `bodies` with [`IN_FLIGHT`] of them outstanding, waits for all and gives the last one's
/// position.
fn append_synced(log: &Log<Record>, synced: &Receiver<Position>, bodies: &[Payload]) -> Position {
    let mut last = Position::ZERO;
    let mut outstanding = 0;
    for body in bodies {
        if outstanding == IN_FLIGHT {
            synced.recv().expect("the log answers");
            outstanding -= 1;
        }
        let checksum = PayloadChecksum::of(body.as_slice());
        let appended = log.append(Record(body.clone(), checksum));
        last = appended
            .map_err(|(_, error)| error)
            .expect("the log takes it");
        outstanding += 1;
    }
    for _ in 0..outstanding {
        synced.recv().expect("the log answers");
    }
    last
}

/// Bytes of a write of the bare loop: a commit group under load.
const BARE_WRITE_BYTES: usize = 1 << 20;

const DEFAULT_LOG_BYTES: u64 = 256 << 20;

/// Writes and syncs without a log, over and over the same file as the log recycles its own: the rate
/// that group commit is held against.
fn bare_loop(group: &mut BenchmarkGroup<'_, WallTime>) {
    let folder = scratch();
    let file = RealFilesystem
        .create_new(&folder.path().join("bare"))
        .expect("a new folder takes a file");
    let writes = LogOptions::default().file_bytes / BARE_WRITE_BYTES as u64;
    let bytes: Vec<u8> = (0..BARE_WRITE_BYTES)
        .map(|index| u8::try_from(index % 251).unwrap_or(0))
        .collect();
    let pass = || {
        for index in 0..writes {
            let offset = index * BARE_WRITE_BYTES as u64;
            file.write_all_at(&bytes, offset)
                .expect("the disk takes it");
            file.sync_data().expect("the disk takes it");
            file.forget_cached(offset, BARE_WRITE_BYTES as u64);
        }
    };
    pass();
    let mut last = [0; 8];
    let end = writes * BARE_WRITE_BYTES as u64;
    file.read_exact_at(&mut last, end - 8).expect("it is there");
    assert_eq!(
        last,
        bytes[BARE_WRITE_BYTES - 8..],
        "what was written reads back"
    );
    group.throughput(Throughput::Bytes(end));
    group.bench_function("bare write and sync, 1 MiB", |bencher| bencher.iter(pass));
}

/// Reads a whole log as an opening does that finds no seals; its files are in the page cache.
fn scan(group: &mut BenchmarkGroup<'_, WallTime>) {
    let wanted = std::env::var("PENSTOCK_BENCH_LOG_BYTES").unwrap_or_default();
    let wanted = wanted.parse().unwrap_or(DEFAULT_LOG_BYTES);
    let folder = scratch();
    let (sender, synced) = channel();
    let directory = folder.path().join("wal");
    let options = LogOptions {
        max_wal_bytes: u64::MAX,
        ..LogOptions::default()
    };
    let clock = Arc::new(SystemClock::new());
    let sink = Arc::new(Synced(sender));
    let (log, _) = Log::open(RealFilesystem::shared(), &directory, options, clock, sink)
        .expect("an empty folder opens");
    let mut corpus = Corpus::new(2);
    let bodies: Vec<_> = (0..512)
        .map(|_| Payload::new(corpus.body(50).bytes))
        .collect();
    let mut records = 0;
    while log.used_bytes() < wanted {
        append_synced(&log, &synced, &bodies);
        records += bodies.len() as u64;
    }
    log.close();
    let open = || {
        let found = repair(&RealFilesystem, &directory, &options).expect("a whole log opens");
        assert_eq!(found.records, records, "every record is found");
        found.read_bytes
    };
    group.throughput(Throughput::Bytes(open()));
    group.bench_function("open without seals", |bencher| bencher.iter(open));
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    group.sample_size(10);
    bare_loop(&mut group);
    scan(&mut group);
    for events in [1, 50] {
        let folder = scratch();
        let (sender, synced) = channel();
        let clock = Arc::new(SystemClock::new());
        let sink = Arc::new(Synced(sender));
        let directory = folder.path().join("wal");
        let options = LogOptions::default();
        let (log, _) = Log::open(RealFilesystem::shared(), &directory, options, clock, sink)
            .expect("an empty folder opens");
        let mut corpus = Corpus::new(1);
        let count = 25_600 / events.max(25);
        let bodies: Vec<_> = (0..count)
            .map(|_| Payload::new(corpus.body(events).bytes))
            .collect();
        let bytes: usize = bodies.iter().map(Payload::len).sum();
        let first = append_synced(&log, &synced, &bodies);
        assert_eq!(
            first,
            Position::new(count as u64),
            "every body has a position of its own"
        );
        group.throughput(throughput(count * events, bytes));
        group.bench_function(BenchmarkId::new("append and sync", events), |bencher| {
            bencher.iter(|| {
                let last = append_synced(&log, &synced, &bodies);
                // What is in the table may go: files are recycled, as in service.
                log.release(last).expect("the disk takes it");
                last
            });
        });
    }
    group.finish();
}

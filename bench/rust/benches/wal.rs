//! Appending bodies and waiting until they are on disk, in groups as load makes them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use criterion::{BenchmarkId, Criterion};
use penstock_bench::Corpus;
use penstock_disk::RealFilesystem;
use penstock_model::{Payload, Position, SystemClock};
use penstock_wal::{GroupSink, Log, LogError, LogOptions, LogRecord};

use crate::{scratch, throughput};

/// Records in flight: what 64 connections give. The log makes its groups of them.
const IN_FLIGHT: usize = 64;
const CONTEXT_BYTES: usize = 128;

#[derive(Debug)]
struct Record(Payload);

impl LogRecord for Record {
    fn context(&self) -> &[u8] {
        &[0; CONTEXT_BYTES]
    }

    fn payload(&self) -> &[u8] {
        self.0.as_slice()
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
        let appended = log.append(Record(body.clone()));
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

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    group.sample_size(10);
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

//! The log with its threads, on a real file system.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_disk::{Crash, Fault, Operation, RealFilesystem};
use penstock_model::Position;

use super::support::*;
use crate::{GroupSink, Log, LogError, LogErrorKind, LogOptions, LogState};

#[test]
fn records_from_many_threads_are_all_synced_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/wal");
    let options = LogOptions {
        file_bytes: 256 * 1024,
        ..SMALL
    };
    let options = LogOptions {
        max_wal_bytes: 64 << 20,
        max_queue_bytes: 64 << 20,
        ..options
    };
    let sink = Arc::new(Sink::default());
    let (log, _) = Log::open(
        RealFilesystem::shared(),
        &directory,
        options,
        clock(),
        Arc::clone(&sink) as Arc<_>,
    )
    .unwrap();
    let log = Arc::new(log);
    let writers: Vec<_> = (0..4)
        .map(|name| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for index in 0..200 {
                    log.append(TestRecord::new(name, index * 7)).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    log.close();
    let synced = sink.synced.lock();
    assert_eq!(synced.len(), 800);
    assert!(synced.windows(2).all(|pair| pair[0].0.next() == pair[1].0));
    assert_eq!(log.durable_position(), position(800));
    let read = read_all(&log);
    assert_eq!(read.len(), 800);
    for (record, (at, appended)) in read.iter().zip(synced.iter()) {
        assert_eq!(record.position, *at);
        assert_eq!(record.payload.as_slice(), appended.payload);
    }
    let last = log.durable_position();
    assert!(log.release(last).unwrap().files > 0);
    drop(log);
    let (log, recovery) = Log::<TestRecord>::open(
        RealFilesystem::shared(),
        &directory,
        options,
        clock(),
        Arc::new(Sink::default()),
    )
    .unwrap();
    assert!(recovery.damage.is_empty());
    assert_eq!(recovery.torn_tail, None);
    assert_eq!(log.next_position(), position(801));
}

#[test]
fn a_log_whose_machine_died_ends_its_threads() {
    let machine = Machine::new();
    let open = |sink: &Arc<Sink>| {
        Log::<TestRecord>::open(
            machine.shared(),
            Path::new(DIRECTORY),
            SMALL,
            clock(),
            Arc::clone(sink) as Arc<_>,
        )
        .unwrap()
        .0
    };
    let log = open(&machine.sink);
    log.append(TestRecord::new(1, 10)).unwrap();
    while log.durable_position() < position(1) {
        std::thread::yield_now();
    }
    machine.filesystem.crash(Crash::LoseUnsynced);
    log.append(TestRecord::new(2, 10)).unwrap();
    drop(log);
    assert_eq!(machine.sink.synced.lock().len(), 1);
    assert_eq!(machine.sink.failed.lock().len(), 1);
    let log = open(&machine.sink);
    assert_eq!(names(&log), [1]);
}

/// Tells how many records were given up, and panics when it is told of the first group.
#[derive(Debug, Default)]
struct PanickingSink {
    panics: bool,
    failed: Mutex<Vec<Position>>,
    fatal: Mutex<Vec<LogError>>,
}

impl GroupSink<TestRecord> for PanickingSink {
    fn group_synced(&self, _records: Vec<(Position, TestRecord)>) {
        assert!(!self.panics, "planned");
    }

    fn group_failed(&self, records: Vec<(Position, TestRecord)>, error: &LogError) {
        let positions = records.iter().map(|(at, _)| *at);
        self.failed.lock().extend(positions);
        self.fatal.lock().push(error.clone());
    }
}

fn open_for_panic(machine: &Machine, sink: &Arc<PanickingSink>) -> TestLog {
    Log::open(
        machine.shared(),
        Path::new(DIRECTORY),
        SMALL,
        clock(),
        Arc::clone(sink) as Arc<_>,
    )
    .unwrap()
    .0
}

/// Whatever was appended, the sink hears of a failure, and the log says that it is over.
fn assert_over(log: &TestLog, sink: &PanickingSink) {
    while sink.fatal.lock().is_empty() {
        std::thread::yield_now();
    }
    assert!(log.reopen().is_err_and(|error| error.is_fatal()));
    let LogState::Poisoned { error } = log.state() else {
        panic!(
            "a log that can't go on must not look ready: {:?}",
            log.state()
        )
    };
    assert_eq!(error.kind, LogErrorKind::Panicked);
    assert_eq!(error.code(), "log_panicked");
    assert!(log.append(TestRecord::new(9, 10)).is_err());
    // And does not wait for a thread that is gone.
    log.close();
}

#[test]
fn a_panic_while_a_group_is_written_gives_its_records_up_and_ends_the_log() {
    let machine = Machine::new();
    let sink = Arc::new(PanickingSink::default());
    let log = open_for_panic(&machine, &sink);
    machine
        .filesystem
        .fail_nth(Operation::Write, 1, Fault::Panic);
    let at = log.append(TestRecord::new(1, 10)).unwrap();
    assert_over(&log, &sink);
    assert_eq!(sink.failed.lock()[0], at);
    assert_eq!(log.durable_position(), position(0));
}

#[test]
fn a_panic_of_the_sink_gives_up_what_is_queued_and_ends_the_log() {
    let machine = Machine::new();
    let sink = Arc::new(PanickingSink {
        panics: true,
        ..PanickingSink::default()
    });
    let log = open_for_panic(&machine, &sink);
    // A group takes three of these.
    let mut appended = Vec::new();
    for name in 0..9 {
        match log.append(TestRecord::new(name, 600)) {
            Ok(at) => appended.push(at),
            Err(_) => break,
        }
    }
    assert_over(&log, &sink);
    let durable = log.durable_position();
    let behind: Vec<_> = appended.into_iter().filter(|at| *at > durable).collect();
    assert_eq!(*sink.failed.lock(), behind, "none waits for ever");
}

#[test]
fn a_panic_while_the_next_file_is_made_ends_the_log() {
    let machine = Machine::new();
    let sink = Arc::new(PanickingSink::default());
    machine
        .filesystem
        .fail_nth(Operation::Allocate, 1, Fault::Panic);
    let log = open_for_panic(&machine, &sink);
    let at = log.append(TestRecord::new(1, 10)).unwrap();
    assert_over(&log, &sink);
    assert_eq!(*sink.failed.lock(), [at]);
}

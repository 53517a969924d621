//! Appending, limits, and reading back.

use super::support::*;
use crate::{AppendError, LogOptions, LogState};

#[test]
fn records_are_read_back_whole_and_in_order() {
    let machine = Machine::new();
    let (log, recovery) = machine.open();
    assert_eq!(recovery.records, 0);
    // Below and above the size up to which payloads are copied, and an empty one.
    for (name, size) in [(1, 10), (2, 1024), (3, 1025), (4, 0), (5, 5000)] {
        put(&log, name, size);
    }
    let records = read_all(&log);
    assert_eq!(names(&log), [1, 2, 3, 4, 5]);
    assert_eq!(records[4].payload.as_slice(), vec![5; 5000]);
    assert_eq!(records[4].context, [5, 1, 2]);
    assert_eq!(records[4].position, position(5));
    assert_eq!(Some(records[4].lane), log.current_lane());
}

#[test]
fn nothing_is_handed_on_before_its_sync() {
    // ACK-1
    let machine = Machine::new();
    let (log, _) = machine.open();
    log.append(TestRecord::new(1, 10)).unwrap();
    assert!(machine.sink.synced.lock().is_empty());
    assert_eq!(log.durable_position(), position(0));
    assert!(read_all(&log).is_empty());
    log.step();
    assert_eq!(machine.sink.synced.lock().len(), 1);
    assert_eq!(log.durable_position(), position(1));
}

#[test]
fn a_group_takes_what_is_queued_up_to_its_limit() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 0..8 {
        log.append(TestRecord::new(name, 600)).unwrap();
    }
    log.step();
    // 3 × (28 + 3 + 600) fit in 2,048 bytes.
    assert_eq!(machine.sink.synced.lock().len(), 3);
    while log.step() {}
    assert_eq!(names(&log), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_record_larger_than_a_file_gets_a_larger_file() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    put(&log, 2, 60_000);
    put(&log, 3, 10);
    assert_eq!(names(&log), [1, 2, 3]);
    drop(log);
    let (log, recovery) = machine.open();
    assert_eq!(names(&log), [1, 2, 3]);
    assert!(recovery.damage.is_empty());
}

#[test]
fn a_full_log_refuses_and_takes_again_after_a_release() {
    let options = LogOptions {
        max_wal_bytes: 100 * 1024,
        ..SMALL
    };
    let machine = Machine::with(options);
    let (log, _) = machine.open();
    let refused = loop {
        match log.append(TestRecord::new(1, 3000)) {
            Ok(_) => while log.step() {},
            Err((record, error)) => break (record, error),
        }
    };
    assert_eq!(refused.0, TestRecord::new(1, 3000));
    assert!(matches!(refused.1, AppendError::WalFull { .. }));
    // The padding of the last group comes on top.
    assert!(log.used_bytes() < 104 * 1024);
    assert!(log.used_bytes() > 96 * 1024);
    assert!(log.could_release(log.durable_position()));
    let report = log.release(log.durable_position()).unwrap();
    assert!(report.files >= 2);
    put(&log, 2, 3000);
}

#[test]
fn a_full_queue_refuses_but_takes_one_record_of_any_size() {
    let machine = Machine::with(LogOptions {
        max_queue_bytes: 1000,
        ..SMALL
    });
    let (log, _) = machine.open();
    log.append(TestRecord::new(1, 5000)).unwrap();
    let (_, error) = log.append(TestRecord::new(2, 1)).unwrap_err();
    assert!(matches!(
        error,
        AppendError::QueueFull {
            max_bytes: 1000,
            ..
        }
    ));
    log.step();
    log.append(TestRecord::new(2, 900)).unwrap();
    log.append(TestRecord::new(3, 1)).unwrap();
    assert!(log.append(TestRecord::new(4, 100)).is_err());
}

#[test]
fn a_closed_log_refuses() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    log.close();
    assert!(matches!(
        log.append(TestRecord::new(2, 1)),
        Err((_, AppendError::Closed))
    ));
    assert!(matches!(log.state(), LogState::Closed));
    log.reopen().unwrap();
    assert!(matches!(log.state(), LogState::Closed));
}

#[test]
fn a_reader_starts_at_any_position_and_goes_on_later() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=50 {
        put(&log, name, 700);
    }
    for from in [1, 2, 7, 8, 9, 49, 50] {
        let items = read_items(&log, position(from));
        assert_eq!(items.len() as u64, 51 - from, "from {from}");
    }
    let mut reader = log.reader(position(50));
    assert!(reader.next_item().unwrap().is_some());
    assert!(reader.next_item().unwrap().is_none());
    put(&log, 51, 10);
    assert!(reader.next_item().unwrap().is_some());
}

#[test]
fn the_backlog_counts_what_comes_after_a_position() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1500);
    }
    assert_eq!(log.backlog(position(0)).0, 20);
    assert_eq!(log.backlog(position(13)).0, 7);
    assert_eq!(log.backlog(position(20)), (0, 0));
    assert!(log.backlog(position(0)).1 >= 20 * 1500);
}

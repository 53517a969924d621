//! Writes and syncs that fail.

use penstock_disk::{Crash, Fault, Operation};

use super::support::*;
use crate::{AppendError, Gap, GapKind, LogErrorKind, LogItem, LogState};

#[test]
fn a_failed_sync_gives_up_the_group_and_all_behind_it_and_refuses_what_comes() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    machine.filesystem.fail_nth(Operation::Sync, 1, Fault::Io);
    for name in [2, 3, 4, 5] {
        log.append(TestRecord::new(name, 900)).unwrap();
    }
    log.step();
    let failed: Vec<_> = machine
        .sink
        .failed
        .lock()
        .iter()
        .map(|(at, _)| at.get())
        .collect();
    assert_eq!(failed, [2, 3, 4, 5]);
    assert_eq!(log.durable_position(), position(1));
    let (_, error) = log.append(TestRecord::new(6, 1)).unwrap_err();
    assert!(matches!(error, AppendError::Poisoned { error } if error.kind == LogErrorKind::Io));
    assert!(matches!(log.state(), LogState::Poisoned { .. }));
    // No second sync is tried on the same bytes.
    assert!(!log.step());
}

#[test]
fn a_reopened_log_goes_on_in_a_new_lane_and_discarded_positions_are_passed() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    let lane = log.current_lane();
    machine.filesystem.fail_nth(Operation::Sync, 1, Fault::Io);
    put(&log, 2, 10);
    log.reopen().unwrap();
    assert!(matches!(log.state(), LogState::Open));
    assert_eq!(put(&log, 3, 10), position(3));
    assert_ne!(log.current_lane(), lane);
    let gap = Gap {
        first: position(2),
        last: position(2),
        kind: GapKind::Passed,
    };
    let items = read_items(&log, position(2));
    assert!(matches!(&items[0], LogItem::Gap(found) if *found == gap));
    assert_eq!(names(&log), [1, 3]);
    for crash in [Crash::LoseUnsynced, Crash::KeepUnsynced] {
        machine.filesystem.crash(crash);
        let (log, recovery) = machine.open();
        assert_eq!(names(&log), [1, 3]);
        assert!(recovery.damage.is_empty());
        assert!(matches!(&read_items(&log, position(2))[0], LogItem::Gap(found) if *found == gap));
    }
}

#[test]
fn a_failure_in_the_first_group_of_a_file_leaves_no_file() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    // The first two syncs make the file.
    log.append(TestRecord::new(1, 10)).unwrap();
    machine.filesystem.fail_nth(Operation::Sync, 2, Fault::Io);
    log.step();
    assert_eq!(machine.sink.failed.lock().len(), 1);
    log.reopen().unwrap();
    put(&log, 2, 10);
    assert_eq!(names(&log), [2]);
    let (log, recovery) = machine.crash_and_open(log, Crash::KeepUnsynced);
    assert_eq!(names(&log), [2]);
    assert!(recovery.damage.is_empty());
}

/// The first try has removed the file already.
#[test]
fn a_reopening_that_failed_behind_the_removal_of_the_file_can_be_tried_again() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    log.append(TestRecord::new(1, 10)).unwrap();
    machine.filesystem.fail_nth(Operation::Sync, 2, Fault::Io);
    log.step();
    machine
        .filesystem
        .fail_nth(Operation::SyncDir, 1, Fault::Io);
    assert!(log.reopen().is_err());
    log.reopen().unwrap();
    put(&log, 2, 10);
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(names(&log), [2]);
    assert!(recovery.damage.is_empty());
}

#[test]
fn errors_name_the_file_and_the_reason() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    machine.filesystem.fail_nth(Operation::Write, 1, Fault::Io);
    put(&log, 1, 10);
    let (_, error) = log.append(TestRecord::new(2, 1)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("00000000000000000001.wal"), "{text}");
    assert!(text.contains("os error 5"), "{text}");
    drop(log);
    machine
        .filesystem
        .fail_nth(Operation::SyncDir, 1, Fault::DiskFull);
    let text = machine.try_open().unwrap_err().to_string();
    assert!(text.contains("os error 28"), "{text}");
}

#[test]
fn a_full_disk_is_told_from_a_broken_one_and_passes() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    machine.filesystem.set_capacity_bytes(Some(40 * 1024));
    for name in 2..=10 {
        // The file that is there fills up; the next one can't be made.
        if log.append(TestRecord::new(name, 1900)).is_err() {
            break;
        }
        while log.step() {}
    }
    let LogState::Poisoned { error } = log.state() else {
        panic!("the disk was full")
    };
    assert!(error.is_disk_full());
    assert!(log.reopen().is_err_and(|error| error.is_disk_full()));
    assert!(matches!(log.state(), LogState::Poisoned { .. }));
    machine.filesystem.set_capacity_bytes(None);
    log.reopen().unwrap();
    put(&log, 100, 10);
    assert_eq!(names(&log).last(), Some(&100));
    assert_eq!(names(&log).len(), machine.sink.synced.lock().len());
}

#[test]
fn a_reopening_that_fails_can_be_tried_again() {
    for operation in [
        Operation::SetLen,
        Operation::Sync,
        Operation::Create,
        Operation::Allocate,
    ] {
        let machine = Machine::new();
        let (log, _) = machine.open();
        put(&log, 1, 10);
        machine.filesystem.fail_nth(Operation::Write, 1, Fault::Io);
        put(&log, 2, 10);
        machine.filesystem.fail_nth(operation, 1, Fault::Io);
        assert!(log.reopen().is_err(), "{operation:?}");
        log.reopen().unwrap();
        put(&log, 3, 10);
        assert_eq!(names(&log), [1, 3]);
    }
}

//! Reading from another process.

use penstock_disk::{Crash, Fault, Operation};

use super::support::*;

#[test]
fn the_tail_gives_all_records_and_touching_spans() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    let (log, _) = machine.crash_and_open(log, Crash::LoseUnsynced);
    put(&log, 21, 10);
    let (records, report) = machine.tail();
    let names: Vec<u8> = records.iter().map(|record| record.context[0]).collect();
    assert_eq!(names, (1..=21).collect::<Vec<u8>>());
    assert_eq!(records[20].payload.as_slice(), vec![21; 10]);
    assert_eq!(report.spans.len(), 2);
    assert_eq!(
        (report.spans[0].1, report.spans[0].2),
        (position(1), position(20))
    );
    assert_eq!(
        (report.spans[1].1, report.spans[1].2),
        (position(21), position(21))
    );
    assert!(report.damage.is_empty());
}

#[test]
fn given_up_positions_count_as_read() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    machine.filesystem.fail_nth(Operation::Sync, 1, Fault::Io);
    put(&log, 2, 10);
    log.reopen().unwrap();
    put(&log, 3, 10);
    let (records, report) = machine.tail();
    assert_eq!(records.len(), 2);
    assert_eq!(report.passed, [(position(2), position(2))]);
    assert_eq!(report.spans[1].1, position(2));
    assert_eq!(report.spans[1].2, position(3));
}

#[test]
fn a_frame_that_is_not_whole_ends_its_file() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    machine
        .filesystem
        .fail_nth(Operation::Write, 1, Fault::Short { bytes: 500 });
    log.append(TestRecord::new(2, 300)).unwrap();
    log.append(TestRecord::new(3, 300)).unwrap();
    log.step();
    let (records, report) = machine.tail();
    assert_eq!(records.len(), 2);
    assert_eq!(report.spans.len(), 1);
    assert!(report.damage.is_empty());
}

#[test]
fn what_is_behind_damage_in_the_last_file_is_read_too() {
    // No file after it proves that the damage is none of a write under way: the groups behind do.
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=3 {
        put(&log, name, 1900);
    }
    let file = machine.files(".wal")[0].clone();
    drop(log);
    machine.filesystem.flip(&file, 2 * 4096 + 200, 1);
    let (records, report) = machine.tail();
    let names: Vec<u8> = records.iter().map(|record| record.context[0]).collect();
    assert_eq!(names, [1, 3]);
    assert_eq!(report.damage.len(), 1);
    // An opening keeps it aside, and makes no file before something is written.
    let (_log, _) = machine.open();
    let (records, report) = machine.tail();
    assert_eq!((records.len(), report.damage.len()), (2, 0));
    assert_eq!(report.spans.len(), 1);
}

#[test]
fn damage_leaves_a_gap_until_an_opening_has_kept_it_aside() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=12 {
        put(&log, name, 1900);
    }
    let file = machine.files(".wal")[0].clone();
    machine.filesystem.flip(&file, 3 * 4096 + 200, 1);
    let (records, report) = machine.tail();
    assert_eq!(records.len(), 11);
    assert_eq!(report.spans[0].2, position(2));
    assert_eq!(report.spans[1].1, position(4));
    assert_eq!(report.damage.len(), 1);
    drop(log);
    let (_log, _) = machine.open();
    let (records, report) = machine.tail();
    assert_eq!(records.len(), 11);
    assert_eq!(report.spans.len(), 1);
    assert_eq!(report.passed, [(position(3), position(3))]);
    assert!(report.damage.is_empty());
}

#[test]
fn records_that_are_not_wanted_count_as_read() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=5 {
        put(&log, name, 10);
    }
    let mut seen = 0;
    let report = crate::read_tail(
        &machine.filesystem,
        std::path::Path::new(DIRECTORY),
        &|lane, at| Some(lane) == log.current_lane() && at > position(3),
        &mut |_| {
            seen += 1;
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(seen, 2);
    assert_eq!(
        (report.spans[0].1, report.spans[0].2),
        (position(1), position(5))
    );
}

#[test]
fn released_files_are_not_read() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    log.release(position(14)).unwrap();
    let (records, report) = machine.tail();
    assert_eq!(records[0].position, position(15));
    assert_eq!(report.spans[0].1, position(15));
}

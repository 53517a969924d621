//! Release and reuse of files.

use penstock_disk::{Crash, Fault, Operation};

use super::support::*;
use crate::LogOptions;
use crate::{GapKind, LogItem};

/// A write that reaches the page cache whole and fails all the same.
const WHOLE: Fault = Fault::Short { bytes: usize::MAX };

fn filled(machine: &Machine) -> TestLog {
    let (log, _) = machine.open();
    for name in 1..=30 {
        put(&log, name, 1900);
    }
    log
}

#[test]
fn only_files_wholly_at_or_below_the_position_are_released() {
    let machine = Machine::new();
    let log = filled(&machine);
    // 7 records a file.
    assert!(!log.could_release(position(6)));
    assert_eq!(log.release(position(6)).unwrap().files, 0);
    assert!(log.could_release(position(7)));
    let report = log.release(position(13)).unwrap();
    assert_eq!((report.files, report.recycled), (1, 1));
    assert_eq!(names(&log)[0], 8);
    let items = read_items(&log, position(1));
    assert!(matches!(&items[0], LogItem::Gap(gap)
        if gap.kind == GapKind::Released && gap.last == position(7)));
}

#[test]
fn released_records_never_come_back() {
    for seed in 0..40 {
        let machine = Machine::new();
        let log = filled(&machine);
        log.release(position(21)).unwrap();
        let (log, recovery) = machine.crash_and_open(log, Crash::KeepSome { seed });
        assert_eq!(recovery.first, position(22));
        assert!(recovery.damage.is_empty());
        // Their files are used again; what is behind the new frames is stale.
        for name in 31..=40 {
            put(&log, name, 100);
        }
        let (log, recovery) = machine.crash_and_open(log, Crash::KeepSome { seed });
        assert!(
            recovery.damage.is_empty(),
            "seed {seed}: {:?}",
            recovery.damage
        );
        assert_eq!(names(&log), (22..=40).collect::<Vec<u8>>());
    }
}

#[test]
fn a_crash_in_a_recycled_file_brings_back_no_stale_frame() {
    let (mut whole, mut lost) = (0, 0);
    for seed in 0..60 {
        let machine = Machine::new();
        let log = filled(&machine);
        log.release(position(30)).unwrap();
        for name in 31..=36 {
            put(&log, name, 1900);
        }
        // Written over stale groups of the same shape, and lost in part: the write is in the page
        // cache whole, and no sync was tried, which would have settled what is lost.
        machine.filesystem.fail_nth(Operation::Write, 1, WHOLE);
        log.append(TestRecord::new(37, 1900)).unwrap();
        log.step();
        assert_eq!(machine.sink.failed.lock().len(), 1);
        let (log, recovery) = machine.crash_and_open(log, Crash::KeepSome { seed });
        assert!(
            recovery.damage.is_empty(),
            "seed {seed}: {:?}",
            recovery.damage
        );
        let names = names(&log);
        let at = names.iter().position(|name| *name == 31).unwrap();
        assert_eq!(names[at..at + 6], [31, 32, 33, 34, 35, 36]);
        match names[at + 6..] {
            [] => lost += 1,
            [37] => whole += 1,
            ref other => panic!("seed {seed}: {other:?}"),
        }
        assert!(names[..at].iter().all(|name| *name > 28));
    }
    assert!(whole > 5 && lost > 5, "{whole} whole, {lost} lost");
}

#[test]
fn the_newest_file_stays_so_that_positions_go_on() {
    // WAL-3
    let machine = Machine::new();
    let log = filled(&machine);
    log.release(position(30)).unwrap();
    drop(log);
    let (log, _) = machine.open();
    log.release(position(30)).unwrap();
    drop(log);
    let (log, _) = machine.open();
    assert_eq!(log.next_position(), position(31));
}

#[test]
fn no_more_files_are_kept_for_reuse_than_asked() {
    let machine = Machine::new();
    let log = filled(&machine);
    let report = log.release(position(30)).unwrap();
    assert_eq!((report.files, report.recycled), (4, 2));
    assert_eq!(machine.files(".spare").len(), 2);
    put(&log, 31, 1900);
    let (log, _) = machine.crash_and_open(log, Crash::LoseUnsynced);
    put(&log, 32, 1900);
    assert!(machine.files(".spare").len() <= 1, "used again");
}

#[test]
fn files_kept_for_reuse_go_when_their_space_is_wanted() {
    // A power cut may bring their names back, and nothing else.
    for seed in 0..10 {
        let machine = Machine::new();
        let log = filled(&machine);
        log.release(position(30)).unwrap();
        assert_eq!(machine.files(".spare").len(), 2);
        log.drop_spares();
        assert!(machine.files(".spare").is_empty());
        put(&log, 31, 1900);
        let (log, recovery) = machine.crash_and_open(log, Crash::KeepSome { seed });
        assert!(recovery.damage.is_empty(), "seed {seed}");
        assert_eq!(names(&log).last(), Some(&31));
        put(&log, 32, 1900);
    }
}

#[test]
fn as_many_are_kept_as_the_log_has_room_for() {
    const MIB: u64 = 1 << 20;
    let kept = |max_wal_mib| LogOptions::recycled_files_for(max_wal_mib * MIB, 64 * MIB);
    assert_eq!(
        [kept(1), kept(2048), kept(4096), kept(16 << 10)],
        [4, 4, 8, 16]
    );
    assert_eq!(LogOptions::recycled_files_for(u64::MAX, 0), 16);
}

#[test]
fn a_release_that_fails_can_be_tried_again() {
    for operation in [
        Operation::Open,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
    ] {
        let machine = Machine::new();
        let log = filled(&machine);
        machine.filesystem.fail_nth(operation, 1, Fault::Io);
        assert!(log.release(position(14)).is_err(), "{operation:?}");
        assert_eq!(log.release(position(14)).unwrap().files, 2);
        assert_eq!(names(&log)[0], 15);
    }
}

#[test]
fn a_file_that_could_not_be_used_again_is_not_left_behind() {
    for operation in [
        Operation::Open,
        Operation::Read,
        Operation::Rename,
        Operation::Allocate,
        Operation::Sync,
        Operation::SyncDir,
    ] {
        let machine = Machine::new();
        let log = filled(&machine);
        log.release(position(30)).unwrap();
        assert_eq!(machine.files(".spare").len(), 2);
        let files = machine.files(".wal").len();
        machine.filesystem.fail_nth(operation, 1, Fault::DiskFull);
        // Needs the next file, for which a released one is taken.
        put(&log, 31, 30_000);
        assert_eq!(machine.sink.failed.lock().len(), 1, "{operation:?}");
        log.reopen().unwrap();
        // The second released one is the next file now, and of the first nothing is left.
        assert_eq!(machine.files(".spare").len(), 0, "{operation:?}");
        assert_eq!(machine.files(".wal").len(), files + 1, "{operation:?}");
        put(&log, 32, 10);
        assert_eq!(names(&log).last(), Some(&32));
    }
}

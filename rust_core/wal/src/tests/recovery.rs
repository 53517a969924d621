//! What an opening gives back after a crash (WAL-1, WAL-3).

use std::path::Path;

use penstock_disk::{Crash, Fault, Filesystem, Operation};

use super::support::*;

#[test]
fn synced_records_survive_a_power_cut_and_positions_and_lanes_go_on() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=30 {
        put(&log, name, 900);
    }
    let first_lane = log.current_lane();
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(recovery.records, 30);
    assert_eq!(recovery.last, position(30));
    assert!(recovery.damage.is_empty());
    assert_eq!(recovery.torn_tail, None);
    assert_eq!(
        log.current_lane(),
        None,
        "a lane is made at the first append"
    );
    assert_eq!(put(&log, 31, 5), position(31));
    assert_ne!(log.current_lane(), first_lane);
    assert_eq!(names(&log), (1..=31).collect::<Vec<u8>>());
    let lanes = log.lanes();
    assert_eq!(lanes.len(), 2);
    assert_eq!((lanes[0].first, lanes[0].last), (position(1), position(30)));
    assert_eq!(
        (lanes[1].first, lanes[1].last),
        (position(31), position(31))
    );
}

#[test]
fn whole_frames_that_were_only_in_the_page_cache_are_made_durable() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    // The write succeeds and the sync is never heard of: the process is killed.
    machine.filesystem.fail_all(Operation::Sync, Fault::Io);
    log.append(TestRecord::new(2, 10)).unwrap();
    log.step();
    let (log, recovery) = machine.crash_and_open(log, Crash::KeepUnsynced);
    assert_eq!(recovery.rewritten_frames, 1);
    assert_eq!(names(&log), [1, 2]);
    // A power cut right after opening takes nothing back.
    let (log, _) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(names(&log), [1, 2]);
}

#[test]
fn torn_tail_is_cut_and_reported() {
    // WAL-2
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    machine
        .filesystem
        .fail_nth(Operation::Write, 1, Fault::Short { bytes: 600 });
    for name in [2, 3, 4] {
        log.append(TestRecord::new(name, 300)).unwrap();
    }
    log.step();
    assert_eq!(machine.sink.failed.lock().len(), 3);
    let (log, recovery) = machine.crash_and_open(log, Crash::KeepUnsynced);
    let torn = recovery.torn_tail.unwrap();
    assert!(torn.cut_bytes > 0);
    assert!(recovery.damage.is_empty());
    // Record 2 was whole by chance and stays; 3 and 4 were not, and their places stay empty.
    assert_eq!(names(&log), [1, 2]);
    assert_eq!(put(&log, 5, 300), position(5));
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(recovery.torn_tail, None, "cut for good");
    assert!(recovery.damage.is_empty());
    assert_eq!(names(&log), [1, 2, 5]);
}

#[test]
fn a_torn_tail_is_cut_once() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    machine
        .filesystem
        .fail_nth(Operation::Write, 1, Fault::Short { bytes: 200 });
    put(&log, 2, 3000);
    let (log, recovery) = machine.crash_and_open(log, Crash::KeepUnsynced);
    let torn = recovery.torn_tail.unwrap();
    assert_eq!(
        machine.filesystem.len(Path::new(&torn.file)).unwrap(),
        torn.offset
    );
    // Nothing is appended, the power is cut, and still it does not come back.
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(recovery.torn_tail, None);
    assert_eq!(
        machine.filesystem.len(Path::new(&torn.file)).unwrap(),
        torn.offset
    );
    assert_eq!(names(&log), [1]);
}

#[test]
fn two_crashes_with_frames_of_equal_length_bring_back_nothing_stale() {
    // A log that overwrote its torn tail in place would find the second frame of the first crash
    // behind the first frame of the second.
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    let mut log = log;
    for name in [10, 20] {
        log.append(TestRecord::new(name, 300)).unwrap();
        log.append(TestRecord::new(name + 1, 300)).unwrap();
        // The first frame of the group is torn, the second is whole.
        log.step();
        let file = machine.files(".wal").last().unwrap().clone();
        let used = log.lanes().last().copied().unwrap();
        assert_eq!(used.last.get(), log.durable_position().get());
        let group = if name == 10 { 4096 * 2 } else { 4096 };
        machine.filesystem.flip(&file, group + 80 + 100, 1);
        let (again, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
        assert!(recovery.torn_tail.is_some());
        assert!(recovery.damage.is_empty());
        log = again;
        assert_eq!(names(&log), [1]);
    }
    assert_eq!(put(&log, 30, 300).get(), 6);
    assert_eq!(names(&log), [1, 30]);
}

#[test]
fn a_crash_while_the_next_file_is_begun_loses_nothing() {
    let (mut whole, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..80 {
        let machine = Machine::new();
        let (log, _) = machine.open();
        let mut synced = Vec::new();
        for name in 1..=12 {
            put(&log, name, 1900);
            synced.push(name);
        }
        // Too large for what is left of the second file. The third is prepared, and its first group
        // reaches the page cache whole; a sync would have settled what is lost, so none is tried.
        let whole_write = Fault::Short { bytes: usize::MAX };
        machine
            .filesystem
            .fail_nth(Operation::Write, 1, whole_write);
        log.append(TestRecord::new(99, 30_000)).unwrap();
        log.step();
        assert_eq!(machine.files(".wal").len(), 3);
        let (log, recovery) = machine.crash_and_open(log, Crash::KeepSome { seed });
        assert!(
            recovery.damage.is_empty(),
            "seed {seed}: {:?}",
            recovery.damage
        );
        let names = names(&log);
        assert_eq!(names[..12], synced[..], "seed {seed}");
        match names[12..] {
            [] => lost += 1,
            [99] => whole += 1,
            ref other => panic!("seed {seed}: {other:?}"),
        }
        torn += usize::from(recovery.torn_tail.is_some());
        put(&log, 100, 10);
    }
    assert!(
        whole > 5 && lost > 5 && torn > 5,
        "{whole} whole, {lost} lost, {torn} torn"
    );
}

#[test]
fn an_opening_with_nothing_appended_changes_nothing() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    drop(log);
    for _ in 0..3 {
        let (log, recovery) = machine.open();
        assert_eq!(recovery.records, 1);
        assert_eq!(log.next_position(), position(2));
    }
    assert_eq!(machine.files(".wal").len(), 1);
}

#[test]
fn a_file_of_a_newer_format_stops_the_opening() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    drop(log);
    let path = machine.files(".wal")[0].clone();
    let file = machine.filesystem.open_read_write(&path).unwrap();
    let mut block = crate::scan::read_first_block(&*file).unwrap();
    block[8] = 2;
    let checksum = crc32c::crc32c(&block[..72]);
    block[72..76].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&block, 0).unwrap();
    assert!(matches!(
        machine.try_open(),
        Err(crate::OpenError::NewerFormat { version: 2, .. })
    ));
}

#[test]
fn strange_files_in_the_directory_are_left_alone() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    drop(log);
    let note = Path::new(DIRECTORY).join("note.json");
    machine.filesystem.create_new(&note).unwrap();
    let (log, _) = machine.open();
    assert_eq!(names(&log), [1]);
    assert!(machine.filesystem.exists(&note).unwrap());
}

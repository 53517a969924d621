//! A look from outside: it sees what an opening would give back, and says against a log what an
//! opening would report.

use std::path::Path;

use penstock_disk::{Crash, Fault, Filesystem, Operation};

use super::support::*;
use crate::{DamageKind, FileReport, FoundDamage, InspectItem, Inspector, ReadRecord, repair};

fn inspector(machine: &Machine, from: u64) -> Inspector {
    Inspector::open(machine.shared(), Path::new(DIRECTORY), position(from)).unwrap()
}

fn rest(inspector: &mut Inspector) -> (Vec<ReadRecord>, Vec<FileReport>) {
    let (mut records, mut files) = (Vec::new(), Vec::new());
    while let Some(item) = inspector.next_item().unwrap() {
        match item {
            InspectItem::Records(more) => records.extend(more),
            InspectItem::File(report) => files.push(report),
        }
    }
    (records, files)
}

fn look(machine: &Machine) -> (Vec<u8>, Vec<FileReport>) {
    let (records, files) = rest(&mut inspector(machine, 1));
    let names = records.iter().map(|record| record.context[0]).collect();
    (names, files)
}

fn damage(files: &[FileReport]) -> Vec<FoundDamage> {
    files
        .iter()
        .flat_map(|file| file.damage.iter().cloned())
        .collect()
}

fn ten_records() -> Machine {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=10 {
        put(&log, name, 500);
    }
    machine
}

#[test]
fn a_log_in_use_is_whole_and_nothing_is_changed() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    let before = machine.files("");
    let (names, files) = look(&machine);
    assert_eq!(names, (1..=20).collect::<Vec<u8>>());
    assert_eq!(machine.files(""), before);
    assert!(damage(&files).is_empty());
    assert_eq!(files.iter().map(|file| file.records).sum::<u64>(), 20);
    assert_eq!(files[0].first, position(1));
    assert_eq!(files.last().unwrap().last, position(20));
    assert!(files.iter().all(|file| file.lane == log.current_lane()));
    assert!(files.iter().all(|file| file.created_at_us > 0));
    assert!(files.iter().all(|file| file.unfinished_bytes == 0));
}

#[test]
fn an_unfinished_end_is_no_damage() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    put(&log, 1, 10);
    let short = Fault::Short { bytes: 500 };
    machine.filesystem.fail_nth(Operation::Write, 1, short);
    log.append(TestRecord::new(2, 300)).unwrap();
    log.append(TestRecord::new(3, 300)).unwrap();
    log.step();
    machine.filesystem.crash(Crash::KeepUnsynced);
    let (names, files) = look(&machine);
    assert_eq!(names, [1, 2]);
    assert!(damage(&files).is_empty());
    assert!(files[0].unfinished_bytes > 0);
}

#[test]
fn damage_is_told_with_its_range_and_where_it_is_kept_once_it_is() {
    let machine = ten_records();
    let file = machine.files(".wal")[0].clone();
    let at = 3 * 4096 + 80 + 28 + 100;
    machine.filesystem.flip(&file, at, 0x40);
    let (names, files) = look(&machine);
    assert_eq!(names, [1, 2, 4, 5, 6, 7, 8, 9, 10]);
    let found = damage(&files);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, DamageKind::Records);
    assert!((found[0].first_byte..=found[0].last_byte).contains(&at));
    assert_eq!(found[0].first_position, position(3));
    assert_eq!(found[0].last_position, position(3));
    assert_eq!(found[0].kept_aside, None);

    let recovery = repair(&machine.filesystem, Path::new(DIRECTORY), &SMALL).unwrap();
    assert!(!recovery.damage[0].known);
    let found = damage(&look(&machine).1);
    assert_eq!(
        found[0].kept_aside.as_ref(),
        Some(&recovery.damage[0].kept_aside)
    );
    let (log, recovery) = machine.open();
    assert!(
        recovery.damage[0].known,
        "a repair does what an opening does"
    );
    assert_eq!(super::support::names(&log), [1, 2, 4, 5, 6, 7, 8, 9, 10]);
}

/// Wherever a bit of a closed log rots, a look gives the records that an opening gives, and blames
/// the positions that an opening blames.
#[test]
fn a_look_agrees_with_an_opening_wherever_a_bit_rots() {
    let end = 9 * 4096;
    for at in (0..end)
        .step_by(61)
        .chain((0..8).map(|group| group * 4096 + 4))
    {
        for file in 0..2 {
            let machine = ten_records();
            let files = machine.files(".wal");
            let Some(path) = files.get(file) else {
                continue;
            };
            if at >= machine.filesystem.len(path).unwrap() {
                continue;
            }
            machine.filesystem.flip(path, at, 0x10);
            let (seen, reports) = look(&machine);
            let mut found: Vec<_> = damage(&reports)
                .iter()
                .map(|damage| {
                    (
                        damage.first_byte,
                        damage.first_position,
                        damage.last_position,
                    )
                })
                .collect();
            let (log, recovery) = machine.open();
            assert_eq!(seen, names(&log), "file {file}, byte {at}");
            let mut reported: Vec<_> = recovery
                .damage
                .iter()
                .map(|damage| {
                    (
                        damage.first_byte,
                        damage.first_position,
                        damage.last_position,
                    )
                })
                .collect();
            found.sort_unstable();
            reported.sort_unstable();
            assert_eq!(found, reported, "file {file}, byte {at}");
        }
    }
}

#[test]
fn a_file_of_which_nothing_is_whole_is_blamed_itself() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    drop(log);
    let rotten = machine.files(".wal")[1].clone();
    for block in 0..8 {
        machine.filesystem.flip(&rotten, block * 4096 + 20, 1);
    }
    let (seen, files) = look(&machine);
    assert_eq!(seen.len(), 13);
    let found = damage(&files);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, DamageKind::WholeFile);
    assert_eq!(found[0].first_position, position(8));
    assert_eq!(found[0].last_position, position(14));
    let blamed = files.iter().find(|file| !file.damage.is_empty()).unwrap();
    assert_eq!(blamed.path, rotten);
}

#[test]
fn a_lost_file_is_damage_behind_the_one_before() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=30 {
        put(&log, name, 1900);
    }
    drop(log);
    machine
        .filesystem
        .remove_file(&machine.files(".wal")[1])
        .unwrap();
    let found = damage(&look(&machine).1);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, DamageKind::End);
    assert_eq!(found[0].first_position, position(8));
    assert_eq!(found[0].last_position, position(14));
}

#[test]
fn files_before_the_first_wanted_record_are_passed_by() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    let (records, files) = rest(&mut inspector(&machine, 16));
    assert_eq!(records[0].position, position(16));
    assert_eq!(records.len(), 5);
    assert_eq!(files[0].first, position(15));
    assert!(damage(&files).is_empty());
}

#[test]
fn files_that_are_released_under_a_look_are_no_damage() {
    for steps in 0..12 {
        let machine = Machine::new();
        let (log, _) = machine.open();
        for name in 1..=30 {
            put(&log, name, 1900);
        }
        let mut inspector = inspector(&machine, 1);
        for _ in 0..steps {
            inspector.next_item().unwrap();
        }
        log.release(position(21)).unwrap();
        for name in 31..=60 {
            put(&log, name, 1900);
        }
        let (records, files) = rest(&mut inspector);
        assert!(damage(&files).is_empty(), "after {steps} steps: {files:?}");
        assert!(records.iter().any(|record| record.position == position(30)));
    }
}

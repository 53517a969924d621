//! Bytes that rot (WAL-2): reported with their range, kept aside, both sides given back.

use std::path::Path;
use std::sync::Arc;

use penstock_disk::{Crash, Fault, Filesystem, Operation};

use super::support::*;
use crate::{Gap, GapKind, InspectItem, Inspector, LogItem};

/// Ten groups of one record each, in one file or two; then closed.
fn ten_records() -> Machine {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=10 {
        put(&log, name, 500);
    }
    machine
}

fn gaps(log: &TestLog) -> Vec<Gap> {
    read_items(log, position(1))
        .into_iter()
        .filter_map(|item| match item {
            LogItem::Gap(gap) => Some(gap),
            LogItem::Record(_) => None,
        })
        .collect()
}

#[test]
fn damage_before_the_tail_is_reported_and_both_sides_are_kept() {
    let machine = ten_records();
    let file = machine.files(".wal")[0].clone();
    // Inside the payload of the third record, which is alone in its group.
    let at = 3 * 4096 + 80 + 28 + 100;
    machine.filesystem.flip(&file, at, 0x40);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    let damage = &recovery.damage[0];
    assert_eq!(damage.file, file.display().to_string());
    assert!((damage.first_byte..=damage.last_byte).contains(&at));
    assert_eq!(
        (damage.first_position, damage.last_position),
        (position(3), position(3))
    );
    assert!(!damage.known);
    assert!(machine.filesystem.exists(&damage.kept_aside).unwrap());
    assert_eq!(recovery.torn_tail, None);
    assert_eq!(names(&log), [1, 2, 4, 5, 6, 7, 8, 9, 10]);
    let missing = Gap {
        first: position(3),
        last: position(3),
        kind: GapKind::Damaged,
    };
    assert_eq!(gaps(&log), [missing]);
    drop(log);
    let (_, recovery) = machine.open();
    assert!(recovery.damage[0].known);
}

#[test]
fn a_damaged_group_header_costs_no_record() {
    let machine = ten_records();
    let file = machine.files(".wal")[0].clone();
    machine.filesystem.flip(&file, 3 * 4096 + 20, 1);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].last_position, position(0));
    assert_eq!(names(&log), (1..=10).collect::<Vec<u8>>());
}

/// Bytes that a look from outside finds behind the last whole record.
fn unfinished_bytes(machine: &Machine) -> u64 {
    let directory = Path::new(DIRECTORY);
    let mut inspector = Inspector::open(machine.shared(), directory, position(1)).unwrap();
    let mut bytes = 0;
    while let Some(item) = inspector.next_item().unwrap() {
        if let InspectItem::File(report) = item {
            bytes += report.unfinished_bytes;
        }
    }
    bytes
}

/// Nothing vouches for the last group, so it is cut like a torn one. It must not go without a word,
/// whatever else may stand there in a file that was used before.
#[test]
fn a_changed_bit_of_the_last_groups_header_is_told() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=30 {
        put(&log, name, 1900);
    }
    log.release(position(30)).unwrap();
    // The last three are in a file of their own.
    for name in 31..=38 {
        put(&log, name, 1900);
    }
    let file = machine.files(".wal").last().unwrap().clone();
    let fork = machine.filesystem.fork();
    let start = 3 * 4096;
    for bit in 0..80 * 8 {
        let copy = Machine {
            filesystem: fork.crashed(Crash::LoseUnsynced),
            options: machine.options,
            sink: Arc::default(),
        };
        copy.filesystem.flip(&file, start + bit / 8, 1 << (bit % 8));
        assert!(unfinished_bytes(&copy) > 0, "bit {bit}");
        let (log, recovery) = copy.open();
        assert_eq!(names(&log).last(), Some(&37), "bit {bit}");
        let torn = recovery.torn_tail.map(|torn| torn.offset);
        assert_eq!(torn, Some(start), "bit {bit}");
        assert_eq!(recovery.damage, [], "bit {bit}");
    }
}

#[test]
fn a_damaged_first_block_costs_no_record() {
    let machine = ten_records();
    for file in machine.files(".wal") {
        machine.filesystem.flip(&file, 30, 1);
    }
    let (log, recovery) = machine.open();
    assert!(!recovery.damage.is_empty());
    assert_eq!(names(&log), (1..=10).collect::<Vec<u8>>());
}

#[test]
fn damage_inside_a_group_leaves_the_frames_around_it() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=5 {
        log.append(TestRecord::new(name, 300)).unwrap();
    }
    while log.step() {}
    put(&log, 6, 10);
    drop(log);
    let file = machine.files(".wal")[0].clone();
    // The length field of the second frame: where the third begins must be found by search.
    machine.filesystem.flip(&file, 4096 + 80 + 331 + 21, 0xff);
    let (log, recovery) = machine.open();
    assert_eq!(names(&log), [1, 3, 4, 5, 6]);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].first_position, position(2));
    assert_eq!(recovery.damage[0].last_position, position(2));
}

#[test]
fn a_lost_file_in_the_middle_is_damage_and_not_skipped_silently() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=30 {
        put(&log, name, 1900);
    }
    drop(log);
    let files = machine.files(".wal");
    assert!(files.len() >= 4);
    machine.filesystem.remove_file(&files[1]).unwrap();
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    let (first, last) = (
        recovery.damage[0].first_position,
        recovery.damage[0].last_position,
    );
    let expected: Vec<u8> = (1..=30)
        .filter(|name| !(first.get()..=last.get()).contains(&u64::from(*name)))
        .collect();
    assert_eq!(names(&log), expected);
    assert_eq!(
        gaps(&log),
        [Gap {
            first,
            last,
            kind: GapKind::Damaged
        }]
    );
}

#[test]
fn damage_at_the_end_of_a_filled_file_is_told_by_the_next_one() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=12 {
        put(&log, name, 1900);
    }
    let first_file = log.lanes();
    assert_eq!(first_file.len(), 1);
    drop(log);
    let file = machine.files(".wal")[0].clone();
    // 7 groups fit behind the first block of a file of 8 blocks.
    machine.filesystem.flip(&file, 7 * 4096 + 80 + 28 + 5, 2);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].first_position, position(7));
    assert_eq!(names(&log).len(), 11);
    assert_eq!(recovery.torn_tail, None);
}

#[test]
fn positions_of_damaged_records_are_not_used_again() {
    // WAL-3: all there was is unreadable, so only what was kept aside tells how far the log went.
    let machine = ten_records();
    for file in machine.files(".wal") {
        for group in 1..8 {
            machine.filesystem.flip(&file, group * 4096 + 80 + 30, 1);
        }
    }
    let (log, _) = machine.open();
    assert!(log.next_position() > position(9));
    drop(log);
    let (log, _) = machine.open();
    assert!(log.next_position() > position(9));
}

/// The last position that a reader comes to.
fn reached(log: &TestLog) -> penstock_model::Position {
    match read_items(log, position(1)).last().unwrap() {
        LogItem::Record(record) => record.position,
        LogItem::Gap(gap) => gap.last,
    }
}

#[test]
fn a_reader_reaches_the_durable_position_past_a_damaged_last_record() {
    // Whoever reads up to the durable position would ask for record 9 for ever.
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=9 {
        put(&log, name, 500);
    }
    // The header of group 10 is whole and says that 9 was synced; its frame is torn.
    let torn = Fault::Short {
        bytes: 80 + 28 + 10,
    };
    machine.filesystem.fail_nth(Operation::Write, 1, torn);
    put(&log, 10, 500);
    machine.filesystem.crash(Crash::KeepUnsynced);
    drop(log);
    let file = machine.files(".wal").last().unwrap().clone();
    // The second group of the second file.
    machine.filesystem.flip(&file, 2 * 4096 + 80 + 28 + 100, 1);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(log.durable_position(), position(9));
    let mut reader = log.reader(position(9));
    let missing = Gap {
        first: position(9),
        last: position(9),
        kind: GapKind::Damaged,
    };
    assert!(matches!(reader.next_item().unwrap(), Some(LogItem::Gap(gap)) if gap == missing));
    assert!(reader.next_item().unwrap().is_none());
    assert_eq!(gaps(&log), [missing]);
    // The same reader goes on with what comes next, and other readers see no second gap.
    let next = put(&log, 11, 10);
    let seen = std::iter::from_fn(|| reader.next_item().unwrap()).last();
    assert!(matches!(seen, Some(LogItem::Record(record)) if record.position == next));
    assert_eq!(gaps(&log)[0], missing);
    assert_eq!(reached(&log), next);
}

#[test]
fn a_reader_reaches_the_durable_position_of_a_log_with_nothing_readable() {
    let machine = ten_records();
    for file in machine.files(".wal") {
        for group in 1..8 {
            machine.filesystem.flip(&file, group * 4096 + 80 + 30, 1);
        }
    }
    let (log, _) = machine.open();
    assert!(names(&log).is_empty());
    assert!(log.durable_position() >= position(9));
    assert_eq!(reached(&log), log.durable_position());
}

/// Breaks the first block and every group header of a file.
fn break_headers(machine: &Machine, file: &std::path::Path) {
    machine.filesystem.flip(file, 30, 1);
    for group in 1..machine.filesystem.len(file).unwrap() / 4096 {
        machine.filesystem.flip(file, group * 4096 + 20, 1);
    }
}

fn contents(machine: &Machine, path: &std::path::Path) -> Vec<u8> {
    let len = usize::try_from(machine.filesystem.len(path).unwrap()).unwrap();
    let mut bytes = vec![0; len];
    let file = machine.filesystem.open_read(path).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn an_only_file_without_a_whole_header_is_reported_and_kept_aside() {
    // It looks like a file that was prepared and not used, and was removed as one.
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=5 {
        put(&log, name, 500);
    }
    drop(log);
    let file = machine.files(".wal")[0].clone();
    break_headers(&machine, &file);
    let before = contents(&machine, &file);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    let damage = &recovery.damage[0];
    assert_eq!(damage.file, file.display().to_string());
    assert_eq!(damage.first_position, position(1));
    assert!(damage.last_position >= position(5));
    assert!(!damage.known);
    assert!(contents(&machine, &damage.kept_aside) == before);
    assert!(log.next_position() > position(5), "WAL-3");
    assert_eq!(reached(&log), log.durable_position());
    // Also after a power cut, and before anything was appended.
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert!(log.next_position() > position(5));
    assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
    let next = put(&log, 6, 10);
    assert_eq!(names(&log), [6]);
    assert_eq!(reached(&log), next);
    assert_ne!(machine.files(".wal")[0], file, "no namesake");
}

#[test]
fn an_oldest_file_without_a_whole_header_is_reported_and_kept_aside() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=12 {
        put(&log, name, 1900);
    }
    drop(log);
    let file = machine.files(".wal")[0].clone();
    break_headers(&machine, &file);
    let before = contents(&machine, &file);
    let (log, recovery) = machine.open();
    assert_eq!(names(&log), [8, 9, 10, 11, 12]);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].last_position, position(7));
    assert!(contents(&machine, &recovery.damage[0].kept_aside) == before);
}

#[test]
fn a_middle_file_without_a_whole_header_is_reported_once_and_kept_aside_once() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    drop(log);
    let file = machine.files(".wal")[1].clone();
    break_headers(&machine, &file);
    let before = contents(&machine, &file);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    let kept = recovery.damage[0].kept_aside.clone();
    assert!(contents(&machine, &kept) == before);
    let missing = Gap {
        first: position(8),
        last: position(14),
        kind: GapKind::Damaged,
    };
    assert_eq!(gaps(&log), [missing]);
    drop(log);
    let (_, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    assert!(recovery.damage[0].known);
    assert_eq!(recovery.damage[0].kept_aside, kept);
    let aside = kept.parent().unwrap();
    assert_eq!(machine.filesystem.read_dir(aside).unwrap().len(), 1);
}

#[test]
fn two_files_that_are_kept_aside_do_not_replace_each_other() {
    let machine = Machine::new();
    let mut kept = Vec::new();
    for name in 1..=3 {
        let (log, _) = machine.open();
        put(&log, name, 500);
        drop(log);
        break_headers(&machine, &machine.files(".wal")[0]);
        let (_, recovery) = machine.open();
        kept.push(recovery.damage[0].kept_aside.clone());
    }
    for (path, name) in kept.iter().zip(1..) {
        assert!(
            contents(&machine, path).contains(&name),
            "{}",
            path.display()
        );
    }
}

#[test]
fn positions_go_on_from_what_is_known_from_elsewhere() {
    // WAL-3: the log's directory was emptied, or an old copy of it was put back.
    let mut machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=3 {
        put(&log, name, 10);
    }
    drop(log);
    machine.options.minimum_next = position(4);
    let (log, recovery) = machine.open();
    assert!(recovery.damage.is_empty(), "nothing is missing");
    assert_eq!(log.next_position(), position(4));
    drop(log);
    machine.options.minimum_next = position(101);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.damage.len(), 1);
    let damage = &recovery.damage[0];
    assert_eq!(
        (damage.first_position, damage.last_position),
        (position(4), position(100))
    );
    assert_eq!(put(&log, 9, 10), position(101));
    assert_eq!(names(&log), [1, 2, 3, 9]);
    drop(log);
    for file in machine.files(".wal") {
        machine.filesystem.remove_file(&file).unwrap();
    }
    machine.options.minimum_next = position(102);
    let (log, recovery) = machine.open();
    assert_eq!(recovery.last, position(101));
    assert!(!recovery.damage.is_empty());
    assert_eq!(put(&log, 10, 10), position(102));
    drop(log);
    // And once it is written, without being told.
    machine.options.minimum_next = position(1);
    let (log, _) = machine.open();
    assert_eq!(log.next_position(), position(103));
}

#[test]
fn released_files_tell_how_far_positions_went() {
    let machine = Machine::new();
    let (log, _) = machine.open();
    for name in 1..=20 {
        put(&log, name, 1900);
    }
    log.release(position(20)).unwrap();
    drop(log);
    let spares = machine.files(".spare").len();
    assert!(spares > 0);
    for file in machine.files(".wal") {
        machine.filesystem.remove_file(&file).unwrap();
    }
    let (log, _) = machine.open();
    assert!(
        log.next_position() > position(8),
        "the second file began there"
    );
}

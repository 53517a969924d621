//! Seals: files that an opening need not read, and all that must not be believed of them.

use std::path::PathBuf;

use penstock_disk::{Crash, Fault, Filesystem, Operation};

use super::support::*;
use crate::{GapKind, InspectItem, Inspector, LogItem, SealState, SealTag, repair};

const TAG: SealTag = [7; 32];

/// Thirty records in five files, of which all but the last are closed.
fn thirty(machine: &Machine) -> TestLog {
    let (log, _) = machine.open();
    for name in 1..=30 {
        put(&log, name, 1900);
    }
    log
}

fn sealed(machine: &Machine) -> TestLog {
    let log = thirty(machine);
    let up_to = log.unsealed(&TAG).unwrap();
    assert_eq!(log.seal(up_to, &TAG).unwrap(), 4);
    assert_eq!(log.unsealed(&TAG), None);
    log
}

fn all() -> Vec<u8> {
    (1..=30).collect()
}

/// A byte in the payload of the third record.
const IN_THE_THIRD: u64 = 3 * 4096 + 80 + 28 + 100;

#[test]
fn a_sealed_file_is_not_read_and_gives_all_of_it_back() {
    for crash in [
        Crash::LoseUnsynced,
        Crash::KeepUnsynced,
        Crash::KeepSome { seed: 4 },
    ] {
        let machine = Machine::new();
        let log = sealed(&machine);
        let before = log.backlog(position(3));
        let (log, recovery) = machine.crash_and_open(log, crash);
        assert_eq!((recovery.sealed_files, recovery.records), (4, 30));
        assert_eq!(recovery.read_bytes, machine.options.file_bytes);
        assert_eq!(names(&log), all());
        // The marks by which a position is found are the same too.
        assert_eq!(log.backlog(position(3)), before);
        assert_eq!(
            log.spans_without(Some(&TAG)),
            [(position(28), position(30))]
        );
        assert_eq!(log.spans_without(None), [(position(0), position(30))]);
        assert_eq!(
            log.spans_without(Some(&[8; 32])),
            [(position(0), position(30))]
        );
    }
}

#[test]
fn only_what_is_closed_and_far_enough_is_sealed() {
    let machine = Machine::new();
    let log = thirty(&machine);
    assert_eq!(log.unsealed(&TAG), Some(position(28)));
    assert_eq!(log.seal(position(13), &TAG).unwrap(), 1);
    assert_eq!(log.spans_without(Some(&TAG)), [(position(7), position(30))]);
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(recovery.sealed_files, 1);
    // The last file is closed now; another tag seals all of them again.
    assert_eq!(log.seal(position(30), &[8; 32]).unwrap(), 5);
    assert!(log.spans_without(Some(&[8; 32])).is_empty());
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!((recovery.sealed_files, recovery.read_bytes), (5, 0));
    assert_eq!((recovery.last, names(&log)), (position(30), all()));
    put(&log, 31, 10);
    assert_eq!(names(&log).last(), Some(&31));
}

#[test]
fn a_seal_with_any_byte_changed_is_not_believed() {
    let machine = Machine::new();
    drop(sealed(&machine));
    let seal = machine.files(".seal")[1].clone();
    let len = machine.filesystem.len(&seal).unwrap();
    for at in (0..len).step_by(5) {
        machine.filesystem.flip(&seal, at, 0x20);
        let (log, recovery) = machine.open();
        assert_eq!(recovery.sealed_files, 3, "byte {at}");
        assert_eq!(names(&log), all());
        assert!(!machine.filesystem.exists(&seal).unwrap());
        assert_eq!(log.seal(position(28), &TAG).unwrap(), 1);
    }
}

#[test]
fn a_seal_that_is_cut_short_missing_or_of_another_file_is_not_believed() {
    let machine = Machine::new();
    drop(sealed(&machine));
    let seals = machine.files(".seal");
    let file = machine.filesystem.open_read_write(&seals[0]).unwrap();
    file.set_len(100).unwrap();
    machine.filesystem.remove_file(&seals[1]).unwrap();
    machine.filesystem.rename(&seals[2], &seals[3]).unwrap();
    let (log, recovery) = machine.open();
    assert_eq!(recovery.sealed_files, 0);
    assert!(recovery.damage.is_empty());
    assert_eq!(names(&log), all());
    assert_eq!(machine.files(".seal"), Vec::<PathBuf>::new());
}

#[test]
fn a_seal_is_never_trusted_over_the_log() {
    // The file behind the sealed one is gone: only a scan tells that from a log that is whole.
    let machine = Machine::new();
    drop(sealed(&machine));
    let files = machine.files(".wal");
    machine.filesystem.remove_file(&files[2]).unwrap();
    let (_, recovery) = machine.open();
    assert_eq!(recovery.sealed_files, 2);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].first_position, position(15));
    // A file that lost its end, and one whose first block rotted, are read and told of.
    let machine = Machine::new();
    drop(sealed(&machine));
    let files = machine.files(".wal");
    let file = machine.filesystem.open_read_write(&files[0]).unwrap();
    file.set_len(8192).unwrap();
    machine.filesystem.flip(&files[1], 30, 1);
    let (log, recovery) = machine.open();
    assert_eq!((recovery.sealed_files, recovery.damage.len()), (2, 2));
    assert_eq!(names(&log)[1], 8);
    // What is damaged stays without a seal, so that each opening says so.
    assert_eq!(log.unsealed(&TAG), Some(position(30)));
    assert_eq!(log.seal(position(30), &TAG).unwrap(), 1);
    drop(log);
    let (_, recovery) = machine.open();
    assert!(recovery.damage.iter().all(|damage| damage.known));
    assert_eq!(recovery.damage.len(), 2);
}

#[test]
fn damage_in_a_sealed_file_is_met_by_its_reader_and_then_by_openings() {
    let machine = Machine::new();
    drop(sealed(&machine));
    let files = machine.files(".wal");
    machine.filesystem.flip(&files[0], IN_THE_THIRD, 0x40);
    // Of the header of a group alone: no record is missing, and it is told all the same.
    machine.filesystem.flip(&files[1], 2 * 4096 + 20, 1);
    let (log, recovery) = machine.open();
    assert_eq!((recovery.sealed_files, recovery.damage.len()), (4, 0));
    let mut reader = log.reader(position(1));
    let mut met = Vec::new();
    let mut gaps = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        met.extend(reader.take_damage());
        if let LogItem::Gap(gap) = item {
            gaps.push((gap.first, gap.last, gap.kind));
        }
    }
    assert_eq!(gaps, [(position(3), position(3), GapKind::Damaged)]);
    assert_eq!(met.len(), 2);
    let kept: Vec<_> = met
        .iter()
        .map(|damage| log.keep_damage(damage).unwrap().unwrap())
        .collect();
    assert_eq!(kept[0].file, files[0].display().to_string());
    assert!((kept[0].first_byte..=kept[0].last_byte).contains(&IN_THE_THIRD));
    assert_eq!(kept[0].first_position, position(3));
    assert_eq!(kept[1].last_position, position(0));
    for damage in &kept {
        assert!(!damage.known);
        assert!(machine.filesystem.exists(&damage.kept_aside).unwrap());
    }
    assert!(log.keep_damage(&met[0]).unwrap().unwrap().known);
    // Neither file has a seal now, and neither gets one.
    assert_eq!(machine.files(".seal").len(), 2);
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(recovery.damage.len(), 2);
    assert!(recovery.damage.iter().all(|damage| damage.known));
    // A file that was released meanwhile is nobody's business any more.
    log.release(position(28)).unwrap();
    assert!(log.keep_damage(&met[0]).unwrap().is_none());
}

#[test]
fn damage_that_can_not_be_kept_is_tried_again() {
    let machine = Machine::new();
    drop(sealed(&machine));
    let files = machine.files(".wal");
    machine.filesystem.flip(&files[0], IN_THE_THIRD, 0x40);
    let (log, _) = machine.open();
    let mut reader = log.reader(position(1));
    let mut met = Vec::new();
    while met.is_empty() {
        reader.next_item().unwrap();
        met = reader.take_damage();
    }
    machine
        .filesystem
        .fail_nth(Operation::Create, 1, Fault::DiskFull);
    assert!(log.keep_damage(&met[0]).is_err());
    assert!(!log.keep_damage(&met[0]).unwrap().unwrap().known);
}

#[test]
fn seals_go_with_their_files() {
    let machine = Machine::new();
    let log = sealed(&machine);
    let seals = machine.files(".seal");
    log.release(position(21)).unwrap();
    assert_eq!(machine.files(".seal"), seals[3..]);
    for name in 31..=50 {
        put(&log, name, 1900);
    }
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!((recovery.sealed_files, recovery.first), (1, position(22)));
    assert!(recovery.damage.is_empty());
    assert_eq!(names(&log), (22..=50).collect::<Vec<u8>>());
}

#[test]
fn a_seal_of_an_earlier_use_is_removed() {
    let machine = Machine::new();
    let log = sealed(&machine);
    // The release stops behind the mark, and a seal that was never published is left too.
    machine.filesystem.fail_nth(Operation::Remove, 1, Fault::Io);
    assert!(log.release(position(7)).is_err());
    let unfinished = machine.files(".seal")[0].with_extension("seal.tmp");
    machine.filesystem.create_new(&unfinished).unwrap();
    assert_eq!(machine.files(".seal").len(), 4);
    let (log, recovery) = machine.crash_and_open(log, Crash::KeepUnsynced);
    assert_eq!((recovery.sealed_files, recovery.first), (3, position(8)));
    assert_eq!(machine.files(".seal").len(), 3);
    assert!(!machine.filesystem.exists(&unfinished).unwrap());
    assert_eq!(names(&log), (8..=30).collect::<Vec<u8>>());
}

#[test]
fn a_seal_that_can_not_be_written_leaves_a_file_to_be_read() {
    for operation in [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
    ] {
        let machine = Machine::new();
        let log = thirty(&machine);
        machine.filesystem.fail_nth(operation, 1, Fault::Io);
        assert!(log.seal(position(28), &TAG).is_err(), "{operation:?}");
        assert_eq!(log.spans_without(Some(&TAG)), [(position(0), position(30))]);
        assert_eq!(log.seal(position(28), &TAG).unwrap(), 4);
        let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
        assert_eq!(recovery.sealed_files, 4);
        assert_eq!(names(&log), all());
    }
}

#[test]
fn broken_seals_stay_broken() {
    let machine = Machine::new();
    let log = sealed(&machine);
    log.break_seals().unwrap();
    assert_eq!(log.unsealed(&TAG), Some(position(28)));
    let (_, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert_eq!(recovery.sealed_files, 0);
}

#[test]
fn a_repair_believes_no_seal() {
    let machine = Machine::new();
    drop(sealed(&machine));
    machine
        .filesystem
        .flip(&machine.files(".wal")[0], IN_THE_THIRD, 0x40);
    let directory = std::path::Path::new(DIRECTORY);
    let recovery = repair(&machine.filesystem, directory, &machine.options).unwrap();
    assert_eq!((recovery.sealed_files, recovery.damage.len()), (0, 1));
    let (_, recovery) = machine.open();
    assert!(recovery.damage[0].known);
}

#[test]
fn a_look_from_outside_tells_of_seals_and_whether_they_agree() {
    let machine = Machine::new();
    let log = sealed(&machine);
    let look = || {
        let directory = std::path::Path::new(DIRECTORY);
        let mut inspector = Inspector::open(machine.shared(), directory, position(1)).unwrap();
        let mut states = Vec::new();
        while let Some(item) = inspector.next_item().unwrap() {
            if let InspectItem::File(report) = item {
                states.push(report.seal);
            }
        }
        states
    };
    let (agrees, disagrees) = (SealState::Agrees, SealState::Disagrees);
    assert_eq!(look(), [agrees, agrees, agrees, agrees, SealState::None]);
    machine.filesystem.flip(&machine.files(".seal")[1], 80, 1);
    machine
        .filesystem
        .flip(&machine.files(".wal")[2], IN_THE_THIRD, 1);
    assert_eq!(
        look(),
        [agrees, disagrees, disagrees, agrees, SealState::None]
    );
    drop(log);
}

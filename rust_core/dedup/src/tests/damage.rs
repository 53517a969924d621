//! Damaged files: reported, never a false duplicate, never a panic.

use penstock_disk::{Crash, Fault, FaultyFilesystem, Operation};

use super::*;
use crate::Probed;
use crate::options::MAX_FAILED_CHECKS;

fn spilled(filesystem: &FaultyFilesystem) -> (Dedup, std::path::PathBuf) {
    let mut dedup = open(filesystem);
    fill(&mut dedup, 0..57);
    maintain(&mut dedup, 57).unwrap();
    let name = names(filesystem, ".run").remove(0);
    (dedup, Path::new("/dedup").join(name))
}

#[test]
fn each_damaged_byte_of_a_run_makes_it_a_missing_run() {
    for offset in [
        0, 9, 4_095, 4_096, 4_110, 4_600, 8_191, 8_192, 8_210, 12_287,
    ] {
        let filesystem = FaultyFilesystem::new();
        let (dedup, path) = spilled(&filesystem);
        drop(dedup);
        filesystem.flip(&path, offset, 4);
        let (mut dedup, report) = open_with(&filesystem, options());
        assert_eq!(report.damaged_runs.len(), 1, "offset {offset}");
        assert!((0..200).all(|number| !dedup.contains(key(number)).unwrap()));
        maintain(&mut dedup, 57).unwrap();
        assert_eq!(names(&filesystem, ".damaged").len(), 1, "kept for a look");
        assert_eq!(names(&filesystem, ".run").len(), 0);
    }
}

#[test]
fn a_block_that_rots_under_an_open_run_is_noticed_by_the_lookup() {
    let filesystem = FaultyFilesystem::new();
    let (mut dedup, path) = spilled(&filesystem);
    assert!(dedup.contains(key(3)).unwrap());
    filesystem.flip(&path, 4_500, 1);
    // What stands there can't be said, and what is in no such block can.
    assert!(dedup.contains(key(3)).is_err());
    assert!(!dedup.contains(key(1_000)).unwrap());
    assert!(dedup.insert(key(3), at(58)).is_err());
    maintain(&mut dedup, 57).unwrap_err();
    assert_eq!((dedup.stats().damaged_runs, dedup.stats().runs), (1, 0));
    // From here on it is as if the run had never been.
    assert_eq!(dedup.insert(key(3), at(58)).unwrap(), Seen::New);
    maintain(&mut dedup, 58).unwrap();
    assert_eq!(names(&filesystem, ".damaged").len(), 1);
}

#[test]
fn a_run_that_the_disk_gives_back_in_the_end_is_kept() {
    let filesystem = FaultyFilesystem::new();
    let (mut dedup, _) = spilled(&filesystem);
    let keys = [Some(key(3))];
    let mut probed = Probed::default();
    filesystem.fail_all(Operation::Read, Fault::Io);
    assert!(dedup.runs().probe(&keys, &mut probed).is_err());
    for _ in 1..MAX_FAILED_CHECKS {
        assert!(dedup.contains(key(3)).is_err());
        maintain(&mut dedup, 57).unwrap_err();
    }
    filesystem.heal();
    assert!(dedup.contains(key(3)).unwrap());
    maintain(&mut dedup, 57).unwrap();
    assert_eq!((dedup.stats().damaged_runs, dedup.stats().runs), (0, 1));
    // What failed before does not count any more, however long ago it was.
    filesystem.fail_nth(Operation::Read, 1, Fault::Io);
    assert!(dedup.contains(key(3)).is_err());
    filesystem.fail_nth(Operation::Read, 1, Fault::Io);
    maintain(&mut dedup, 57).unwrap_err();
    maintain(&mut dedup, 57).unwrap();
    dedup.runs().probe(&keys, &mut probed).unwrap();
    assert!(dedup.insert_all(&keys, &mut probed, at(58)));
    assert_eq!(probed.seen(), [true]);
}

#[test]
fn a_run_that_the_disk_does_not_give_back_is_set_aside() {
    let filesystem = FaultyFilesystem::new();
    let (mut dedup, _) = spilled(&filesystem);
    filesystem.fail_all(Operation::Read, Fault::Io);
    assert!(dedup.contains(key(3)).is_err());
    for _ in 0..MAX_FAILED_CHECKS {
        assert_eq!(dedup.stats().damaged_runs, 0);
        maintain(&mut dedup, 57).unwrap_err();
    }
    assert!(!dedup.contains(key(3)).unwrap());
    maintain(&mut dedup, 57).unwrap();
    assert_eq!((dedup.stats().damaged_runs, dedup.stats().runs), (1, 0));
    assert_eq!(names(&filesystem, ".damaged").len(), 1);
}

#[test]
fn a_merge_that_meets_what_cannot_be_read_waits_for_the_check() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    for number in 0..=4 * 56 {
        dedup.insert(key(number), at(number + 1)).unwrap();
        while let Some(job) = dedup.begin_spill(at(number + 1)) {
            dedup.finish_maintenance(job.run()).unwrap();
        }
    }
    assert_eq!(dedup.stats().runs, 4);
    filesystem.fail_nth(Operation::Read, 2, Fault::Io);
    maintain(&mut dedup, 225).unwrap_err();
    assert_eq!((dedup.stats().damaged_runs, dedup.stats().runs), (0, 4));
    maintain(&mut dedup, 225).unwrap();
    assert_eq!((dedup.stats().damaged_runs, dedup.stats().runs), (0, 1));
    assert!((0..=4 * 56).all(|number| dedup.contains(key(number)).unwrap()));
}

#[test]
fn a_torn_id_log_is_cut_at_its_last_whole_batch() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1)).unwrap();
    persist(&mut dedup, 1).unwrap();
    dedup.insert(key(2), at(2)).unwrap();
    persist(&mut dedup, 2).unwrap();
    let log = Path::new("/dedup").join(names(&filesystem, ".log").remove(0));
    let len = filesystem.len(&log).unwrap();
    filesystem
        .open_read_write(&log)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    filesystem.crash(Crash::KeepUnsynced);
    let (dedup, report) = open_with(&filesystem, options());
    assert_eq!(report.torn_bytes, 39);
    assert!(dedup.contains(key(1)).unwrap() && !dedup.contains(key(2)).unwrap());
}

#[test]
fn damage_inside_an_id_log_is_told_and_the_ids_on_both_sides_are_kept() {
    // A log of three batches of one id, 40 bytes each, behind a header of 24.
    for offset in 0..24 + 3 * 40 {
        let filesystem = FaultyFilesystem::new();
        let mut dedup = open(&filesystem);
        for number in 1..=3 {
            dedup.insert(key(number), at(number)).unwrap();
            persist(&mut dedup, number).unwrap();
        }
        drop(dedup);
        let name = names(&filesystem, ".log").remove(0);
        filesystem.flip(&Path::new("/dedup").join(&name), offset, 0x10);
        let (dedup, report) = open_with(&filesystem, options());
        let lost = match offset {
            0..24 => None,
            _ => Some((offset - 24) / 40 + 1),
        };
        for number in 1..=3 {
            let there = dedup.contains(key(number)).unwrap();
            assert_eq!(there, lost != Some(number), "offset {offset}");
        }
        let told: Vec<_> = report
            .damaged_logs
            .iter()
            .map(|damage| (damage.file.as_str(), damage.first_byte, damage.last_byte))
            .collect();
        match lost {
            Some(1) => assert_eq!(told, [(name.as_str(), 24, 63)]),
            Some(2) => assert_eq!(told, [(name.as_str(), 64, 103)]),
            // Nothing stands behind the third: as if it had been torn.
            Some(_) => assert_eq!((told.len(), report.torn_bytes), (0, 40)),
            None => assert_eq!((told.len(), report.torn_bytes), (0, 0)),
        }
    }
}

#[test]
fn a_damaged_secret_is_an_error() {
    let filesystem = FaultyFilesystem::new();
    drop(open(&filesystem));
    filesystem.flip(Path::new("/dedup/secret"), 10, 1);
    assert!(matches!(
        try_open(&filesystem, options()),
        Err(DedupError::Secret { .. })
    ));
}

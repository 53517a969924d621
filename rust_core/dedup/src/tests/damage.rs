//! Damaged files: reported, never a false duplicate, never a panic.

use penstock_disk::{Crash, FaultyFilesystem};

use super::*;

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
        assert!((0..200).all(|number| !dedup.contains(key(number))));
        maintain(&mut dedup, 57).unwrap();
        assert_eq!(names(&filesystem, ".damaged").len(), 1, "kept for a look");
        assert_eq!(names(&filesystem, ".run").len(), 0);
    }
}

#[test]
fn a_block_that_rots_under_an_open_run_is_noticed_by_the_lookup() {
    let filesystem = FaultyFilesystem::new();
    let (mut dedup, path) = spilled(&filesystem);
    assert!(dedup.contains(key(3)));
    filesystem.flip(&path, 4_500, 1);
    assert!(!dedup.contains(key(3)));
    maintain(&mut dedup, 57).unwrap();
    assert_eq!((dedup.stats().damaged_runs, dedup.stats().runs), (1, 0));
}

#[test]
fn a_torn_id_log_is_cut_at_its_last_whole_batch() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1));
    persist(&mut dedup, 1).unwrap();
    dedup.insert(key(2), at(2));
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
    assert!(dedup.contains(key(1)) && !dedup.contains(key(2)));
}

#[test]
fn damage_inside_an_id_log_is_told_and_the_ids_on_both_sides_are_kept() {
    // A log of three batches of one id, 40 bytes each, behind a header of 24.
    for offset in 0..24 + 3 * 40 {
        let filesystem = FaultyFilesystem::new();
        let mut dedup = open(&filesystem);
        for number in 1..=3 {
            dedup.insert(key(number), at(number));
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
            let there = dedup.contains(key(number));
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

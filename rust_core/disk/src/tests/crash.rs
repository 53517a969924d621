//! What a crash of the faulty file system leaves.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::{Crash, Fault, FaultyFilesystem, File, Filesystem, Operation};

const NAME: &str = "/file";

fn synced_file(filesystem: &FaultyFilesystem, bytes: &[u8]) -> Arc<dyn File> {
    let file = filesystem.create_new(Path::new(NAME)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    filesystem.sync_dir(Path::new("/")).unwrap();
    file
}

fn contents(filesystem: &FaultyFilesystem, path: &str) -> Vec<u8> {
    let file = filesystem.open_read(Path::new(path)).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn unsynced_writes_are_lost_and_synced_ones_are_not() {
    let filesystem = FaultyFilesystem::new();
    let file = synced_file(&filesystem, b"synced");
    file.write_all_at(b"UN", 0).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(contents(&filesystem, NAME), b"synced");
}

#[test]
fn a_killed_process_loses_no_write() {
    let filesystem = FaultyFilesystem::new();
    let file = synced_file(&filesystem, b"synced");
    file.write_all_at(b"UN", 0).unwrap();
    filesystem.crash(Crash::KeepUnsynced);
    assert_eq!(contents(&filesystem, NAME), b"UNnced");
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(
        contents(&filesystem, NAME),
        b"synced",
        "the page cache dies with the machine"
    );
}

#[test]
fn a_name_is_lost_without_a_sync_of_its_directory() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new(NAME)).unwrap();
    file.sync_all().unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert!(!filesystem.exists(Path::new(NAME)).unwrap());
}

#[test]
fn a_rename_and_a_removal_are_undone_without_a_sync() {
    let filesystem = FaultyFilesystem::new();
    drop(synced_file(&filesystem, b"1"));
    filesystem
        .rename(Path::new(NAME), Path::new("/other"))
        .unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(contents(&filesystem, NAME), b"1");
    filesystem.remove_file(Path::new(NAME)).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(contents(&filesystem, NAME), b"1");
    filesystem
        .rename(Path::new(NAME), Path::new("/other"))
        .unwrap();
    filesystem.sync_dir(Path::new("/")).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(contents(&filesystem, "/other"), b"1");
    assert!(!filesystem.exists(Path::new(NAME)).unwrap());
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let filesystem = FaultyFilesystem::new();
    let folder = Path::new("/a");
    filesystem.create_dir(folder).unwrap();
    let file = filesystem.create_new(&folder.join("b")).unwrap();
    file.sync_all().unwrap();
    filesystem.sync_dir(folder).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert!(!filesystem.exists(&folder.join("b")).unwrap());
    assert!(filesystem.read_dir(Path::new("/")).unwrap().is_empty());
}

#[test]
fn a_random_crash_is_the_same_for_the_same_seed_and_keeps_parts() {
    let mut partial = 0;
    for seed in 0..50 {
        let run = || {
            let filesystem = FaultyFilesystem::new();
            let file = synced_file(&filesystem, &[1; 4096]);
            file.write_all_at(&[2; 4096], 0).unwrap();
            filesystem.crash(Crash::KeepSome { seed });
            contents(&filesystem, NAME)
        };
        let bytes = run();
        assert_eq!(bytes, run());
        for sector in bytes.chunks(512) {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "whole sectors"
            );
        }
        partial += usize::from(bytes.contains(&1) && bytes.contains(&2));
    }
    assert!(partial > 5);
}

/// The power goes before each step of the second call, and of what was not synced a random part
/// stays. A publish that wrote in place, or renamed before the sync, would leave a mixture.
#[test]
fn publishing_leaves_the_old_or_the_new_bytes_wherever_the_power_is_cut() {
    let (old, new) = (vec![1; 1500], vec![2; 2500]);
    let (mut saw_old, mut saw_new, mut steps) = (false, false, 0);
    for seed in 0..50 {
        for step in 1.. {
            let filesystem = FaultyFilesystem::new();
            let publish =
                |bytes: &[u8]| filesystem.publish(Path::new("/"), OsStr::new("file"), bytes);
            publish(&old).unwrap();
            filesystem.crash_before(step, Crash::KeepSome { seed });
            let done = publish(&new).is_ok();
            filesystem.crash(Crash::LoseUnsynced);
            let found = contents(&filesystem, NAME);
            assert!(found == old || found == new, "seed {seed}, step {step}");
            saw_old |= found == old;
            saw_new |= !done && found == new;
            steps = steps.max(step);
            if done {
                assert_eq!(found, new, "durable on return");
                break;
            }
        }
    }
    assert!(saw_old && saw_new, "both outcomes of a cut were reached");
    assert!(steps > 4, "{steps} steps");
}

/// A killed process leaves a directory whose name is not durable. The next process finds it there,
/// and what it acknowledges must not go with the name at a power cut (WAL-1).
#[test]
fn directories_that_a_killed_process_left_are_made_durable() {
    let deep = Path::new("/a/b/c");
    for step in 1.. {
        let filesystem = FaultyFilesystem::new();
        filesystem.crash_before(step, Crash::KeepUnsynced);
        let done = filesystem.create_dir_synced(deep).is_ok();
        filesystem.heal();
        filesystem.create_dir_synced(deep).unwrap();
        filesystem.crash(Crash::LoseUnsynced);
        assert!(
            filesystem.exists(deep).unwrap(),
            "killed before step {step}"
        );
        if done {
            assert!(step > 6, "two steps a level");
            break;
        }
    }
}

#[test]
fn a_directory_whose_parent_can_not_be_synced_is_not_called_durable() {
    let filesystem = FaultyFilesystem::new();
    filesystem.create_dir(Path::new("/a")).unwrap();
    filesystem.fail_nth(Operation::SyncDir, 1, Fault::Io);
    assert!(filesystem.create_dir_synced(Path::new("/a")).is_err());
}

#[test]
fn a_planned_crash_strikes_before_its_operation_and_ends_the_handles() {
    let filesystem = FaultyFilesystem::new();
    let file = synced_file(&filesystem, b"synced");
    filesystem.crash_before(3, Crash::LoseUnsynced);
    file.write_all_at(b"U", 0).unwrap();
    file.sync_data().unwrap();
    assert!(file.write_all_at(b"X", 1).is_err());
    assert!(file.sync_data().is_err());
    assert!(filesystem.create_new(Path::new("/late")).is_err(), "dead");
    filesystem.heal();
    assert!(file.sync_data().is_err(), "a handle of an earlier life");
    assert_eq!(contents(&filesystem, NAME), b"Uynced");
    filesystem.crash_before(1, Crash::KeepUnsynced);
    filesystem.heal();
    filesystem.sync_dir(Path::new("/")).unwrap();
    // A process that is killed before its sync loses no write.
    let file = filesystem.open_read_write(Path::new(NAME)).unwrap();
    file.write_all_at(b"V", 0).unwrap();
    filesystem.crash_before(1, Crash::KeepUnsynced);
    assert!(file.sync_data().is_err());
    filesystem.heal();
    assert_eq!(contents(&filesystem, NAME), b"Vynced");
}

#[test]
fn handles_and_locks_of_an_earlier_life_are_dead() {
    let filesystem = FaultyFilesystem::new();
    let file = synced_file(&filesystem, b"1");
    let held = filesystem.lock_exclusive(Path::new("/lock")).unwrap();
    filesystem.crash(Crash::KeepUnsynced);
    assert!(file.write_all_at(b"2", 0).is_err());
    assert!(file.sync_data().is_err());
    let again = filesystem.lock_exclusive(Path::new("/lock")).unwrap();
    drop(held);
    assert!(
        filesystem.lock_exclusive(Path::new("/lock")).is_err(),
        "not the old one's to free"
    );
    drop(again);
}
